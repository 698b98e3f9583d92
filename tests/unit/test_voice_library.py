"""VoiceLibrary: who may, limits, owners, lifetime, restarts, and what the audit log says of it."""

import asyncio
import errno
import fcntl
import hashlib
import json
import logging
import os
import resource
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from chatterbox.api import EngineInfo, VoiceUnfit
from chatterbox.sine import SineEngine
from daemon.cloned.library import NewVoice, VoiceLibrary
from daemon.cloned.store import ClonedVoice
from daemon.cloned.worker import Made
from daemon.config import Config, ConfigError
from daemon.door.tokens import ANYBODY, Bearer
from daemon.watching.audit_log import AuditLog
from daemon.wire.errors import (
    ClipTooLarge,
    ClipUnfit,
    CloningFailed,
    CloningRefused,
    NoConsent,
    TooManyUploads,
    TooManyVoices,
    UnknownVoice,
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


def test_a_clip_becomes_a_voice_of_its_owner(tmp_path: Path) -> None:
    """And of nobody else: not in the list, not to be deleted, not to be guessed."""

    async def scenario() -> None:
        async with desk(tmp_path) as one:
            new = await one.begin(b"anna's clip")
            voice = new.voice.id
            assert one.engine.voices == {voice: b"voice of anna's clip"}
            assert new.warnings == ("noisy",)
            assert one.names(ANNA) == [voice]
            assert one.names(BOB) == one.names(ANYBODY) == []
            with pytest.raises(UnknownVoice):
                one.library.delete(voice, bearer=BOB, peer="192.0.2.2")
            assert voice in one.engine.voices
            other = await one.clone(b"anna's clip", bearer=BOB)
            assert len(other) == len(voice) == 26
            assert other != voice, "the same clip must not give away that another has it"
            assert one.files() == sorted(
                f"{name}{end}" for name in (voice, other) for end in (".json", ".safetensors")
            ), "the clip is thrown away"

    asyncio.run(scenario())


def test_the_audit_log_has_a_line_for_all_that_matters(tmp_path: Path) -> None:
    """Who made a voice of whose clip, and whether they said that they may; but no sound, no text
    that could be one."""

    async def scenario() -> None:
        async with desk(tmp_path) as one:
            voice = await one.clone(b"anna's clip")
            with pytest.raises(ClipUnfit):
                await one.clone(b"SILENT")
            await one.library.delete(voice, bearer=ANNA, peer="192.0.2.9")
            await one.clone()
            one.clock.pass_s(721 * 3600)
            await one.library.expire()
            made, failed, deleted, _, expired = one.audit()
        assert made == {
            "time": "1970-01-01T00:16:40.000+00:00",
            "event": "voice_uploaded",
            "voice": voice,
            "token": "anna",
            "peer": "192.0.2.1",
            "consent": True,
            "sha256": hashlib.sha256(b"anna's clip").hexdigest(),
            "bytes": 11,
            "seconds": 7.5,
            "name": "Me",
        }
        assert (failed["event"], failed["code"]) == ("upload_failed", "clip_unfit")
        assert (deleted["event"], deleted["peer"]) == ("voice_deleted", "192.0.2.9")
        assert deleted["sha256"] == made["sha256"]
        assert (expired["event"], expired["token"]) == ("voice_expired", "anna")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("bearer", "changes", "why"),
    [
        (ANYBODY, {}, "show a token"),
        (ANNA, {"cloning": "nobody"}, "takes no clips"),
        (Bearer("anna", flags={"clone": False}), {}, "this token may not"),
        (Bearer("anna", flags={"clone": False}), {"cloning": "all"}, "this token may not"),
    ],
)
def test_who_may_not_upload_is_told_why(
    tmp_path: Path, bearer: Bearer, changes: dict[str, Any], why: str
) -> None:
    """And `begin` does not offer it to them."""

    async def scenario() -> None:
        async with desk(tmp_path, **changes) as one:
            assert one.library.terms_for(bearer) is None
            with pytest.raises(CloningRefused, match=why):
                one.begin(bearer=bearer)

    asyncio.run(scenario())


