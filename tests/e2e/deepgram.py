"""A daemon and a plain client of Deepgram's sockets, for the tests of Aura and Flux."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.e2e.wire import LONGEST_TEST_S, Running, expect_silence, running, until_closed
from tests.fakes import RecordingEngine

TEXT = "Hello there. How are you today?"
ONE = "How are you today"
"""Without a pause: those are as long at any speed."""
LONG = "This is one long sentence after the other. " * 20
TOKEN = "a-token-of-some-length"
AURA, FLUX = "/v1/speak", "/v2/speak"
PAUSE = bytes(270 * 24 * 2)
"""Before a turn of Aura's that follows on one that is still heard: one sentence after another."""

Body = dict[str, Any]


def slow() -> RecordingEngine:
    return RecordingEngine(samples_per_step=2400, cost_s=0.02)


@dataclass(slots=True)
class Turn:
    """What came up to some message: audio, and the messages around it."""

    audio: bytes = b""
    messages: list[Body] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    """Kinds of message, and `audio` once for each stretch of it."""

    @property
    def last(self) -> Body:
        return self.messages[-1]

    def of(self, kind: str) -> Body:
        found = [message for message in self.messages if message["type"] == kind]
        assert len(found) == 1, f"{kind} came {len(found)} times: {self.order}"
        return found[0]


class Client:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, kind: str, **fields: object) -> None:
        await self.connection.send(json.dumps({"type": kind, **fields}))

    async def speak(self, *texts: str) -> None:
        for text in texts:
            await self.send("Speak", text=text)

    async def interrupt(self, played_ms: int) -> None:
        await self.send("Interrupt", playback_offset={"type": "time_ms", "value": played_ms})

    async def first_audio(self) -> bytes:
        """The next that comes, whatever comes before it."""
        while not isinstance(raw := await self.connection.recv(), bytes):
            pass
        return raw

    async def receive_audio(self, num_bytes: int) -> None:
        """At least so much of it."""
        while num_bytes > 0:
            num_bytes -= len(await self.first_audio())

    async def until(self, kind: str) -> Turn:
        """Everything up to this message."""
        turn = Turn()
        while True:
            raw = await self.connection.recv()
            name = "audio" if isinstance(raw, bytes) else json.loads(raw)["type"]
            if name != "audio" or turn.order[-1:] != ["audio"]:
                turn.order.append(name)
            if isinstance(raw, bytes):
                turn.audio += raw
            else:
                turn.messages.append(json.loads(raw))
            if name == kind:
                return turn

    async def expect_silence(self) -> None:
        await expect_silence(self.connection.recv)

    async def closed(self) -> int | None:
        """The code that the daemon closes with, whatever comes before it."""
        return (await until_closed(self.connection))[0]


@dataclass(slots=True)
class Service:
    daemon: Running

    def url(self, path: str, query: str = "") -> str:
        return f"ws://127.0.0.1:{self.daemon.port}{path}?model=aura-2-helena-en&{query}"

    @contextlib.asynccontextmanager
    async def client(self, path: str, query: str = "", **options: Any) -> AsyncIterator[Client]:
        options = {"open_timeout": LONGEST_TEST_S, **options}
        async with connect(self.url(path, query), compression=None, **options) as connection:
            client = Client(connection)
            greeting = await client.until("Metadata" if path == AURA else "Connected")
            assert greeting.order in (["Metadata"], ["Connected"])
            assert greeting.last["request_id"]
            yield client

    async def refusal(self, url: str, **options: Any) -> tuple[int, str, Body]:
        """Status, what Pipecat shows of it, and the body."""
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, compression=None, **options)
        response = refused.value.response
        body: Body = json.loads(response.body or b"")
        assert {"err_code", "err_msg", "request_id"} == set(body)
        assert response.headers["dg-error"] == body["err_msg"]
        return response.status_code, body["err_code"], dict(response.headers) | body


@contextlib.asynccontextmanager
async def service(
    build: Callable[[], RecordingEngine] | None = None, **changes: Any
) -> AsyncIterator[Service]:
    async with running(build=build, **changes) as daemon:
        yield Service(daemon)
