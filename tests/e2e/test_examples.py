"""examples/, as a user runs them."""

import asyncio
import os
import socket
import subprocess
import sys
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from wyoming.client import AsyncTcpClient
from wyoming.info import Describe, Info

from chatterboxd_client.spawn import own_daemon
from daemon.dialects.openai_wire import AUDIO_FORMATS
from tests.e2e.wire import Running, run, running
from tests.fakes import RecordingEngine

ROOT = Path(__file__).resolve().parent.parent.parent
LONGEST_S = 50


async def example(name: str, *arguments: str, text: str = "", path: str = "") -> tuple[str, str]:
    """Its output and errors."""
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    if name.endswith(".sh"):
        command = ["sh", *command[1:]]
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{path}:{os.environ['PATH']}"},
        input=text,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def fake_player(folder: Path) -> None:
    player = folder / "aplay"
    player.write_text("#!/bin/sh\ncat > /dev/null\n")
    player.chmod(0o755)


def seconds_of(path: Path) -> float:
    with wave.open(str(path)) as file:
        return float(file.getnframes() / file.getframerate())


def test_tokens_on_standard_input_become_a_file(tmp_path: Path) -> None:
    """The example that people copy into their agents."""

    async def talk(daemon: Running) -> None:
        out = tmp_path / "a.wav"
        text = "Naïve tokens, cut anywhere."
        _out, errors = await example(
            "llm_to_speech.py", "--url", daemon.url, "--out", str(out), text=text
        )
        assert text in errors
        assert "first audio" in errors
        assert seconds_of(out) > 0.5

    run(with_daemon(talk))


def test_any_standard_input_will_do(tmp_path: Path) -> None:
    """A file ended in a trace, so did silence, and what followed a broken byte was said twice."""

    async def talk(daemon: Running) -> None:
        for number, text in enumerate((b"From a file.", b"Two \xff words.", b" ")):
            written, out = tmp_path / f"{number}.txt", tmp_path / f"{number}.wav"
            written.write_bytes(text)
            with written.open("rb") as file:
                done = await asyncio.to_thread(
                    subprocess.run,
                    [
                        *(sys.executable, str(ROOT / "examples" / "llm_to_speech.py")),
                        *("--url", daemon.url, "--out", str(out)),
                    ],
                    cwd=ROOT,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                    stdin=file,
                    capture_output=True,
                    timeout=LONGEST_S,
                    check=False,
                )
            assert done.returncode == 0, done.stderr
            assert done.stderr.startswith(text.replace(b"\xff", "\ufffd".encode()))
            assert (seconds_of(out) > 0.3) == bool(text.strip())

    run(with_daemon(talk))


def test_barge_in_ends_when_all_was_heard(tmp_path: Path) -> None:
    """Nobody interrupts: it must not wait for an Enter before it ends."""
    fake_player(tmp_path)

    async def talk() -> None:
        async with running(build=lambda: RecordingEngine(samples_per_char=50)) as daemon:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(ROOT / "examples" / "barge_in.py"), "--url", daemon.url),
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "PATH": f"{tmp_path}:{os.environ['PATH']}",
                },
                stdin=asyncio.subprocess.PIPE,
            )
            assert await process.wait() == 0

    run(talk())


def test_barge_in_prints_what_was_heard(tmp_path: Path) -> None:
    """Interrupted by the Enter on its input, before anything was heard."""
    fake_player(tmp_path)

    async def talk(daemon: Running) -> None:
        out, _errors = await example(
            "barge_in.py", "--url", daemon.url, text="\n", path=str(tmp_path)
        )
        assert out.startswith("heard: ")
        assert "any right to." in out.splitlines()[1]

    run(with_daemon(talk))


def test_a_program_without_an_event_loop() -> None:
    """The blocking client, in a process of its own that must also end."""

    async def talk(daemon: Running) -> None:
        out, _errors = await example("blocking.py", "Good morning.", daemon.url)
        assert float(out.split()[0]) > 0.3

    run(with_daemon(talk))


def test_curl_writes_every_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes in the text must survive the shell, and the ending of the file name the format."""

    async def talk(daemon: Running) -> None:
        assert daemon.daemon.doors is not None
        monkeypatch.setenv("BASE_URL", f"http://127.0.0.1:{daemon.daemon.doors.openai_port}/v1")
        for name in AUDIO_FORMATS:
            out = tmp_path / f"a.{name}"
            await example("curl.sh", 'It\'s "$5", she said.', str(out))
            assert out.stat().st_size > 2000

    run(with_daemon(talk))


def test_home_assistants_set_up_answers() -> None:
    """A setting that was renamed must not be found out by whoever wants a voice at home."""

    async def talk() -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        arguments = ["--config", "examples/home_assistant.toml", "--engine", "sine"]
        arguments += ["--wyoming", f"tcp://127.0.0.1:{port}"]
        async with own_daemon(arguments), AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Describe().event())
            answer = await client.read_event()
        assert answer is not None
        assert Info.from_event(answer).tts[0].supports_synthesize_streaming

    asyncio.run(talk())


async def with_daemon(talk: Callable[[Running], Awaitable[None]]) -> None:
    async with running(openai_port=0) as daemon:
        await talk(daemon)