def test_all_includes_those_without_a_token(tmp_path: Path) -> None:
    """Off unless an operator says so; then strangers share their voices, as the help says."""

    async def scenario() -> None:
        async with desk(tmp_path, cloning="all", voice_hours=0.0) as one:
            terms = one.library.terms_for(ANYBODY)
            assert terms is not None
            assert terms.lifetime_s is None
            voice = await one.clone(bearer=ANYBODY)
            assert one.names(ANYBODY) == [voice]

    asyncio.run(scenario())


def test_a_model_that_cannot_listen_says_so_and_leaves_the_disk_alone(tmp_path: Path) -> None:
    """The bundled voice has no models for clips: an upload would only fail later."""

    async def scenario() -> None:
        async with desk(tmp_path, info=SineEngine().info, cloning="all") as one:
            assert one.library.terms_for(ANNA) is None
            with pytest.raises(CloningRefused, match="model sine cannot"):
                one.begin()

    asyncio.run(scenario())
    assert not (tmp_path / "state").exists()


def test_without_consent_nothing_is_taken(tmp_path: Path) -> None:
    """It is the one question that only the client can answer."""

    async def scenario() -> None:
        async with desk(tmp_path, max_uploads=1) as one:
            with pytest.raises(NoConsent):
                one.begin(consent=False)
            assert await one.clone(), "no place was used up"

    asyncio.run(scenario())


def test_limits_count_what_is_coming(tmp_path: Path) -> None:
    """Twenty uploads at once must not give twenty voices where two may be."""

    async def scenario() -> None:
        limits: dict[str, Any] = {"max_voices_per_token": 2, "max_voices": 3, "max_uploads": 3}
        async with desk(tmp_path, max_clip_bytes=1024, **limits) as one:
            with pytest.raises(ClipTooLarge):
                one.begin(b"x" * 1025)
            one.maker.may_go_on.clear()
            first, second = one.begin(), one.begin()
            with pytest.raises(TooManyVoices, match="2 voices of this token"):
                one.begin()
            third = one.begin(bearer=BOB)
            with pytest.raises(TooManyVoices, match="as many voices"):
                one.begin(bearer=Bearer("carol"))
            one.maker.may_go_on.set()
            await asyncio.gather(first, second, third)
            with pytest.raises(TooManyVoices, match="as many voices"):
                one.begin(bearer=BOB)
            await one.library.delete(first.result().voice.id, bearer=ANNA, peer="")
            await one.clone(bearer=BOB)

    asyncio.run(scenario())


def test_nobody_takes_all_places_for_clips(tmp_path: Path) -> None:
    """Who announces clip after clip, and sends none, kept everybody else from having a voice."""

    async def scenario() -> None:
        async with desk(tmp_path, max_uploads=8) as one:
            one.maker.may_go_on.clear()
            for name, num_places in (("anna", 4), ("bob", 2), ("carol", 1), ("dora", 1)):
                for _ in range(num_places):
                    one.begin(bearer=Bearer(name))
                with pytest.raises(TooManyUploads):
                    one.begin(bearer=Bearer(name))
        async with desk(tmp_path, max_uploads=1) as one:
            assert await one.clone()

    asyncio.run(scenario())


def test_one_at_a_time_in_order(tmp_path: Path) -> None:
    """Who waits is told behind how many."""

    async def scenario() -> None:
        async with desk(tmp_path) as one:
            one.maker.may_go_on.clear()
            tasks = []
            for number in range(3):
                tasks.append(one.begin(b"clip %d" % number))
                while len(one.states) <= number:  # noqa: ASYNC110 - the library's own steps
                    await asyncio.sleep(0)
            assert one.states == [("making", 0), ("waiting", 1), ("waiting", 2)]
            one.maker.may_go_on.set()
            voices = [(await task).voice.id for task in tasks]
            assert one.names() == voices
            assert one.states[3:] == [("making", 0), ("making", 0)]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("clip", "error"), [(b"SILENT", ClipUnfit), (b"UNFIT for the engine", CloningFailed)]
)
def test_a_failed_upload_leaves_nothing(
    tmp_path: Path, clip: bytes, error: type[Exception]
) -> None:
    """Neither a file, nor a voice, nor a place that stays taken."""

    async def scenario() -> None:
        async with desk(tmp_path, max_uploads=1) as one:
            for _ in range(2):
                with pytest.raises(error) as caught:
                    await one.clone(clip)
                assert "/" not in str(caught.value), "no path of ours is a client's business"
            assert not one.files()
            assert not one.engine.voices
            assert await one.clone()

    asyncio.run(scenario())


