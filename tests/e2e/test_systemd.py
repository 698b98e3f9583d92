"""What systemd sees: readiness, status, watchdog, passed sockets, and units without a complaint."""

import asyncio
import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.e2e.processes import ROOT, command, daemon_process, environment, free_port

UNITS = ("chatterboxd.service", "chatterboxd@.service", "chatterboxd.socket")
EXPOSURE_LIMIT = 2.0

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd's tools are not installed"
)
needs_activate = pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None, reason="systemd's tools are not installed"
)


class NotifySocket:
    """Stands where systemd listens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._lines: deque[str] = deque()
        self.heard: list[str] = []

    def until(self, start: str, *, within_s: float = 10.0) -> str:
        """The next line that starts so."""
        give_up_s = time.monotonic() + within_s
        while True:
            while self._lines:
                self.heard.append(self._lines.popleft())
                if self.heard[-1].startswith(start):
                    return self.heard[-1]
            self._socket.settimeout(max(0.01, give_up_s - time.monotonic()))
            self._lines.extend(self._socket.recv(4096).decode().splitlines())

    def count(self, start: str, *, for_s: float) -> int:
        """How many lines start so in the time to come."""
        before, until_s = len(self.heard), time.monotonic() + for_s
        with contextlib.suppress(TimeoutError):
            while time.monotonic() < until_s:
                self.until("nothing starts so", within_s=until_s - time.monotonic())
        return sum(line.startswith(start) for line in self.heard[before:])

    def close(self) -> None:
        self._socket.close()


@contextmanager
def notify_socket(tmp_path: Path) -> Iterator[NotifySocket]:
    listener = NotifySocket(tmp_path / "notify")
    try:
        yield listener
    finally:
        listener.close()


def test_ready_status_watchdog_and_the_end(tmp_path: Path) -> None:
    """Units that wait for READY, and `systemctl status`, show what the daemon says here."""
    with notify_socket(tmp_path) as systemd:
        more = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "900000"}
        with daemon_process(tmp_path, "--slots", "3", more=more) as daemon:
            systemd.until("READY=1")
            assert systemd.heard[:2] == ["STATUS=loading the model", "EXTEND_TIMEOUT_USEC=30000000"]
            assert systemd.until("STATUS=").endswith("0 of 100 sessions, 0 of 3 slots speak")
            assert systemd.until("MAINPID=") == f"MAINPID={daemon.process.pid}"
            # Idle, and fed three times in each interval all the same.
            assert systemd.count("WATCHDOG=1", for_s=1.8) >= 3

            async def talk() -> None:
                async with connect(daemon.url) as connection:
                    await connection.recv()
                    assert "1 of 100 sessions" in await asyncio.to_thread(systemd.until, "STATUS=")

            asyncio.run(talk())
            daemon.process.send_signal(signal.SIGHUP)
            systemd.until("RELOADING=1")
            assert int(systemd.until("MONOTONIC_USEC=").partition("=")[2]) > 0
            systemd.until("READY=1")
            daemon.process.send_signal(signal.SIGTERM)
            systemd.until("STOPPING=1")
            assert systemd.until("EXTEND_TIMEOUT_USEC=") == "EXTEND_TIMEOUT_USEC=50000000"
            assert daemon.finish()[0] == 0


STUCK = """
import os, sys, time
import uvloop
from chatterbox.sine import SineEngine
from daemon.config import Config
from daemon.server import Daemon

class Stuck(SineEngine):
    def step(self, slots):
        time.sleep(3600)

