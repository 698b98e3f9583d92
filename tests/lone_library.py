"""A folder in, a VoiceLibrary in it out, with doubles of all that it talks to."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from chatterbox.api import EngineInfo, VoiceUnfit
from chatterbox.sine import SineEngine
from daemon.cloned.library import NewVoice, VoiceLibrary
from daemon.cloned.worker import Made
from daemon.config import Config
from daemon.door.tokens import Bearer
from daemon.watching.audit_log import AuditLog
from daemon.wire.errors import (
    ClipUnfit,
)
from daemon.wire.voice_messages import VoiceUpload
from tests.fakes import FakeClock

INFO = replace(SineEngine().info, can_clone=True)
ANNA, BOB = Bearer("anna"), Bearer("bob")


@dataclass
class FakeEngine:
    """Which voices an engine would have; takes no file that says UNFIT."""

    voices: dict[str, bytes] = field(default_factory=dict)

    async def add_voice(self, name: str, path: Path) -> None:
        content = await asyncio.to_thread(path.read_bytes)
        if b"UNFIT" in content:
            raise VoiceUnfit(f"{path}: it has 3 channels")
        self.voices[name] = content

    def remove_voice(self, name: str) -> None:
        del self.voices[name]


@dataclass
class FakeMaker:
    """Makes a voice of any clip but one that says SILENT; waits while it is told to."""

    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    num_at_work: int = 0

    def __post_init__(self) -> None:
        self.may_go_on.set()

    async def make(self, clip: Path, out: Path) -> Made:
        self.num_at_work += 1
        assert self.num_at_work == 1, "two at a time"
        try:
            await self.may_go_on.wait()
            content = await asyncio.to_thread(clip.read_bytes)
            if b"SILENT" in content:
                raise ClipUnfit("the clip is silent")
            await asyncio.to_thread(out.write_bytes, b"voice of " + content)
            return Made(seconds=7.5, warnings=("noisy",))
        finally:
            self.num_at_work -= 1

    async def close(self) -> None:
        pass


@dataclass
class Desk:
    """A library, and what it is surrounded by."""

    library: VoiceLibrary
    engine: FakeEngine
    maker: FakeMaker
    clock: FakeClock
    folder: Path
    states: list[tuple[str, int]] = field(default_factory=list)

    def begin(
        self, clip: bytes = b"a clip", *, bearer: Bearer = ANNA, consent: bool = True
    ) -> "asyncio.Task[NewVoice]":
        wish = VoiceUpload(upload="u", name="Me", bytes=len(clip), consent=consent)
        place = self.library.reserve(wish, bearer=bearer, peer="192.0.2.1")
        return self.library.submit(
            place, clip, on_progress=lambda state, ahead: self.states.append((state, ahead))
        )

    async def clone(self, clip: bytes = b"a clip", *, bearer: Bearer = ANNA) -> str:
        return (await self.begin(clip, bearer=bearer)).voice.id

    def names(self, bearer: Bearer = ANNA) -> list[str]:
        return [facts.voice for facts in self.library.facts_of(bearer)]

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "audit").read_text().splitlines()]

    def files(self) -> list[str]:
        state = self.folder / "state"
        return sorted(p.name for p in state.rglob("*") if p.is_file() and p.name != "lock")


@asynccontextmanager
async def desk(
    folder: Path, *, info: EngineInfo = INFO, clock: FakeClock | None = None, **changes: Any
) -> AsyncIterator[Desk]:
    config = Config(**{"state_folder": folder / "state", "audit_file": folder / "audit"} | changes)
    clock = clock or FakeClock()
    engine, maker = FakeEngine(), FakeMaker()
    audit = AuditLog(config.audit_file, clock=clock)
    library = VoiceLibrary(info, config, engine=engine, maker=maker, audit=audit, clock=clock)
    async with asyncio.timeout(10), library.opened():
        yield Desk(library, engine, maker, clock, folder)