def test_what_cannot_be_noted_does_not_exist(tmp_path: Path) -> None:
    """A full disk, or a log that was taken away, must not give voices that nobody knows of."""

    async def scenario() -> None:
        async with desk(tmp_path) as one:
            (tmp_path / "audit").unlink()
            (tmp_path / "audit").mkdir()
            with pytest.raises(CloningFailed, match="could not keep"):
                await one.clone()
            assert not one.engine.voices
            assert not one.files()
            assert one.names() == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("work", "events"),
    [("write_clip", ["upload_failed"]), ("keep", ["voice_uploaded", "upload_failed"])],
)
def test_an_upload_that_the_disk_refuses_has_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str, events: list[str]
) -> None:
    """Its last line says what became of it: a voice that the log knows and nobody finds would look
    like one that was hidden."""

    async def scenario() -> None:
        async with desk(tmp_path) as one:

            def fail(*_of_any_kind: object) -> None:
                raise OSError(errno.ENOSPC, "no space left")

            with monkeypatch.context() as patch:
                patch.setattr(one.library._store, work, fail)
                with pytest.raises(CloningFailed, match="could not keep"):
                    await one.clone()
            assert [line["event"] for line in one.audit()] == events
            assert one.audit()[-1]["code"] == "cloning_failed"
            assert not one.engine.voices
            assert not one.files()

    asyncio.run(scenario())


def test_an_engine_that_fails_otherwise_costs_the_upload_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised beside `VoiceUnfit` ended the session, and all that it was speaking."""

    async def scenario() -> None:
        async with desk(tmp_path, max_uploads=1) as one:

            async def fail(_name: str, _path: Path) -> None:
                raise RuntimeError("an index out of range")

            with monkeypatch.context() as patch:
                patch.setattr(one.engine, "add_voice", fail)
                with pytest.raises(CloningFailed) as caught:
                    await one.clone()
            assert "index" not in str(caught.value)
            assert [line["event"] for line in one.audit()] == ["upload_failed"]
            assert await one.clone()

    asyncio.run(scenario())


def test_a_stop_tells_the_audit_log_what_was_given_up(tmp_path: Path) -> None:
    """One clip is being made, one waits: both were uploaded, and no voice came of them."""

    async def scenario() -> None:
        async with desk(tmp_path) as one:
            one.maker.may_go_on.clear()
            tasks = [one.begin(), one.begin(b"another", bearer=BOB)]
            while len(one.states) < 2:  # noqa: ASYNC110 - the library's own steps
                await asyncio.sleep(0)
        assert all(task.cancelled() for task in tasks)
        told = {(line["event"], line["code"], line["token"]) for line in one.audit()}
        assert told == {("upload_failed", "draining", name) for name in ("anna", "bob")}
        assert not one.files()

    asyncio.run(scenario())


def test_a_stop_does_not_part_a_voice_from_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the line and the record is the one moment in which the log could know a voice that
    the disk does not."""

    async def scenario() -> str:
        async with desk(tmp_path) as one:
            is_noted, may_go_on = threading.Event(), threading.Event()
            store = one.library._store
            assert store is not None
            keep = store.keep

            def keep_later(voice: ClonedVoice, made: Path) -> None:
                is_noted.set()
                assert may_go_on.wait(10)
                keep(voice, made)

            monkeypatch.setattr(store, "keep", keep_later)
            making = one.begin()
            await asyncio.to_thread(is_noted.wait, 10)
            making.cancel()
            await asyncio.sleep(0)
            may_go_on.set()
            return (await making).voice.id

    voice = asyncio.run(scenario())

    async def later() -> None:
        async with desk(tmp_path) as one:
            assert [line["event"] for line in one.audit()] == ["voice_uploaded"]
            assert one.names() == [voice]

    asyncio.run(later())


