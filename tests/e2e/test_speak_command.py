"""`make speak` as a user runs it: a process, a daemon of its own, a WAV file."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import pytest

from chatterboxd_client.spawn import own_daemon

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT_S = 100
"""For a test that hangs; a busy machine takes many seconds to start two programs."""
TOKEN = "a-token-of-some-length"


def start(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "chatterboxd_client.speak", *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    return process.returncode, out, err


def daemons_of(parent: int) -> list[int]:
    """Processes whose parent is `parent`."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(pid) for pid in children.split()]


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    return tmp_path / "speech.wav"


@pytest.mark.parametrize("audio_format", ["opus", "pcm_s16le"])
def test_a_text_becomes_a_wav_file_and_a_report(wav: Path, audio_format: str) -> None:
    """The whole way, as `make speak` goes it; quotes and dollars must survive it."""
    text = 'It\'s "$5", she said.\nReally?'
    code, out, err = finish(
        start(f"--text={text}", f"--out={wav}", "--engine=sine", f"--format={audio_format}")
    )
    assert code == 0, err
    report = json.loads(out.splitlines()[-1])
    with wave.open(str(wav)) as file:
        assert file.getframerate() == 24_000
        assert file.getnframes() / 24_000 == pytest.approx(report["audio_s"], abs=1e-3)
    assert report["audio_s"] > 0.5
    assert report["first_audio_ms"] > 0
    assert report["real_time_factor"] > 0
    assert report["packets"] >= report["audio_s"] / 0.02
    assert f"sending {len(text)} characters" in err
    assert "first audio after" in err


def test_empty_text_is_a_silent_file_without_figures(wav: Path) -> None:
    """Nothing to say is no error: null figures, an empty file, status 0."""
    code, out, err = finish(start("--text=", f"--out={wav}", "--engine=sine"))
    assert code == 0, err
    assert json.loads(out)["first_audio_ms"] is None
    with wave.open(str(wav)) as file:
        assert file.getnframes() == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--engine=sine", "--voice=nobody"], "there is no voice 'nobody' here; there is"),
        (["--engine=sine", "--max-text-chars=3"], "text_too_long"),
        (["--engine=sine", "--max-lead-ms=1"], "before it was ready"),
        (["--url=ws://127.0.0.1:9"], "nobody answers"),
    ],
)
def test_errors_say_what_is_wrong_and_fail(wav: Path, arguments: list[str], reason: str) -> None:
    """An error must reach the user in words and the caller as a status, and write no file."""
    code, out, err = finish(start("--text=Hello there", f"--out={wav}", *arguments))
    assert code == 1
    assert out == ""
    assert reason in err
    assert "Traceback" not in err
    assert not wav.exists()


def test_a_daemon_that_asks_for_a_token_gets_one(wav: Path) -> None:
    """It was said to be full, and no option could have shown it a token."""

    async def talk() -> None:
        tokens = {"CHATTERBOXD_TOKENS": f"me={TOKEN}"}
        async with own_daemon(["--engine", "sine"], environment=tokens) as daemon:
            asked = ("--text=Hello.", f"--out={wav}", f"--url={daemon.url}")
            code, _out, err = await asyncio.to_thread(finish, start(*asked))
            assert code == 1
            assert "--token" in err
            code, _out, err = await asyncio.to_thread(finish, start(*asked, f"--token={TOKEN}"))
            assert code == 0, err

    asyncio.run(talk())
    assert wav.exists()
    code, _out, err = finish(start("--text=Hello.", f"--out={wav}", f"--token={TOKEN}"))
    assert code == 2
    assert "--token is for" in err


@pytest.mark.parametrize("when_s", [0.0, 0.5])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_daemon_behind(
    wav: Path, number: signal.Signals, when_s: float
) -> None:
    """Ctrl-C while the daemon loads or speaks: it must not outlive the command."""
    slow = ("--sine-step-ms=40", "--sine-cost-ms=100")
    process = start("--text=" + "word " * 500, f"--out={wav}", "--engine=sine", *slow)
    deadline = time.monotonic() + TIMEOUT_S
    while not (daemons := daemons_of(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(when_s)
    process.send_signal(number)
    code, _out, err = finish(process)
    assert daemons
    assert code == 128 + number
    assert "interrupted" in err
    assert "Traceback" not in err
    assert not any(is_alive(pid) for pid in daemons)


def test_a_player_gets_every_sample(wav: Path, tmp_path: Path) -> None:
    """Playing starts before the speech is complete and must lose nothing at the end."""
    player = tmp_path / "aplay"
    player.write_text(f"#!/bin/sh\nexec cat > {tmp_path}/played\n")
    player.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    code, _out, err = finish(
        start(
            "--text=Hello there.",
            f"--out={wav}",
            "--engine=sine",
            "--play=always",
            environment={"PATH": path},
        )
    )
    assert code == 0, err
    with wave.open(str(wav)) as file:
        assert (tmp_path / "played").read_bytes() == file.readframes(file.getnframes())


def test_make_passes_the_text_unharmed(tmp_path: Path) -> None:
    """`make speak TEXT=…` goes through make and a shell; both like to read dollars and quotes."""
    text = 'it\'s $5 $(HOME) `id` "q" \\n # & 100%\nline two'
    stub = tmp_path / "bin" / "python"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/arguments\n')
    stub.chmod(0o755)
    subprocess.run(
        ["make", "speak", f"TEXT={text}", "OUT=a b.wav", f"VENV={tmp_path}", "PYTHON=true"],
        cwd=ROOT,
        # The tests themselves may run under a make that hands its variables on.
        env={"PATH": os.environ["PATH"]},
        check=True,
        timeout=TIMEOUT_S,
        capture_output=True,
    )
    said = (tmp_path / "arguments").read_text()
    assert said == f"-m\nchatterboxd_client.speak\n--text={text}\n--out=a b.wav\n"
