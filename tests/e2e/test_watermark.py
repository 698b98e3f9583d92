"""The watermark through the real daemon, the bundled voice and Opus: who asked for it has it."""

import asyncio
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chatterbox.perth.detector import load_detector
from chatterboxd_client.listening import Audio
from chatterboxd_client.session import SpeechClient
from chatterboxd_client.spawn import own_daemon

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