def test_a_line_that_a_full_disk_cuts_is_an_error_and_spoils_no_other(tmp_path: Path) -> None:
    """A write of half a line succeeds; the voice would have been made, and its line unreadable."""
    log = AuditLog(tmp_path / "audit", clock=FakeClock())
    log.note("first")
    size = (tmp_path / "audit").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            log.note("second")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.note("third")
    first, cut, third = (tmp_path / "audit").read_text().splitlines()
    assert [json.loads(line)["event"] for line in (first, third)] == ["first", "third"]
    assert len(cut) == 20


def test_an_audit_file_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    """Better at the start than at the first upload, months later."""
    with pytest.raises(ConfigError, match="audit_file"):
        AuditLog(tmp_path / "nowhere" / "audit")


def test_without_a_file_audit_lines_are_in_the_log_however_quiet_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`log_level = "error"` must not be the end of the audit."""
    logging.getLogger().setLevel(logging.ERROR)
    try:
        AuditLog(None, clock=FakeClock()).note("voice_uploaded", voice="v-1")
    finally:
        logging.getLogger().setLevel(logging.WARNING)
    (record,) = caplog.records
    assert json.loads(record.getMessage())["voice"] == "v-1"


def test_voices_outlive_a_restart_until_their_time_is_over(tmp_path: Path) -> None:
    """A restart must neither lose a voice nor make it live longer."""
    clock = FakeClock()

    async def first() -> tuple[str, str]:
        async with desk(tmp_path, clock=clock, voice_hours=2.0) as one:
            old = await one.clone()
            clock.pass_s(3600)
            return old, await one.clone(b"other", bearer=BOB)

    async def second(old: str, new: str) -> None:
        async with desk(tmp_path, clock=clock) as one:
            assert one.names(ANNA) == []
            assert one.names(BOB) == [new]
            assert one.engine.voices == {new: b"voice of other"}
            assert one.files() == [f"{new}.json", f"{new}.safetensors"]
            assert one.audit()[-1]["event"] == "voice_expired"
            assert one.audit()[-1]["voice"] == old

    old, new = asyncio.run(first())
    clock.pass_s(3600)
    asyncio.run(second(old, new))


def test_a_voice_expires_to_the_second(tmp_path: Path) -> None:
    """Not at the next sweep: what its owner was told holds."""

    async def scenario() -> None:
        async with desk(tmp_path, voice_hours=1.0) as one:
            voice = await one.clone()
            assert one.library.facts_of(ANNA)[0].expires_in_s == 3600
            one.clock.pass_s(3600)
            assert one.names() == []
            with pytest.raises(UnknownVoice):
                one.library.delete(voice, bearer=ANNA, peer="")
            await one.library.expire()
            assert not one.engine.voices
            assert not one.files()

    asyncio.run(scenario())


def test_what_is_broken_or_another_models_is_not_loaded(tmp_path: Path) -> None:
    """A daemon that was killed in mid-write must start again, and a voice for another model would
    sound wrong, or not at all."""

    async def scenario() -> None:
        async with desk(tmp_path) as one:
            voices = [await one.clone(b"%d" % number) for number in range(4)]
        folder = tmp_path / "state" / "voices"
        (folder / f"{voices[0]}.safetensors").unlink()
        (folder / f"{voices[1]}.json").write_text("{")
        (folder / f"{voices[2]}.safetensors").write_text("UNFIT")
        (tmp_path / "state" / "work" / "left.clip").write_text("somebody's clip")
        async with desk(tmp_path) as one:
            assert list(one.engine.voices) == [voices[3]] == one.names()
            kept = [f"{name}{end}" for name in voices[2:] for end in (".json", ".safetensors")]
            assert one.files() == sorted(kept)
        async with desk(tmp_path, info=replace(INFO, model="turbo")) as one:
            assert one.names() == []
        async with desk(tmp_path) as one:
            assert one.names() == [voices[3]], "it was kept for the day its model is back"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "facts",
    [{"expires_s": "soon"}, {"expires_s": float("nan")}, {"seconds": None}, {"name": ["x"]}, {}],
)
def test_a_record_that_says_nonsense_is_no_record(tmp_path: Path, facts: dict[str, Any]) -> None:
    """Wrong kinds of values ended the start of the daemon, or its answer to a list of voices."""

    async def scenario() -> None:
        async with desk(tmp_path) as one:
            kept, broken = await one.clone(), await one.clone()
        path = tmp_path / "state" / "voices" / f"{broken}.json"
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | facts) if facts else "[" * 100_000)
        async with desk(tmp_path) as one:
            assert one.names() == [kept]
            assert one.files() == [f"{kept}.json", f"{kept}.safetensors"]

    asyncio.run(scenario())


def test_half_a_record_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk was full for the record, not for the voice."""

    async def scenario() -> None:
        async with desk(tmp_path) as one:
            write = Path.write_text

            def fill_up(path: Path, text: str) -> int:
                write(path, text[:10])
                raise OSError(errno.ENOSPC, "no space left")

            with monkeypatch.context() as patch:
                patch.setattr(Path, "write_text", fill_up)
                with pytest.raises(CloningFailed):
                    await one.clone()
            assert not one.files()

    asyncio.run(scenario())


