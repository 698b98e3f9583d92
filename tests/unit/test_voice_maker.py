"""VoiceMaker: the child process that hears clips, with real processes and a program of our own."""

import asyncio
import logging
import os
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daemon.cloned.worker import Made, VoiceMaker
from daemon.config import Config
from daemon.wire.errors import ClipUnfit, CloningFailed

COMMAND = (sys.executable, "-m", "tests.fake_listener")


def is_running(pid: int | None) -> bool:
    return pid is not None and Path(f"/proc/{pid}").exists()


@dataclass
class Bench:
    """A maker and a folder for it to work in."""

    maker: VoiceMaker
    folder: Path

    async def make(self, content: str) -> tuple[Made, bytes]:
        clip, out = self.folder / "clip", self.folder / "voice"
        clip.write_text(content)
        out.unlink(missing_ok=True)
        made = await self.maker.make(clip, out)
        return made, out.read_bytes()


@asynccontextmanager
async def bench(
    folder: Path,
    *,
    command: tuple[str, ...] = COMMAND,
    environ: dict[str, str] | None = None,
    **changes: Any,
) -> AsyncIterator[Bench]:
    maker = VoiceMaker(command, config=Config(**changes), environ=environ or {})
    try:
        async with asyncio.timeout(30):
            yield Bench(maker, folder)
    finally:
        pid = maker.pid
        await maker.close()
        assert maker.pid is None
        assert not is_running(pid), "it is left behind"


def test_one_child_makes_voice_after_voice(tmp_path: Path) -> None:
    """Loading the models takes longer than a voice: not for each anew."""

    async def scenario() -> None:
        async with bench(tmp_path) as one:
            assert one.maker.pid is None, "nothing runs before the first clip"
            made, voice = await one.make("hello LOUD")
            assert made == Made(seconds=0.01, warnings=("a bit loud",))
            assert voice.startswith(b"voice of hello")
            pid = one.maker.pid
            await one.make("again")
            assert one.maker.pid == pid

    asyncio.run(scenario())


def test_an_unfit_clip_is_told_and_the_child_lives(tmp_path: Path) -> None:
    """The child's word on a clip is for the client, as it is."""

    async def scenario() -> None:
        async with bench(tmp_path) as one:
            with pytest.raises(ClipUnfit, match="the clip is silent"):
                await one.make("SILENT")
            pid = one.maker.pid
            await one.make("again")
            assert one.maker.pid == pid is not None

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("CRASH", "died"),
        ("HANG", "not ready after 0.2 s"),
        ("NONSENSE", "talked nonsense"),
        ("GIBBERISH", "talked nonsense"),
    ],
)
def test_a_lost_child_costs_one_clip(
    tmp_path: Path, content: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A clip that kills a decoder must not end the making of voices for everybody."""

    async def scenario() -> None:
        async with bench(tmp_path) as one:
            await one.make("first")
            lost, patience_s = one.maker.pid, one.maker._longest_s
            if content == "HANG":
                one.maker._longest_s = 0.2  # not before: a busy machine starts a child slowly
            with pytest.raises(CloningFailed, match=why):
                await one.make(content)
            one.maker._longest_s = patience_s
            assert one.maker.pid is None
            assert not is_running(lost)
            await one.make("next")
            assert one.maker.pid != lost

    asyncio.run(scenario())
    if content == "CRASH":
        assert "a bug in a decoder" in caplog.text


def test_a_child_that_could_not_says_so(tmp_path: Path) -> None:
    """A disk that is full is no reason to ask for another clip."""

    async def scenario() -> None:
        async with bench(tmp_path) as one:
            with pytest.raises(CloningFailed, match="the disk is full"):
                await one.make("UNABLE")
            pid = one.maker.pid
            await one.make("again")
            assert one.maker.pid == pid is not None

    asyncio.run(scenario())


def test_what_a_decoder_says_does_not_fill_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line for each frame of a broken MP3 file: a megabyte of log for each upload of a tenth of
    that. The next clip's are logged again."""
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with bench(tmp_path) as one:
            for _ in range(2):
                caplog.clear()
                await one.make("CHATTER")
                with pytest.raises(CloningFailed):
                    await one.make("CRASH")  # by its end, all that it said was read
                lines = [record.getMessage() for record in caplog.records]
                resyncs = [line for line in lines if "resync" in line and "last words" not in line]
                assert 100 < len(resyncs) < 500
                assert sum("is not logged" in line for line in lines) >= 1

    asyncio.run(scenario())


def test_a_stop_while_an_idle_child_ends_is_a_stop(tmp_path: Path) -> None:
    """Whoever waited for the end of the old child, and was cancelled, cancelled it as well: `close`
    then raised, and left the rest of the daemon's end undone."""

    async def scenario() -> None:
        async with bench(tmp_path, clone_idle_s=0.01) as one:
            await one.make("ORPHAN")
            while one.maker.pid is not None:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.005)
            making = asyncio.create_task(one.make("next"))
            while one.maker._idle_timer is not None:  # noqa: ASYNC110 - nor of this
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            making.cancel()
            with pytest.raises(asyncio.CancelledError):
                await making
            await one.maker.close()

    asyncio.run(scenario())


