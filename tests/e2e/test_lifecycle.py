"""Start, readiness, refusal, draining and the end, in this process and in one of its own."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from daemon.config import Config
from daemon.server import Daemon
from daemon.wire.protocol import AudioMessage, Failed
from tests.e2e.processes import ROOT, command, daemon_process
from tests.e2e.wire import CONFIG, Wire, run, running
from tests.fakes import FragileEngine, UnbuildableError, unbuildable

LONG = "All work and no play makes Jack a dull boy, and so it goes on and on. " * 30


async def http_get(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return int(answer.split()[1]), answer


def test_health_and_readiness() -> None:
    """A supervisor must tell alive from ready, and get 404 for what is not there."""

    async def talk() -> None:
        async with running(max_sessions=1) as daemon:
            assert (await http_get(daemon.port, "/healthz"))[0] == 200
            assert (await http_get(daemon.port, "/readyz"))[0] == 200
            assert (await http_get(daemon.port, "/readyz?x=1"))[0] == 200
            assert (await http_get(daemon.port, "/nothing"))[0] == 404
            async with daemon.wire():
                assert (await http_get(daemon.port, "/readyz"))[0] == 503
                assert (await http_get(daemon.port, "/healthz"))[0] == 200

    run(talk())


def test_a_full_daemon_refuses_before_the_upgrade() -> None:
    """A refused client must know at once, and know when to come back."""

    async def talk() -> None:
        async with running(max_sessions=2, retry_after_s=7) as daemon:
            async with daemon.wire(), daemon.wire():
                with pytest.raises(InvalidStatus) as refused:
                    await connect(daemon.url)
                assert refused.value.response.status_code == 503
                assert refused.value.response.headers["Retry-After"] == "7"
            async with asyncio.timeout(30):
                while (await http_get(daemon.port, "/readyz"))[0] != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            async with daemon.wire() as wire:
                assert (await wire.speak("a", "Hello.")).end.samples

    run(talk())


def test_draining_finishes_what_is_being_spoken() -> None:
    """A restart that cuts people off is an outage; one that lets new work in never ends."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as idle, daemon.wire() as wire:
            await wire.send("open", "a", max_lead_ms=400)
            await wire.send("text", "a", text="Hello there. ")
            await wire.receive_until(AudioMessage)
            daemon.daemon.stop()
            assert await idle.close_code() == 1001
            assert (await http_get(daemon.port, "/readyz"))[0] == 503
            with pytest.raises(InvalidStatus):
                await connect(daemon.url)
            await wire.send("open", "b")
            assert (await wire.receive_until(Failed)).code == "draining"
            await wire.send("text", "a", text="Bye.")
            await wire.send("end", "a")
            heard = await wire.hear("a")
            assert heard.samples().size == heard.end.samples
            assert heard.end.text_chars == len("Hello there. Bye.")
            assert await wire.close_code() == 1001
            assert await daemon.task == 0

    run(talk())


def test_the_grace_period_ends() -> None:
    """A context that its client never ends must not keep the daemon alive."""

    async def talk() -> None:
        async with running(grace_s=0.3) as daemon, daemon.wire() as wire:
            await wire.send("open", "a")
            await wire.send("text", "a", text="Hello there, dear friend. ")
            await wire.receive_until(AudioMessage)
            daemon.daemon.stop()
            start_s = time.monotonic()
            assert await wire.close_code() == 1001
            assert await daemon.task == 0
            assert time.monotonic() - start_s > 0.2

    run(talk())


def test_a_broken_engine_tells_everybody_and_ends_the_daemon() -> None:
    """Only a new process cures a lost device, and the exit status is what gets one started."""

    async def talk() -> None:
        async with running(build=FragileEngine) as daemon, daemon.wire() as wire:
            await wire.send("open", "other")
            await wire.say("a", "Now BREAK it.")
            assert await wire.close_code() == 1011
            for name in ("a", "other"):
                error = wire.heard[name].messages[-1]
                assert isinstance(error, Failed)
                assert (error.code, error.final) == ("engine_failed", True)
            assert await daemon.task == 1

    run(talk())


