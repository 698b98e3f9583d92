"""What a recogniser hears in the sound of the browser, beside the daemon's own samples. Slow."""

import numpy as np
import pytest

from chatterbox.api import SAMPLE_RATE
from chatterboxd_client.listening import Audio
from chatterboxd_client.session import SpeechClient
from chatterboxd_client.spawn import OwnDaemon
from tests.web.stage import TAPPED, Samples, Stage, on_stage

SENTENCES = (
    "The train leaves at nine, so please be at the station early.",
    "My sister keeps two cats and a very old dog in her garden.",
    "We walked along the river until the sun went down.",
    "Open the window and let some fresh air into the room.",
)
MOST_DIFFERENCE = 0.02
"""Of the words: what Opus and the browser may cost."""


async def pcm_of(own: OwnDaemon, text: str) -> Samples:
    async with await SpeechClient.connect(own.url) as client:
        context = await client.open(format="pcm_s16le")
        await context.send_text(text)
        await context.end()
        parts = [event.samples async for event in context.events() if isinstance(event, Audio)]
    return np.concatenate(parts).astype(np.float32) / np.float32(32767)


def halved(samples: Samples) -> Samples:
    """48 kHz to 24 kHz, by dropping the upper half of the spectrum."""
    spectrum = np.fft.rfft(samples[: samples.size // 2 * 2])
    wanted = samples.size // 2
    assert SAMPLE_RATE == 24_000
    return (np.fft.irfft(spectrum[: wanted // 2 + 1], wanted) / 2).astype(np.float32)


@pytest.mark.slow
def test_the_browser_is_as_intelligible_as_the_daemon() -> None:
    """Everything between the engine and the ear may add nothing that a listener mishears."""
    pytest.importorskip("faster_whisper", reason="the recogniser is in the train extra")
    from chatterbox.training.recogniser import transcribe, word_errors, words_of

    def share(heard: list[Samples]) -> float:
        pairs = [
            (words_of(t), words_of(transcribe(s))) for t, s in zip(SENTENCES, heard, strict=True)
        ]
        errors = sum(word_errors(said, found) for said, found in pairs)
        return errors / sum(len(said) for said, _ in pairs)

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await stage.until_ready()
        await stage.tap()
        browser = [halved(await stage.heard_without_underrun(text)) for text in SENTENCES]
        daemon = [await pcm_of(own, text) for text in SENTENCES]
        assert share(browser) <= share(daemon) + MOST_DIFFERENCE

    on_stage(scenario, **TAPPED, daemon=())
