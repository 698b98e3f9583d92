"""The Wyoming port of a daemon in this process, for tests: events in, events and audio out."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from wyoming.audio import AudioChunk
from wyoming.client import AsyncTcpClient
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop

from tests.e2e.wire import Running, running

TEXT = "Hello there. How are you today?"
STREAM = ["audio-start", "audio-chunk", "audio-stop", "synthesize-stopped"]


@dataclass(slots=True)
class Answer:
    kinds: list[str]
    audio: bytes

    @property
    def order(self) -> list[str]:
        """The kinds, with repeated chunks as one."""
        return [
            kind
            for kind, before in zip(self.kinds, [None, *self.kinds], strict=False)
            if kind != before
        ]


@dataclass(slots=True)
class Home:
    daemon: Running

    @property
    def port(self) -> int:
        doors = self.daemon.daemon.doors
        assert doors is not None
        assert doors.wyoming_port is not None
        return doors.wyoming_port

    async def until_nobody_is_there(self) -> None:
        """Every place was given back."""
        page = self.daemon.daemon.metrics.page
        await self.daemon.until(lambda: b"\nchatterboxd_sessions 0.0" in page())

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncTcpClient]:
        async with AsyncTcpClient("127.0.0.1", self.port) as client:
            yield client


@contextlib.asynccontextmanager
async def home(**changes: Any) -> AsyncIterator[Home]:
    async with running(wyoming="tcp://127.0.0.1:0", **changes) as daemon:
        yield Home(daemon)


async def send(client: AsyncTcpClient, *messages: Any) -> None:
    for message in messages:
        await client.write_event(message.event())


async def answer(client: AsyncTcpClient, last: str) -> Answer:
    """Everything up to the event of that kind, or to the end of the connection."""
    found = Answer([], b"")
    while (event := await client.read_event()) is not None:
        found.kinds.append(event.type)
        if AudioChunk.is_type(event.type):
            part = AudioChunk.from_event(event)
            assert (part.rate, part.width, part.channels) == (24_000, 2, 1)
            found.audio += part.audio
        if event.type == last:
            break
    return found


def streamed(*texts: str) -> list[Any]:
    """As Home Assistant sends it: the whole text once more, for servers that cannot stream."""
    return [
        SynthesizeStart(),
        *(SynthesizeChunk(text=text) for text in texts),
        Synthesize(text="".join(texts)),
        SynthesizeStop(),
    ]
