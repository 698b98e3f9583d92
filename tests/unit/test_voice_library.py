"""VoiceLibrary: who may, limits, owners, lifetime, and what the audit log says of it."""

import asyncio
import errno
import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest

from chatterbox.sine import SineEngine
from daemon.cloned.store import ClonedVoice
from daemon.door.tokens import ANYBODY, Bearer
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
from tests.lone_library import ANNA, BOB, desk


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
