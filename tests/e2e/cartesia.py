"""A daemon and a plain client of Cartesia's socket, for its tests."""

import base64
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
PATH = "/tts/websocket?cartesia_version=2025-04-16"
USUAL = {
    "model_id": "sonic-3",
    "voice": {"mode": "id", "id": "f786b574-daa5-4673-aa0c-cbe3e8534c02"},
    "output_format": {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24_000},
    "language": "en",
    "add_timestamps": True,
}
"""What LiveKit's plugin sends with each text."""

Body = dict[str, Any]


def slow() -> RecordingEngine:
    return RecordingEngine(samples_per_step=2400, cost_s=0.02)


@dataclass(slots=True)
class Heard:
    """What came about one context."""

    messages: list[Body] = field(default_factory=list)

    @property
    def order(self) -> list[str]:
        """Kinds of message, those of the same kind in a row as one."""
        kinds = [message["type"] for message in self.messages]
        return [kind for kind, before in zip(kinds, [None, *kinds], strict=False) if kind != before]

    @property
    def audio(self) -> bytes:
        return b"".join(base64.b64decode(message["data"]) for message in self.of("chunk"))

    @property
    def words(self) -> list[tuple[str, float, float]]:
        found: list[tuple[str, float, float]] = []
        for message in self.of("timestamps"):
            times = message["word_timestamps"]
            found += zip(times["words"], times["start"], times["end"], strict=True)
        return found

    def of(self, kind: str) -> list[Body]:
        return [message for message in self.messages if message["type"] == kind]


class Client:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.heard: dict[str | None, Heard] = {}

    async def say(self, context: str, text: str, *, more: bool = True, **changes: object) -> None:
        body = {"context_id": context, "transcript": text, "continue": more, **USUAL, **changes}
        await self.connection.send(json.dumps(body))

    async def cancel(self, context: str) -> None:
        await self.connection.send(json.dumps({"context_id": context, "cancel": True}))

    async def receive(self) -> Body:
        raw = await self.connection.recv()
        assert isinstance(raw, str), "Cartesia's clients read no binary messages"
        message: Body = json.loads(raw)
        self.heard.setdefault(message["context_id"], Heard()).messages.append(message)
        return message

    async def until(self, kind: str, context: str | None) -> Body:
        while True:
            message = await self.receive()
            if message["type"] == kind and message["context_id"] == context:
                return message

    async def hear(self, context: str) -> Heard:
        """Up to its end; what came of others meanwhile is kept for them."""
        while not (context in self.heard and self.heard[context].order[-1:] == ["done"]):
            await self.receive()
        heard = self.heard.pop(context)
        assert len(heard.of("done")) == 1
        return heard

    async def expect_silence(self) -> None:
        await expect_silence(self.receive)

    async def closed(self) -> int | None:
        return (await until_closed(self.connection))[0]


@dataclass(slots=True)
class Service:
    daemon: Running

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.daemon.port}{PATH}"

    @contextlib.asynccontextmanager
    async def client(self, query: str = "", **options: Any) -> AsyncIterator[Client]:
        options = {"open_timeout": LONGEST_TEST_S, **options}
        async with connect(self.url + query, compression=None, **options) as connection:
            yield Client(connection)

    async def refusal(self, query: str = "", **options: Any) -> tuple[int, Body]:
        with pytest.raises(InvalidStatus) as refused:
            await connect(self.url + query, compression=None, **options)
        response = refused.value.response
        body: Body = json.loads(response.body or b"")
        assert body["status_code"] == response.status_code
        assert {"error_code", "title", "message", "request_id"} < set(body)
        return response.status_code, dict(response.headers) | body


@contextlib.asynccontextmanager
async def service(
    build: Callable[[], RecordingEngine] | None = None, **changes: Any
) -> AsyncIterator[Service]:
    async with running(build=build, **changes) as daemon:
        yield Service(daemon)
