"""The evaluation's look into the engine: the bundled voice, window by window and whole."""

from itertools import pairwise

import numpy as np
import pytest

from chatterbox.config import SAMPLES_PER_MEL_FRAME
from chatterbox.training.evaluation.rendition import WatchedEngine, WholeRendering

SHORT = "Good afternoon."


@pytest.fixture(scope="module")
def watched() -> WatchedEngine:
    return WatchedEngine(None, {})


def test_what_is_kept_is_what_was_spoken(watched: WatchedEngine) -> None:
    """Guards the samples that seams are sought in: they must be those of the listener."""
    spoken = watched(SHORT, 3)
    rendition = watched.last
    assert rendition is not None
    assert len(rendition.samples) == len(rendition.mel) * SAMPLES_PER_MEL_FRAME
    middle = spoken[len(spoken) // 3 :][:480]
    wide = np.lib.stride_tricks.sliding_window_view(rendition.samples, len(middle))
    assert (wide == middle).all(axis=1).any()
    assert np.array_equal(watched(SHORT, 3), spoken), "watching leaves nothing behind"


def test_joins_are_the_boundaries_of_windows(watched: WatchedEngine) -> None:
    """Guards the places: seams sought where none are would never be heard."""
    watched("I have read your essay twice, and I think that it is excellent.", 1)
    rendition = watched.last
    assert rendition is not None
    in_tokens = [join // (2 * SAMPLES_PER_MEL_FRAME) for join in rendition.mel_joins]
    assert in_tokens[:3] == [8, 16, 32]
    assert all(b - a == 24 for a, b in pairwise(in_tokens[2:]))
    lags = [a - b for a, b in zip(rendition.mel_joins, rendition.sample_joins, strict=False)]
    assert lags[0] == 8 * SAMPLES_PER_MEL_FRAME
    assert set(lags[1:]) == {12 * SAMPLES_PER_MEL_FRAME}


def test_within_the_context_whole_is_streamed(watched: WatchedEngine) -> None:
    """Guards the comparison itself: with another noise or other blocks the whole would be another
    reading, and its distance would say nothing of the windows.
    """
    watched(SHORT, 5)
    rendition = watched.last
    assert rendition is not None
    assert len(rendition.mel_joins) >= 2
    whole = WholeRendering(watched.engine)
    samples, mel = whole.samples(rendition.tokens, seed=5)
    np.testing.assert_allclose(mel, rendition.mel, atol=1e-3)
    np.testing.assert_allclose(samples, rendition.samples, atol=5e-3)
    other = whole.mel(rendition.tokens, seed=6)
    assert np.abs(other - mel).mean() > 0.01
