"""A daemon in this process and a plain client of it, for tests that speak over real sockets."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import opuslib_next
import uvloop
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from chatterbox.api import SpeechEngine
from daemon.config import Config
from daemon.opus import PACKET_SAMPLES, PRE_SKIP_SAMPLES
from daemon.server import Daemon
from daemon.wire.protocol import (
    AudioEnd,
    AudioFormat,
    AudioMessage,
    Begin,
    Cancelled,
    Failed,
    Opened,
    ServerMessage,
    parse_server_message,
)
from tests.fakes import RecordingEngine

LONGEST_TEST_S = 60.0
CONFIG = Config(engine="sine", port=0, num_slots=8, ping_s=5.0, grace_s=5.0)

Message = TypeVar("Message")


def run(test: Coroutine[Any, Any, None], *, longest_s: float = LONGEST_TEST_S) -> None:
    """On the event loop that the daemon really uses, and never for ever."""

    async def bounded() -> None:
        async with asyncio.timeout(longest_s):
            await test

    uvloop.run(bounded(), debug=True)


@dataclass(slots=True)
class Heard:
    """Everything that arrived about one context, in order of arrival."""

    messages: list[ServerMessage | AudioMessage] = field(default_factory=list)
    arrived_s: list[float] = field(default_factory=list)

    @property
    def packets(self) -> list[AudioMessage]:
        return self.of(AudioMessage)

    def of(self, kind: type[Message]) -> list[Message]:
        return [message for message in self.messages if isinstance(message, kind)]

    @property
    def end(self) -> AudioEnd:
        last = self.messages[-1]
        assert isinstance(last, AudioEnd), f"it ended with {last}"
        return last

    @property
    def is_over(self) -> bool:
        last = self.messages[-1] if self.messages else None
        return isinstance(last, AudioEnd | Cancelled) or (isinstance(last, Failed) and last.final)

    def samples(self) -> NDArray[np.float32]:
        return decode(self.packets)


class Wire:
    """One session seen from the client's side."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.begin: Begin | None = None
        self.heard: dict[str, Heard] = {}
        self.stray: list[ServerMessage] = []
        self._names: dict[int, str] = {}

    async def send(self, kind: str, context: str | None = None, **fields: object) -> None:
        body = {"type": kind, **fields}
        await self.connection.send(json.dumps(body | ({"context": context} if context else {})))

    async def say(self, context: str, text: str, **settings: object) -> None:
        """Open, write and end a context at once."""
        await self.send("open", context, **settings)
        await self.send("text", context, text=text)
        await self.send("end", context)

    async def receive(self) -> ServerMessage | AudioMessage:
        raw = await self.connection.recv()
        if isinstance(raw, bytes):
            packet = AudioMessage.from_bytes(raw)
            self._note(self._names[packet.number], packet)
            return packet
        message = parse_server_message(raw)
        if isinstance(message, Begin):
            self.begin = message
            return message
        if isinstance(message, Opened):
            self._names[message.number] = message.context
            self.heard[message.context] = Heard()
        context = getattr(message, "context", None)
        if context is None or context not in self.heard:
            self.stray.append(message)
        else:
            self._note(context, message)
        return message

    def _note(self, context: str, message: ServerMessage | AudioMessage) -> None:
        self.heard[context].messages.append(message)
        self.heard[context].arrived_s.append(time.monotonic())

    async def receive_until(self, kind: type[Message]) -> Message:
        while True:
            message = await self.receive()
            if isinstance(message, kind):
                return message

    async def hear(self, context: str) -> Heard:
        """Receive until the context is over."""
        while context not in self.heard or not self.heard[context].is_over:
            await self.receive()
        return self.heard[context]

    async def speak(self, context: str, text: str, **settings: object) -> Heard:
        self.heard.pop(context, None)  # of an earlier bearer of the name
        await self.say(context, text, **settings)
        return await self.hear(context)

    async def close_code(self) -> int | None:
        """Receive until the session is over; the code of the daemon's close, None without one."""
        return (await until_closed(self.connection, self.receive))[0]

    async def expect_silence(self, duration_s: float) -> None:
        await expect_silence(self.receive, duration_s=duration_s)


