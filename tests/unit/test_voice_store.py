"""VoiceStore, under a library: what is there after a restart, and what is not left behind."""

import asyncio
import errno
import fcntl
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.config import ConfigError
from daemon.wire.errors import (
    CloningFailed,
)
from tests.fakes import FakeClock
from tests.lone_library import ANNA, BOB, INFO, desk


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