config = Config(port=0, port_file=__import__("pathlib").Path(sys.argv[-1]), stuck_s=0.5)
sys.exit(uvloop.run(Daemon(config, Stuck, environ=os.environ).run()))
"""


def test_a_stuck_step_starves_the_watchdog_and_is_not_healthy(tmp_path: Path) -> None:
    """A wedged engine with a living event loop answers health checks for days otherwise."""
    with notify_socket(tmp_path) as systemd:
        more = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "600000"}
        whole = [sys.executable, "-c", STUCK]
        with daemon_process(tmp_path, whole_command=whole, more=more) as daemon:
            assert systemd.count("WATCHDOG=1", for_s=1.0) >= 2

            async def talk() -> None:
                async with connect(daemon.url) as connection:
                    await connection.send('{"type":"open","context":"a"}')
                    await connection.send('{"type":"text","context":"a","text":"Hello there."}')
                    await connection.send('{"type":"end","context":"a"}')
                    await asyncio.sleep(1.0)
                    for path in ("/healthz", "/readyz"):
                        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
                        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                        answer = (await reader.read()).decode()
                        assert answer.startswith("HTTP/1.1 503")
                        assert "the engine does not answer" in answer
                        writer.close()

            asyncio.run(talk())
            systemd.count("WATCHDOG=1", for_s=0.1)  # what was on its way
            assert systemd.count("WATCHDOG=1", for_s=1.2) == 0


@needs_activate
def test_a_passed_socket_is_used(tmp_path: Path) -> None:
    """Socket activation: the first client starts the daemon, waits in the queue, and is served."""
    port = free_port()
    process = subprocess.Popen(
        [
            *("systemd-socket-activate", "--listen", f"127.0.0.1:{port}", "--fdname=websocket"),
            *("--setenv=PYTHONWARNINGS=error", *command("--port", "1")),
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:

        async def talk() -> None:
            async with asyncio.timeout(20):
                while True:
                    try:
                        connection = await connect(f"ws://127.0.0.1:{port}", proxy=None)
                        break
                    except ConnectionRefusedError:  # systemd-socket-activate itself starts
                        await asyncio.sleep(0.05)
                assert '"begin"' in str(await connection.recv())
                await connection.close()

        asyncio.run(talk())
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
        assert process.returncode == 0
        assert f"listening on ws://127.0.0.1:{port}\n" in errors
    finally:
        process.kill()
        process.communicate()


def installed(tmp_path: Path) -> Path:
    subprocess.run(
        [sys.executable, "tools/install.py", "install", "--destdir", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return tmp_path


def test_install_and_uninstall(tmp_path: Path) -> None:
    """What is installed must run without the checkout; what is not ours must stay."""
    root = installed(tmp_path)
    result = subprocess.run(
        [sys.executable, "-m", "daemon", "--print-config"],
        cwd=root / "opt/chatterboxd",
        env={"CHATTERBOXD_CONFIG": str(root / "etc/chatterboxd/chatterboxd.toml")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "port = 8765" in result.stdout
    settings = root / "etc/chatterboxd/chatterboxd.toml"
    settings.write_text("port = 9000\n")
    installed(tmp_path)
    assert settings.read_text() == "port = 9000\n"
    subprocess.run(
        [sys.executable, "tools/install.py", "uninstall", "--destdir", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    assert not (root / "opt/chatterboxd").exists()
    assert not list((root / "etc/systemd/system").iterdir())
    assert settings.exists()


@needs_systemd
def test_systemd_has_no_complaint_about_the_units(tmp_path: Path) -> None:
    """A misspelt directive is ignored at run time, with all the protection that it promised."""
    root = installed(tmp_path / "root")
    folder = tmp_path / "units"
    folder.mkdir()
    for unit in UNITS:
        text = (root / "etc/systemd/system" / unit).read_text()
        # The environment is not installed here: another program stands for its Python.
        text = text.replace("/opt/chatterboxd/.venv/bin/python", sys.executable)
        (folder / unit).write_text(text.replace("/opt/chatterboxd", str(root / "opt/chatterboxd")))
    names = [str(folder / unit) for unit in UNITS]
    result = subprocess.run(
        ["systemd-analyze", "verify", *names], capture_output=True, text=True, check=False
    )
    complaints = [line for line in result.stderr.splitlines() if "chatterboxd" in line]
    assert (result.returncode, complaints) == (0, [])


@needs_systemd
@pytest.mark.parametrize("unit", ["chatterboxd.service", "chatterboxd@.service"])
def test_the_exposure_is_low(unit: str) -> None:
    """The hardening is a list of lines that are easily lost."""
    result = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", f"systemd/{unit}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    match = re.search(r"Overall exposure level for \S+: ([\d.]+)", result.stdout)
    assert match, result.stdout + result.stderr
    assert float(match[1]) <= EXPOSURE_LIMIT