Receive = Callable[[], Awaitable[object]]


async def expect_silence(receive: Receive, *, duration_s: float = 0.3) -> None:
    """Nothing at all may arrive for so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(duration_s):
            raise AssertionError(f"{await receive()!r} arrived")


async def until_closed(
    connection: ClientConnection, receive: Receive | None = None
) -> tuple[int | None, str]:
    """Receive whatever comes before; code and reason of the daemon's close, None without one."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await (receive or connection.recv)()
    received = connection.protocol.close_rcvd
    return (None, "") if received is None else (received.code, received.reason)


@dataclass(slots=True)
class Running:
    """A daemon that listens in this event loop."""

    daemon: Daemon
    port: int
    engine: RecordingEngine
    task: "asyncio.Task[int]"

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    @contextlib.asynccontextmanager
    async def wire(self, *, receive_buffer: int | None = None) -> AsyncIterator[Wire]:
        """A session whose `begin` has arrived."""
        plug = None
        if receive_buffer is not None:
            plug = socket.socket()
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            plug.connect(("127.0.0.1", self.port))
            plug.setblocking(False)
        async with connect(
            self.url,
            compression=None,
            sock=plug,
            open_timeout=LONGEST_TEST_S,
            close_timeout=1,
        ) as connection:
            wire = Wire(connection)
            await wire.receive_until(Begin)
            yield wire

    async def until(self, holds: Callable[[], bool], *, within_s: float = 30.0) -> None:
        """Wait for something that the daemon does by itself."""
        async with asyncio.timeout(within_s):
            while not holds():  # noqa: ASYNC110 - no event tells of what the test asks for
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(
    config: Config = CONFIG,
    *,
    build: Callable[[], RecordingEngine] | None = None,
    clone_command: Sequence[str] | None = None,
    **changes: Any,
) -> AsyncIterator[Running]:
    """A daemon on a free port, stopped afterwards; its engine must then hold no slot."""
    config = replace(config, **changes)
    engines: list[RecordingEngine] = []

    def build_engine() -> SpeechEngine:
        engines.append(build() if build else RecordingEngine(num_slots=config.num_slots))
        return engines[0]

    daemon = Daemon(config, build_engine, clone_command=clone_command)
    is_listening = asyncio.Event()
    task = asyncio.create_task(daemon.run(on_listening=is_listening.set))
    await is_listening.wait()
    assert daemon.port is not None
    try:
        yield Running(daemon, daemon.port, engines[0], task)
    finally:
        daemon.stop()
        daemon.stop()
        await task


async def native_pcm(daemon: Running, text: str) -> bytes:
    """What a text sounds like by our own protocol: what a dialect's audio is compared with."""
    async with daemon.wire() as wire:
        heard = await wire.speak("a", text, format="pcm_s16le")
        return b"".join(packet.payload for packet in heard.packets)


def decode(packets: Sequence[AudioMessage]) -> NDArray[np.float32]:
    """As section 3 of docs/protocol.md says."""
    decoder = opuslib_next.Decoder(24_000, 1)
    pieces: list[NDArray[np.float32]] = [np.zeros(0, dtype=np.float32)]
    for position, packet in enumerate(packets):
        assert packet.sequence == position
        if packet.format is AudioFormat.PCM_S16LE:
            block = np.frombuffer(packet.payload, dtype="<i2").astype(np.float32) / np.float32(
                32767
            )
            assert block.size == packet.num_samples
        else:
            block = np.frombuffer(
                decoder.decode_float(packet.payload, PACKET_SAMPLES), dtype=np.float32
            )
            block = block[PRE_SKIP_SAMPLES if position == 0 else 0 :][: packet.num_samples]
        pieces.append(block)
    return np.concatenate(pieces)
