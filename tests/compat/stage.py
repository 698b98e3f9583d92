"""A client's script in; its report, what native audio of the same text is, and what the daemon
counted out. With COMPAT_RECORD=1, what it said is kept in recorded/ as well.
"""

import asyncio
import contextlib
import io
import json
import os
import re
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from chatterboxd_client import SpeechClient
from chatterboxd_client.spawn import OwnDaemon, own_daemon
from tests.compat.recorder import Recorder
from tests.compat.recording import FOLDER, KEY, Recording

CLIENTS = Path(__file__).parent / "clients"
_PYTHON = os.environ.get("CLIENTS_PYTHON")
# Not resolved: that it lies in an environment is known by the link.
CLIENTS_PYTHON = None if _PYTHON is None else os.path.abspath(_PYTHON)
ENGINE = os.environ.get("COMPAT_ENGINE", "chatterbox")
IS_RECORDING = bool(os.environ.get("COMPAT_RECORD"))
"""Together with COMPAT_ENGINE=sine: recordings name its voice."""
TEXT = "The train leaves at nine. Please be at the station early."
LONGEST_S = 280.0
RATE = 24_000
Sound = NDArray[np.floating[Any]]

needs_clients = pytest.mark.skipif(
    CLIENTS_PYTHON is None, reason="`make test-compat` has the clients"
)


@dataclass(frozen=True, slots=True)
class Doors:
    """Where a client may knock."""

    main: int
    openai: int
    wyoming: int
    voice: str


@dataclass(frozen=True, slots=True)
class Outcome:
    report: dict[str, Any]
    expected: Sound
    counted: str

    def num_ended(self, how: str) -> float:
        """Utterances, by how they ended: complete, cancelled, gone (their client was), failed."""
        found = re.search(
            rf'^chatterboxd_utterances_total{{outcome="{how}"}} (\S+)$', self.counted, flags=re.M
        )
        return float(found[1]) if found else 0.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Certificate:
    """SSL_CERT_FILE names it for those who must trust it."""

    chain: Path
    key: Path


@contextlib.asynccontextmanager
async def daemon_with_doors(
    certificate: Certificate | None,
) -> AsyncIterator[tuple[OwnDaemon, Doors]]:
    """Of the bundled voice, or of COMPAT_ENGINE; with all its doors, and tokens."""
    openai, wyoming = free_port(), free_port()
    asked = ["--engine", ENGINE, "--openai-port", str(openai)]
    asked += ["--wyoming", f"tcp://127.0.0.1:{wyoming}"]
    if certificate is not None:
        asked += ["--tls-cert", str(certificate.chain), "--tls-key", str(certificate.key)]
    async with own_daemon(asked, environment={"CHATTERBOXD_TOKENS": f"compat={KEY}"}) as daemon:
        if certificate is not None:
            daemon.url = daemon.url.replace("ws://", "wss://")
        main = int(daemon.url.rpartition(":")[2])
        async with await SpeechClient.connect(daemon.url, token=KEY) as client:
            voice = client.begin.default_voice
        yield daemon, Doors(main, openai, wyoming, voice)


@contextlib.asynccontextmanager
async def recorded(
    doors: Doors, *, client: str, name: str, certificate: Certificate | None
) -> AsyncIterator[Doors]:
    """The same doors, or those of a recorder in front of them."""
    if not IS_RECORDING:
        yield doors
        return
    recorder = Recorder()
    tls = None
    if certificate is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate.chain, certificate.key)
    async with (
        recorder.main_port(doors.main, tls=tls) as main,
        recorder.openai_port(doors.openai) as openai,
        recorder.wyoming_port(doors.wyoming) as wyoming,
    ):
        yield Doors(main, openai, wyoming, doors.voice)
    FOLDER.mkdir(exist_ok=True)
    Recording(client, name.partition("_")[2], recorder.conversations).save(FOLDER / f"{name}.jsonl")


async def converse(
    script: str,
    folder: Path,
    *arguments: str,
    name: str,
    package: str,
    certificate: Certificate | None = None,
) -> Outcome:
    """`name` is CLIENT_DIALECT. In the arguments, {main}, {openai}, {wyoming}, {voice}, {key} and
    {folder} stand for themselves."""
    assert CLIENTS_PYTHON is not None
    async with daemon_with_doors(None if IS_RECORDING else certificate) as (daemon, real):
        client = await asyncio.to_thread(_version, CLIENTS_PYTHON, package)
        async with recorded(real, client=client, name=name, certificate=certificate) as doors:
            known = {
                "main": doors.main,
                "openai": doors.openai,
                "wyoming": doors.wyoming,
                "voice": doors.voice,
                "key": KEY,
                "folder": folder,
            }
            done = await asyncio.to_thread(
                subprocess.run,
                [
                    CLIENTS_PYTHON,
                    str(CLIENTS / script),
                    *(text.format(**known) for text in arguments),
                ],
                capture_output=True,
                text=True,
                timeout=LONGEST_S,
                check=False,
            )
        assert done.returncode == 0, done.stderr[-3000:]
        expected = await native_speech(daemon)
        counted = await until_idle(daemon)
    return Outcome(json.loads(done.stdout.splitlines()[-1]), expected, counted)


def _version(python: str, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return f"{package} {done.stdout.strip()}"


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
        daemon.url.replace("ws", "http", 1) + "/metrics",
        headers={"Authorization": f"Bearer {KEY}"},
    )
    async with asyncio.timeout(10):
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


def check_heard(path: Path, expected: Sound, *, slack_s: float = 0.15) -> None:
    """Of the right length, and a recogniser hears in it what it hears in the native audio."""
    sound = decoded(path)
    assert sound.size / RATE == pytest.approx(expected.size / RATE, abs=slack_s), path.name
    if ENGINE == "sine":
        return
    from chatterbox.training.recogniser import transcribe, word_errors, words_of

    heard, reference = words_of(transcribe(sound)), words_of(transcribe(expected))
    assert word_errors(reference, heard) <= 1, (path.name, heard, reference)
    assert word_errors(words_of(TEXT), heard) <= len(words_of(TEXT)) // 3, heard
