"""The path of a clip in, the file of a voice out: made by a child process, one at a time.

The child hears what strangers sent, so it has limits of memory, time and files, none of the
daemon's secrets, and may die: that costs the clip that it was working on. It is started for the
first clip, and ended when there was none for a while. Knows nothing of who wants a voice.
"""

import asyncio
import contextlib
import json
import logging
import math
import os
import resource
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.config import Config
from daemon.wire.errors import ClipUnfit, CloningFailed

_log = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parents[2]
_LARGEST_VOICE_MB = 64
_WORDS_KEPT = 20
_LINES_LOGGED = 200
"""Of one clip."""
_CLOSE_S = 2.0
_PASSED_ON = (
    *("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV"),
    *("PYTHONDONTWRITEBYTECODE", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE"),
)
"""Of the daemon's environment. Its tokens are in there, too, and are nobody else's."""
_SET = {
    "CUDA_VISIBLE_DEVICES": "",  # the GPU is for speech, and its driver fills the address space
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class Made:
    """What the child says of a clip that became a voice."""

    seconds: float
    warnings: tuple[str, ...]


def worker_command(config: Config) -> Sequence[str]:
    """Of the child that makes voices for the daemon's model."""
    return (sys.executable, "-m", "chatterbox.cloning", "--model", config.model or "")


class VoiceMaker:
    """`make` one at a time; `close` at the end."""

    def __init__(
        self, command: Sequence[str], *, config: Config, environ: Mapping[str, str]
    ) -> None:
        limits = ("--memory-mb", str(config.clone_memory_mb), "--file-mb", str(_LARGEST_VOICE_MB))
        self._command = (sys.executable, "-m", "daemon.cloned.confined", *limits, "--", *command)
        self._environ = {name: environ[name] for name in _PASSED_ON if name in environ} | _SET
        # Not by its working folder: that is the daemon's, which `--model` may be relative to.
        found_in = (str(_ROOT), *filter(None, [environ.get("PYTHONPATH")]))
        self._environ["PYTHONPATH"] = os.pathsep.join(found_in)
        self._longest_s = config.clone_s
        self._idle_s = config.clone_idle_s
        self._process: asyncio.subprocess.Process | None = None
        self._stderr: asyncio.Task[None] | None = None
        self._last_words: deque[str] = deque(maxlen=_WORDS_KEPT)
        self._num_logged = 0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The child's; None while there is none."""
        return None if self._process is None else self._process.pid

    async def make(self, clip: Path, out: Path) -> Made:
        """Raises `ClipUnfit` with what is wrong with the clip, or `CloningFailed`."""
        async with self._ready_child() as process:
            _allow_cpu(process.pid, self._longest_s)
            answer = await self._ask(process, {"clip": str(clip), "out": str(out)})
            made = _made(answer)
        if not await asyncio.to_thread(out.is_file):
            raise CloningFailed("the process that makes voices gave no voice")
        return made

    async def close(self) -> None:
        """End the child, whatever it is doing."""
        self._stop_idle_timer()
        await self._wait_for_its_end()
        await self._end()

    # --- the child's life -------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _ready_child(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """A child that has loaded its models. Whatever goes wrong with it, but its own refusal of a
        clip, is its end."""
        self._stop_idle_timer()
        await self._wait_for_its_end()
        self._num_logged = 0
        try:
            yield self._process or await self._start()
        except (ClipUnfit, CloningFailed):
            self._await_the_next()
            raise
        except BaseException as error:
            said = await self._end()
            if isinstance(error, _ChildLost):
                _log.error("%s; its last words: %s", error, said or "none")
                raise CloningFailed(str(error)) from None
            raise
        self._await_the_next()

    async def _start(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the daemon, which ends it
        )
        assert process.stderr is not None, "it was asked for"
        self._process = process
        self._last_words.clear()
        self._stderr = asyncio.create_task(self._listen(process.stderr), name="voice maker")
        hello = await self._answer(process)
        if not hello.get("ready"):
            _log.error("the models that listen to clips: %s", hello.get("error"))
            raise _ChildLost("the models that listen to clips could not be loaded")
        return process

    def _await_the_next(self) -> None:
        loop = asyncio.get_running_loop()
        self._idle_timer = loop.call_later(self._idle_s, self._note_idle)

    async def _wait_for_its_end(self) -> None:
        """If it was idle for too long; whoever stops to wait does not stop its end."""
        if self._ending is not None:
            await asyncio.shield(self._ending)

    def _note_idle(self) -> None:
        self._idle_timer = None
        self._ending = asyncio.create_task(self._end_idle(), name="voice maker's end")

    async def _end_idle(self) -> None:
        await self._end()
        self._ending = None

    async def _end(self) -> str:
        """What the child said last."""
        process, stderr = self._process, self._stderr
        self._process = self._stderr = None
        if process is None or stderr is None:
            return ""
        assert process.stdin is not None, "it was asked for"
        process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        # A grandchild may hold the pipe open.
        done, _ = await asyncio.wait({stderr}, timeout=_CLOSE_S)
        if not done:
            stderr.cancel()
        return " | ".join(self._last_words)

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        """Its log is part of ours, but for what a decoder has to say of every second of a broken
        file."""
        while data := await stderr.read(4096):
            for line in data.decode(errors="replace").splitlines():
                self._last_words.append(line)
                self._num_logged += 1
                if self._num_logged <= _LINES_LOGGED:
                    _log.info("voice maker: %s", line)
                elif self._num_logged == _LINES_LOGGED + 1:
                    _log.info("voice maker: … and more of the same clip, which is not logged")

    def _stop_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    # --- its words --------------------------------------------------------------------------------

    async def _ask(
        self, process: asyncio.subprocess.Process, request: dict[str, str]
    ) -> dict[str, Any]:
        assert process.stdin is not None, "it was asked for"
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has died meanwhile, as the end of its answers says
        return await self._answer(process)

    async def _answer(self, process: asyncio.subprocess.Process) -> dict[str, Any]:
        assert process.stdout is not None, "it was asked for"
        try:
            async with asyncio.timeout(self._longest_s):
                line = await process.stdout.readline()
        except TimeoutError:
            raise _ChildLost(f"the voice was not ready after {self._longest_s:g} s") from None
        except ValueError:
            raise _ChildLost("the process that makes voices said too much") from None
        if not line:
            raise _ChildLost("the process that makes voices died")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise _ChildLost("the process that makes voices talked nonsense")
        return answer


class _ChildLost(Exception):
    """It cannot be used any more; the text is for the client."""


def _made(answer: dict[str, Any]) -> Made:
    """Raises what the child says of the clip, or of itself."""
    if "error" in answer:
        raise ClipUnfit(str(answer["error"]))
    if "failed" in answer:
        raise CloningFailed(str(answer["failed"]))
    seconds, warnings = answer.get("seconds"), answer.get("warnings")
    if (
        answer.get("ok") is not True
        or not isinstance(seconds, float | int)
        or not math.isfinite(seconds)
        or not isinstance(warnings, list)
    ):
        raise _ChildLost("the process that makes voices talked nonsense")
    return Made(float(seconds), tuple(map(str, warnings)))


def _allow_cpu(pid: int, seconds: float) -> None:
    """From now on so much processor time, and then the kernel ends it, also if we hang."""
    try:
        used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(used[11]) + int(used[12])  # utime and stime
        limit = ticks // os.sysconf("SC_CLK_TCK") + int(seconds) + 1
        resource.prlimit(pid, resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
    except (FileNotFoundError, ProcessLookupError):
        pass  # it has died meanwhile, as the end of its answers says
