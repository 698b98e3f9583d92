"""Arguments in, a daemon of one's own on a free loopback port out, stopped when its user is done.

For programs that need a daemon for a while: `make speak`, benchmarks. Leaves nothing running.
"""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 15.0
_POLL_S = 0.05
_LOG_LINES_SHOWN = 20


class DaemonDidNotStart(Exception):
    """Its text holds the end of what the daemon said."""


@contextlib.asynccontextmanager
async def own_daemon(
    arguments: Sequence[str] = (),
    *,
    on_wait: Callable[[float], None] = lambda _waited_s: None,
    command_prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator["OwnDaemon"]:
    """Run `python -m daemon` until the block is left; entered once the daemon is warm.

    `on_wait` is called with the seconds waited, a few times a second. `command_prefix` is for
    `taskset` and the like; `environment` is added to this process's.
    """
    with tempfile.TemporaryDirectory(prefix="chatterboxd-") as folder:
        port_file = Path(folder) / "port"
        log = Path(folder) / "log"
        with log.open("wb") as log_file:
            process = await asyncio.create_subprocess_exec(
                *command_prefix,
                sys.executable,
                *("-m", "daemon", "--host", "127.0.0.1", "--port", "0"),
                *("--port-file", str(port_file), *arguments),
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                # Ctrl-C must reach it through us alone, after we have left our session.
                start_new_session=True,
            )
        try:
            port = await _wait_for_port(process, port_file=port_file, log=log, on_wait=on_wait)
            yield OwnDaemon(process, url=f"ws://127.0.0.1:{port}", log=log)
        finally:
            await _stop(process)


class OwnDaemon:
    def __init__(self, process: asyncio.subprocess.Process, *, url: str, log: Path) -> None:
        self.url = url
        self.pid = process.pid
        self._log = log
        self._process = process

    def kill(self) -> None:
        """No farewell: what a crash looks like to its clients."""
        self._process.kill()

    def said(self) -> str:
        """The last lines of the daemon's output."""
        return _last_lines(self._log)


async def _wait_for_port(
    process: asyncio.subprocess.Process,
    *,
    port_file: Path,
    log: Path,
    on_wait: Callable[[float], None],
) -> int:
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    while (port := _read_port(port_file)) is None:
        if process.returncode is not None:
            raise DaemonDidNotStart(
                f"the daemon ended with status {process.returncode} before it was ready:\n"
                + _last_lines(log)
            )
        waited_s = loop.time() - started_at
        if waited_s > START_TIMEOUT_S:
            raise DaemonDidNotStart(
                f"the daemon was not ready after {START_TIMEOUT_S:.0f} s:\n" + _last_lines(log)
            )
        on_wait(waited_s)
        await asyncio.sleep(_POLL_S)
    return port


def _read_port(path: Path) -> int | None:
    return int(path.read_text()) if path.exists() else None


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:])


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ask, wait, then insist. Cancelling this (a second Ctrl-C) insists at once."""
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if not isinstance(error, TimeoutError):
            raise
