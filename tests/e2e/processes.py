"""A daemon as a process of its own: for tests that send signals, pass sockets, read its output."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
START_S = 60.0
SLOW_MOMENT = re.compile(r"^.* WARNING asyncio: Executing .* took \S+ seconds\n", re.M)
"""In debug mode; on a busy machine any callback may take long."""


def command(*arguments: str, dev: bool = True) -> list[str]:
    """`dev`: asyncio looks at itself, which makes it several times slower."""
    mode = ("-X", "dev") if dev else ()
    return [sys.executable, *mode, "-m", "daemon", "--engine", "sine", *arguments]


FAST = command("--port", "0", dev=False)
"""For tests of load, which would measure asyncio's debug mode otherwise."""


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    ours = {**os.environ, "PYTHONWARNINGS": "error", **(more or {})}
    ours.pop("PYTHONASYNCIODEBUG", None)  # -X dev says it
    return ours


@dataclass
class Process:
    process: "subprocess.Popen[str]"
    port: int
    port_file: Path
    log: Path

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    def until_logged(self, text: str, *, times: int = 1, within_s: float = 30.0) -> None:
        """Wait for what the daemon does at a signal, which no socket tells of."""
        give_up_s = time.monotonic() + within_s
        while self.log.read_text().count(text) < times:
            assert time.monotonic() < give_up_s, f"{text!r} is not in {self.log.read_text()!r}"
            time.sleep(0.01)

    def finish(self, *signals: int, within_s: float = 30.0) -> tuple[int, str]:
        """Exit status and standard error, without what asyncio says of slow moments."""
        for number in signals:
            self.process.send_signal(number)
            time.sleep(0.05)
        status = self.process.wait(timeout=within_s)
        return status, SLOW_MOMENT.sub("", self.log.read_text())


@contextmanager
def daemon_process(
    tmp_path: Path,
    *arguments: str,
    more: Mapping[str, str] | None = None,
    whole_command: Sequence[str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Iterator[Process]:
    """Entered once it listens."""
    port_file = tmp_path / f"port-{time.monotonic_ns()}"
    # A file: nobody reads a pipe meanwhile, and a full one would stop the daemon.
    log = port_file.with_suffix(".log")
    with log.open("w") as log_file:
        process = subprocess.Popen(
            [
                *(whole_command or command("--port", "0")),
                *("--port-file", str(port_file), *arguments),
            ],
            cwd=ROOT,
            stderr=log_file,
            text=True,
            env=environment(more),
            pass_fds=pass_fds,
        )
    try:
        give_up_s = time.monotonic() + START_S
        while not port_file.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up_s, "it does not listen"
            time.sleep(0.02)
        yield Process(process, int(port_file.read_text()), port_file, log)
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port: int = plug.getsockname()[1]
        return port
