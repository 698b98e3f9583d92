"""A client of ElevenLabs' sockets, for the tests of the dialect; what it heard of each context."""

import base64
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.e2e.wire import LONGEST_TEST_S, Running, expect_silence, running, until_closed

TEXT = "Hello there. How are you today?"
LONG = "All work and no play makes Jack a dull boy, and so it goes on and on. " * 20
PCM_BYTES_A_MS = 48


@dataclass(slots=True)
class Heard:
    """What came for one context."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def parts(self) -> list[bytes]:
        """The audio of each message."""
        return [base64.b64decode(item.get("audio") or "") for item in self.messages]

    @property
    def audio(self) -> bytes:
        return b"".join(self.parts)

    @property
    def text(self) -> str:
        return "".join(
            char
            for item in self.messages
            for char in (item.get("alignment") or {"chars": ""})["chars"]
        )

    @property
    def aligned_ms(self) -> int:
        """As Pipecat adds it up."""
        tables = [item["alignment"] for item in self.messages if item.get("alignment")]
        return sum(item["charStartTimesMs"][-1] + item["charDurationsMs"][-1] for item in tables)

    @property
    def num_finals(self) -> int:
        return sum(item.get("isFinal") is True for item in self.messages)

    @property
    def errors(self) -> list[str]:
        return [item["error"] for item in self.messages if "error" in item]


class Socket:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.heard: dict[str | None, Heard] = {}

    async def send(self, context: str | None = None, **body: object) -> None:
        named = body if context is None else {"context_id": context, **body}
        await self.connection.send(json.dumps(named))

    async def open(self, context: str, *texts: str) -> None:
        await self.send(context, text=" ", voice_settings={"stability": 0.5})
        for text in texts:
            await self.send(context, text=text)

    async def receive(self) -> dict[str, Any]:
        message = json.loads(await self.connection.recv())
        assert isinstance(message, dict)
        self.heard.setdefault(message.get("contextId"), Heard()).messages.append(message)
        return message

    async def hear(self, context: str | None) -> Heard:
        """Until its end."""
        while context not in self.heard or not self.heard[context].num_finals:
            await self.receive()
        return self.heard[context]

    async def say(self, context: str, text: str) -> Heard:
        await self.open(context, text)
        await self.send(context, text="", flush=True)
        await self.send(context, close_context=True)
        return await self.hear(context)

    async def closed(self) -> tuple[int | None, str]:
        """Receive until the socket is closed."""
        return await until_closed(self.connection, self.receive)

    async def expect_silence(self) -> None:
        await expect_silence(self.receive)


@contextlib.asynccontextmanager
async def dialled(
    daemon: Running, *, kind: str = "multi-stream-input", voice: str = "sine", **query: str
) -> AsyncIterator[Socket]:
    fields = "&".join(f"{name}={value}" for name, value in query.items())
    url = f"{daemon.url}v1/text-to-speech/{voice}/{kind}?{fields}"
    async with connect(
        url,
        compression=None,
        open_timeout=LONGEST_TEST_S,
        close_timeout=1,
        max_size=2**24,
    ) as connection:
        yield Socket(connection)


@contextlib.asynccontextmanager
async def dialling(**changes: Any) -> AsyncIterator[tuple[Running, Socket]]:
    async with running(**changes) as daemon, dialled(daemon, output_format="pcm_24000") as wire:
        yield daemon, wire