def test_an_engine_that_cannot_be_built_is_an_error_of_the_start() -> None:
    """A daemon without an engine must never listen."""

    async def talk() -> None:
        daemon = Daemon(CONFIG, unbuildable)
        with pytest.raises(UnbuildableError):
            await daemon.run(on_listening=lambda: pytest.fail("it listens"))

    run(talk())


# --- as a process ---------------------------------------------------------------------------------


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_idle_daemon_leaves_at_once_and_leaves_nothing(tmp_path: Path, number: int) -> None:
    """A traceback, a lingering thread or a stale port file would be left behind by Ctrl-C."""
    with daemon_process(tmp_path) as daemon:
        assert children_of(daemon.process.pid) == []
        status, errors = daemon.finish(number)
        assert status == 0
        assert re.fullmatch(r"listening on ws://127\.0\.0\.1:\d+\n", errors)
        assert not daemon.port_file.exists()


def test_sigterm_lets_a_speaker_finish(tmp_path: Path) -> None:
    """The same promise as in process, with the real signal and the real exit."""
    with daemon_process(tmp_path) as daemon:

        async def talk() -> None:
            async with connect(daemon.url, compression=None) as connection:
                wire = Wire(connection)
                await wire.say("a", "Hello there.", max_lead_ms=200)
                await wire.receive_until(AudioMessage)
                daemon.process.send_signal(signal.SIGTERM)
                heard = await wire.hear("a")
                assert heard.samples().size == heard.end.samples
                assert await wire.close_code() == 1001

        uvloop.run(talk())
        status, errors = daemon.finish()
        assert status == 0
        assert errors.startswith(f"listening on ws://127.0.0.1:{daemon.port}\n")
        assert not any(word in errors for word in ("WARNING", "ERROR", "Traceback"))


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    """An impatient operator must not need SIGKILL."""
    with daemon_process(tmp_path, "--grace-s", "60") as daemon:

        async def talk() -> None:
            async with connect(daemon.url, compression=None) as connection:
                wire = Wire(connection)
                await wire.say("a", LONG)
                await wire.receive_until(AudioMessage)
                daemon.process.send_signal(signal.SIGINT)
                await asyncio.sleep(0.2)
                assert daemon.process.poll() is None
                daemon.process.send_signal(signal.SIGINT)
                assert await wire.close_code() == 1001

        uvloop.run(talk())
        status, errors = daemon.finish()
        assert status == 0
        assert "Traceback" not in errors


def test_a_taken_port_is_a_plain_error(tmp_path: Path) -> None:
    """The commonest mistake of all deserves better than a traceback."""
    with daemon_process(tmp_path) as daemon:
        second = subprocess.run(
            command("--port", str(daemon.port)),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode == 1
        assert "in use" in second.stderr
        assert "Traceback" not in second.stderr


def test_the_port_file_names_the_port(tmp_path: Path) -> None:
    """Scripts connect to what they read there."""
    with daemon_process(tmp_path) as daemon:

        async def talk() -> None:
            async with connect(daemon.url) as connection:
                assert json.loads(await connection.recv())["type"] == "begin"

        asyncio.run(talk())


def test_the_defaults_of_help_are_the_defaults() -> None:
    """`--help` is the operator's document of every option."""
    text = subprocess.run(
        command("--help"), cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    for name in ("--port-file", "--grace-s", "--slots", "--max-lead-ms", "--sine-cost-ms"):
        assert name in text
    assert f"(default: {Config().port})" in text


def test_ctrl_c_while_the_engine_loads() -> None:
    """Loading cannot be interrupted from within; whoever changes his mind must not wait for it."""
    script = (
        "import asyncio, sys, time\n"
        "from daemon.config import Config\n"
        "from daemon.server import Daemon\n"
        "def build():\n"
        "    sys.stdout.write('loading\\n'); sys.stdout.flush()\n"
        "    time.sleep(60)\n"
        "sys.exit(asyncio.run(Daemon(Config(port=0), build).run()))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "Traceback" not in errors
        assert "listening" not in errors
    finally:
        process.kill()
        process.communicate()