def test_a_folder_belongs_to_one_daemon(tmp_path: Path) -> None:
    """A second one would throw away the clips that the first is working on."""

    async def scenario() -> None:
        async with desk(tmp_path) as one:
            with pytest.raises(ConfigError, match="another daemon's"):
                async with desk(tmp_path):
                    pass
            await one.clone()

    asyncio.run(scenario())


def test_without_a_folder_voices_end_with_the_daemon(tmp_path: Path) -> None:
    """Nothing of anybody's voice is left in /tmp."""

    async def scenario() -> Path:
        async with desk(tmp_path, state_folder=None) as one:
            voice = await one.clone()
            store = one.library._store
            assert store is not None
            assert await asyncio.to_thread(store.path(voice).is_file)
            return store.path(voice)

    path = asyncio.run(scenario())
    assert not path.parent.parent.exists()


def test_what_a_killed_daemon_left_in_tmp_goes_with_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's clip would lie there for ever. A living daemon's folder is left alone, and so is
    whatever else has such a name."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    prefix = "chatterboxd-voices-"
    for name in ("killed", "young", "living", "other"):
        (tmp_path / (prefix + name) / "work").mkdir(parents=True)
        (tmp_path / (prefix + name) / "work" / "v-1.clip").write_text("somebody's clip")
        if name != "other":
            (tmp_path / (prefix + name) / "lock").touch()
    for name in ("killed", "living"):
        os.utime(tmp_path / (prefix + name) / "lock", (1, 1))
    (tmp_path / (prefix + "link")).symlink_to(tmp_path / (prefix + "young"))

    async def scenario() -> None:
        async with desk(tmp_path, state_folder=None):
            names = await asyncio.to_thread(os.listdir, tmp_path)
            found = {name.removeprefix(prefix) for name in names}
            assert found > {"young", "living", "other", "link"}
            assert "killed" not in found

    with (tmp_path / (prefix + "living") / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        asyncio.run(scenario())


def test_files_that_cannot_be_deleted_are_told_and_the_voice_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wanted it gone must not believe that it is; nobody gets it nevertheless, and what
    looks after old voices goes on."""

    async def scenario() -> None:
        async with desk(tmp_path) as one:
            voice = await one.clone()
            store = one.library._store
            assert store is not None

            def fail(_voice: str) -> None:
                raise PermissionError("read-only file system")

            with monkeypatch.context() as patch:
                patch.setattr(store, "delete", fail)
                with pytest.raises(CloningFailed, match="still stored"):
                    await one.library.delete(voice, bearer=ANNA, peer="")
            assert one.names() == []
            assert not one.engine.voices
            assert await one.clone()

    asyncio.run(scenario())