def test_a_voice_that_is_not_there_is_no_voice(tmp_path: Path) -> None:
    """The engine would be asked to read a file that does not exist."""

    async def scenario() -> None:
        async with bench(tmp_path) as one:
            with pytest.raises(CloningFailed, match="gave no voice"):
                await one.make("FORGET")

    asyncio.run(scenario())


def test_models_that_cannot_be_loaded_are_the_operators_matter(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The client learns that it does not work, the log why: paths are nobody's business."""

    async def scenario() -> None:
        async with bench(tmp_path, command=(*COMMAND, "--unloadable")) as one:
            with pytest.raises(CloningFailed, match="could not be loaded") as error:
                await one.make("hello")
            assert "tokenizer" not in str(error.value)

    asyncio.run(scenario())
    assert "no speech tokenizer here" in caplog.text


def test_memory_files_and_processor_time_are_limited(tmp_path: Path) -> None:
    """A clip that unpacks to all of the machine's memory, or disk, would take the daemon with
    it."""

    async def scenario() -> None:
        async with bench(tmp_path, clone_memory_mb=1024, clone_s=7.0) as one:
            with pytest.raises(ClipUnfit, match="MemoryError"):
                await one.make("MEMORY")
            with pytest.raises(ClipUnfit, match="OSError"):
                await one.make("MUCH")
            assert one.maker.pid is not None
            limits = {
                kind: resource.prlimit(one.maker.pid, kind)[0]
                for kind in (resource.RLIMIT_CPU, resource.RLIMIT_CORE)
            }
            assert 7 <= limits[resource.RLIMIT_CPU] < 30
            assert limits[resource.RLIMIT_CORE] == 0
            own = os.getpriority(os.PRIO_PROCESS, 0)
            assert os.getpriority(os.PRIO_PROCESS, one.maker.pid) > own
        async with bench(tmp_path, clone_memory_mb=8192) as roomy:
            await roomy.make("MEMORY")

    asyncio.run(scenario())


def test_the_child_knows_no_secret_of_the_daemon(tmp_path: Path) -> None:
    """What is decoded there may take it over; then it must find no tokens."""
    environ = {
        "PATH": os.environ["PATH"],
        "CHATTERBOXD_TOKENS": "agent=very-secret-indeed",
        "HF_TOKEN": "very-secret-indeed",
        "NOTIFY_SOCKET": "/run/very-secret-indeed",
    }

    async def scenario() -> None:
        async with bench(tmp_path, environ=environ) as one:
            _, voice = await one.make("ENVIRONMENT")
            assert b"secret" not in voice
            assert b'"PATH"' in voice
            assert b'"CUDA_VISIBLE_DEVICES": ""' in voice

    asyncio.run(scenario())


def test_the_child_works_where_the_daemon_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that was given as a folder below the daemon's own was found by the daemon alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip").write_text("hello")

    async def scenario() -> None:
        async with bench(tmp_path) as one:
            await one.maker.make(Path("clip"), Path("voice"))

    asyncio.run(scenario())
    assert (tmp_path / "voice").read_bytes() == b"voice of hello"


def test_an_idle_child_ends_and_comes_back(tmp_path: Path) -> None:
    """The models hold a gigabyte; between two clips of a day nobody needs them."""

    async def scenario() -> None:
        async with bench(tmp_path, clone_idle_s=0.01) as one:
            await one.make("first")
            while one.maker.pid is not None:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.005)
            made, _ = await one.make("second")
            assert made.seconds > 0

    asyncio.run(scenario())


def test_the_end_of_the_daemon_is_the_end_of_the_child(tmp_path: Path) -> None:
    """`bench` looks that the process is gone, also in the middle of a clip."""

    async def scenario() -> None:
        async with bench(tmp_path) as one:
            await one.make("first")
            making = asyncio.create_task(one.make("HANG"))
            await asyncio.sleep(0.05)
            pid = one.maker.pid
            making.cancel()
            with pytest.raises(asyncio.CancelledError):
                await making
            assert one.maker.pid is None
            assert not is_running(pid)

    asyncio.run(scenario())
