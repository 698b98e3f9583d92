"""VoiceDesk: the messages and bytes of one session's clips, without a socket."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daemon.cloned.desk import VoiceDesk
from daemon.wire.errors import BinaryMessage, TooManyUploads, WireError
from daemon.wire.protocol import ServerMessage
from daemon.wire.voice_messages import VoiceAccepted, VoiceReady, VoiceUpload
from tests.lone_library import ANNA, desk


@dataclass
class FakeSession:
    """What a desk said."""

    said: "asyncio.Queue[ServerMessage | WireError]" = field(default_factory=asyncio.Queue)
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    def post(self, message: ServerMessage) -> None:
        self.said.put_nowait(message)

    def post_error(self, error: WireError) -> None:
        self.said.put_nowait(error)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.tasks.add(asyncio.create_task(coroutine))

    async def until(self, kind: type[Any]) -> Any:
        while not isinstance(message := await self.said.get(), kind):
            pass
        return message


@asynccontextmanager
async def front(
    folder: Path, *, longest_upload_s: float, **changes: Any
) -> AsyncIterator[tuple[VoiceDesk, FakeSession]]:
    async with desk(folder, **changes) as one:
        session = FakeSession()
        yield (
            VoiceDesk(
                one.library,
                bearer=ANNA,
                peer="192.0.2.1",
                longest_upload_s=longest_upload_s,
                owner=session,
                spawn=session.spawn,
            ),
            session,
        )


def wish(num_bytes: int, upload: str = "u") -> VoiceUpload:
    return VoiceUpload(upload=upload, name="x", bytes=num_bytes, consent=True)


def test_a_late_clip_gives_its_place_back_and_the_next_is_whole(tmp_path: Path) -> None:
    """What is still on its way must not become the start of the next clip."""

    async def scenario() -> None:
        changes = {"longest_upload_s": 0.0, "max_uploads": 1}
        async with front(tmp_path, **changes) as (counter, session):
            counter.take(wish(10))
            with pytest.raises(TooManyUploads, match="still being sent"):
                counter.take(wish(10, "v"))
            counter.take_bytes(b"12345")
            late = await session.until(WireError)
            assert (late.code, late.upload) == ("clip_late", "u")
            counter.take_bytes(b"678")
            # Without a pause in between: this one is not late.
            counter.take(wish(3, "v"))
            counter.take_bytes(b"abc")
            assert (await session.until(VoiceAccepted)).upload == "v"
            assert (await session.until(VoiceReady)).upload == "v"
        (voice,) = (tmp_path / "state" / "voices").glob("*.safetensors")
        assert voice.read_bytes() == b"voice of abc"

    asyncio.run(scenario())


def test_more_than_was_on_its_way_belongs_to_no_upload(tmp_path: Path) -> None:
    """Else a clip that was given up would be leave to send bytes for ever."""

    async def scenario() -> None:
        async with front(tmp_path, longest_upload_s=0.0) as (counter, session):
            counter.take(wish(10))
            counter.take_bytes(b"12345")
            await session.until(WireError)
            with pytest.raises(BinaryMessage):
                counter.take_bytes(b"678901")
            counter.take_bytes(b"67890")
            with pytest.raises(BinaryMessage):
                counter.take_bytes(b"1")

    asyncio.run(scenario())
