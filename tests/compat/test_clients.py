"""Other people's clients, unmodified but for URL and key, and what a recogniser hears from them.

They run in an environment of their own (`make test-compat` makes it and names its interpreter in
CLIENTS_PYTHON); without it these tests are skipped, as in `make check`.
"""

import asyncio
import io
import json
import os
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from chatterboxd_client import SpeechClient
from chatterboxd_client.spawn import OwnDaemon, own_daemon

CLIENTS = Path(__file__).parent / "clients"
CLIENTS_PYTHON = os.environ.get("CLIENTS_PYTHON")
ENGINE = os.environ.get("COMPAT_ENGINE", "chatterbox")
KEY = "the-key-of-the-compat-tests"
TEXT = "The train leaves at nine. Please be at the station early."
LONGEST_S = 280.0
RATE = 24_000
Sound = NDArray[np.floating[Any]]

pytestmark = [
    pytest.mark.skipif(CLIENTS_PYTHON is None, reason="`make test-compat` has the clients"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def converse(script: str, folder: Path) -> tuple[dict[str, Any], Sound, str]:
    """A client against a daemon of the bundled voice; its report, what the native client hears of
    the same text, and what the daemon counted."""
    port = free_port()
    wyoming_port = free_port()
    arguments = ["--engine", ENGINE, "--openai-port", str(port)]
    arguments += ["--wyoming", f"tcp://127.0.0.1:{wyoming_port}"]
    async with own_daemon(arguments, environment={"CHATTERBOXD_TOKENS": f"compat={KEY}"}) as daemon:
        target = str(wyoming_port) if "wyoming" in script else f"http://127.0.0.1:{port}/v1"
        assert CLIENTS_PYTHON is not None
        done = await asyncio.to_thread(
            subprocess.run,
            [CLIENTS_PYTHON, str(CLIENTS / script), target, KEY, str(folder)],
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        expected = await native_speech(daemon)
        counted = await until_idle(daemon)
    return json.loads(done.stdout.splitlines()[-1]), expected, counted


async def native_speech(daemon: OwnDaemon) -> Sound:
    async with await SpeechClient.connect(daemon.url, token=KEY) as client:
        context = await client.open(format="pcm_s16le")
        await context.send_text(TEXT)
        await context.end()
        parts = [audio.samples async for audio in context.audio()]
    return np.concatenate(parts).astype(np.float32) / 32767


async def until_idle(daemon: OwnDaemon) -> str:
    """The daemon's own figures, once nobody is spoken to: an interrupted slot must become free."""
    request = urllib.request.Request(
        daemon.url.replace("ws://", "http://") + "/metrics",
        headers={"Authorization": f"Bearer {KEY}"},
    )
    async with asyncio.timeout(5):
        while True:
            page = await asyncio.to_thread(lambda: urllib.request.urlopen(request).read().decode())
            if "chatterboxd_slots_in_use 0.0" in page:
                return str(page)
            await asyncio.sleep(0.1)


def decoded(path: Path) -> Sound:
    if path.suffix == ".pcm":
        return np.frombuffer(path.read_bytes(), "<i2").astype(np.float32) / 32767
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    with av.open(io.BytesIO(path.read_bytes()), mode="r") as container:
        frames = [part for item in container.decode(audio=0) for part in resampler.resample(item)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])


def check_heard(path: Path, expected: Sound) -> None:
    """Of the right length, and a recogniser hears in it what it hears in the native audio."""
    sound = decoded(path)
    assert sound.size / RATE == pytest.approx(expected.size / RATE, abs=0.15), path.name
    if ENGINE == "sine":
        return
    from chatterbox.training.recogniser import transcribe, word_errors, words_of

    heard, reference = words_of(transcribe(sound)), words_of(transcribe(expected))
    assert word_errors(reference, heard) <= 1, (path.name, heard, reference)
    assert word_errors(words_of(TEXT), heard) <= len(words_of(TEXT)) // 3, heard


def num_gone(counted: str) -> float:
    """Utterances whose client went away."""
    lines = [line for line in counted.splitlines() if 'outcome="gone"' in line]
    return float(lines[0].split()[-1]) if lines else 0.0


def test_the_openai_package(tmp_path: Path) -> None:
    """Everybody's first try: sync, async, streaming, every format, and errors by their class."""
    report, expected, counted = asyncio.run(converse("openai_sdk.py", tmp_path))
    files = sorted(tmp_path.iterdir())
    assert len(files) == 8
    for path in files:
        check_heard(path, expected)
    assert report["num_pieces"] > 1
    assert "tts-1" in report["models"]
    assert report["errors"]["token"] == ["AuthenticationError", "invalid_api_key", None, 401]
    assert report["errors"]["voice"] == ["BadRequestError", "unknown_voice", "voice", 400]
    assert num_gone(counted) == 1


def test_pipecats_openai_service(tmp_path: Path) -> None:
    """A voice agent's pipeline: audio, its end, an interruption in mid-speech, a wrong key."""
    report, expected, counted = asyncio.run(converse("pipecat_pipeline.py", tmp_path))
    check_heard(tmp_path / "pipeline.pcm", expected)
    assert report["kinds"] == ["TTSStartedFrame", "TTSStoppedFrame"]
    assert report["interrupted_s"] < 30, "the whole text is two minutes"
    assert num_gone(counted) == 1
    assert report["audio_of_error"] == 0
    assert "401" in report["errors"][0] or "API key" in report["errors"][0]


def test_livekits_openai_plugin(tmp_path: Path) -> None:
    """LiveKit asks for events, and decodes what the Content-Type says."""
    report, expected, counted = asyncio.run(converse("livekit_plugin.py", tmp_path))
    for name in ("events", "events_mp3", "audio", "audio_opus"):
        assert report[name], "the last event is final"
        check_heard(tmp_path / f"{name}.pcm", expected)
    assert report["interrupted_after"] > 0
    assert num_gone(counted) == 1
    assert report["error"] == 401


def test_the_wyoming_client(tmp_path: Path) -> None:
    """Home Assistant's own library, used as Home Assistant uses it, and wyoming-bench."""
    report, expected, counted = asyncio.run(converse("wyoming_client.py", tmp_path))
    for path in sorted(tmp_path.glob("*.pcm")):
        check_heard(path, expected)
    assert len(list(tmp_path.glob("*.pcm"))) == 2
    assert report["bench"] == {"streaming": True, "non_streaming": True}
    assert num_gone(counted) == 1
    assert report["error"] == "unknown_voice"
