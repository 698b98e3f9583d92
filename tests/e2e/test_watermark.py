"""The watermark through the real daemon, the bundled voice and Opus: who asked for it has it."""

import asyncio
import signal
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.exceptions import InvalidStatus

from chatterbox.perth.detector import load_detector
from chatterboxd_client.listening import Audio
from chatterboxd_client.session import SpeechClient
from chatterboxd_client.spawn import own_daemon
from daemon.config import Config, ConfigError
from daemon.server import Daemon
from tests.e2e.processes import daemon_process
from tests.fakes import RecordingEngine

TEXT = "The train leaves at nine. Please be at the station early."
TOKENS = """
[plain]
token = "a-token-without-a-mark"
[marked]
token = "a-token-that-is-marked"
watermark = true
"""
LONGEST_TEST_S = 120.0


async def spoken(url: str, *, token: str | None = None) -> NDArray[np.float32]:
    client = await SpeechClient.connect(url, token=token)
    async with client:
        context = await client.open(format="opus", max_lead_ms=60_000)
        await context.send_text(TEXT)
        await context.end()
        parts = [event.samples async for event in context.events() if isinstance(event, Audio)]
    samples: NDArray[np.float32] = (np.concatenate(parts) / 32768).astype(np.float32)
    return samples


def test_a_tokens_speech_is_marked_and_anothers_is_not(tmp_path: Path) -> None:
    """A mark on everybody, or on nobody, or one that the default bitrate washes away."""
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(TOKENS)
    tokens.chmod(0o600)

    async def run() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        async with own_daemon(["--slots", "2", "--token-file", str(tokens)]) as daemon:
            both = asyncio.gather(
                spoken(daemon.url, token="a-token-without-a-mark"),
                spoken(daemon.url, token="a-token-that-is-marked"),
            )
            return await asyncio.wait_for(both, LONGEST_TEST_S)

    plain, marked = asyncio.run(run())
    detector = load_detector()
    assert plain.size == marked.size
    assert detector.likelihood(plain) < 0.5
    assert detector.likelihood(marked) > 0.5


def test_a_daemon_that_is_told_to_marks_everybody() -> None:
    """The setting alone, without any token."""

    async def run() -> NDArray[np.float32]:
        async with own_daemon(["--slots", "1", "--watermark"]) as daemon:
            return await asyncio.wait_for(spoken(daemon.url), LONGEST_TEST_S)

    assert load_detector().likelihood(asyncio.run(run())) > 0.5


def test_an_engine_that_cannot_mark_serves_nobody() -> None:
    """Speech that the operator wants marked must not leave unmarked for want of a package."""
    daemon = Daemon(Config(port=0, watermark=True), RecordingEngine, environ={})
    with pytest.raises(ConfigError, match="without the watermark"):
        asyncio.run(daemon.run())


def test_a_token_that_is_marked_later_waits_for_a_restart(tmp_path: Path) -> None:
    """SIGHUP reads tokens again, but loads no network: the new entry would not be marked."""
    tokens = tmp_path / "tokens.toml"
    tokens.write_text('[plain]\ntoken = "a-token-without-a-mark"\n')
    tokens.chmod(0o600)
    with daemon_process(tmp_path, "--token-file", str(tokens)) as daemon:
        tokens.write_text(TOKENS)

        async def talk() -> None:
            daemon.process.send_signal(signal.SIGHUP)
            daemon.until_logged("restart the daemon")
            assert (await spoken(daemon.url, token="a-token-without-a-mark")).size
            with pytest.raises(InvalidStatus):
                await spoken(daemon.url, token="a-token-that-is-marked")

        asyncio.run(talk())
        status, errors = daemon.finish(signal.SIGTERM)
    assert status == 0
    assert "restart the daemon" in errors
