"""The measurement of word times, on words made up for it: no model, no recogniser."""

import numpy as np
import pytest

from chatterbox.training.evaluation.word_times import Errors, Timed, ends_by_attention, heard
from chatterbox.training.recogniser import HeardWord


def row(*words: tuple[str, float, float]) -> list[Timed]:
    return [Timed(*word) for word in words]


def test_only_the_same_words_are_compared() -> None:
    """A word that was misheard has a time of its own; it must count for nobody."""
    errors = Errors()
    truth = row(("one", 0.0, 0.2), ("two", 0.3, 0.5), ("three", 0.6, 0.9), ("two", 1.0, 1.2))
    told = row(("one", 0.01, 0.2), ("to", 5.0, 6.0), ("three", 0.57, 0.95), ("two", 1.1, 1.3))
    errors.add(told, truth)
    assert errors.starts_ms == pytest.approx([10, -30, 100])
    assert errors.ends_ms == pytest.approx([0, 50, 100])
    figures = errors.figures()
    assert figures["words"] == 3
    assert (figures["start_p50_ms"], figures["start_late_ms"]) == (30.0, 10.0)
    assert figures["end_p95_ms"] == pytest.approx(95.0)


def test_a_recogniser_s_figures_are_left_out() -> None:
    """It writes "$5" and "twenty-one" its own way; which part of it is which word nobody knows."""
    words = [HeardWord("It", 0, 1), HeardWord("costs", 1, 2), HeardWord("$5,", 2, 3)]
    assert heard([*words, HeardWord("-", 3, 3), HeardWord("Mr.", 3, 4)]) == row(
        ("it", 0, 1), ("costs", 1, 2), ("mr", 3, 4)
    )


def test_the_way_through_the_text_never_goes_back() -> None:
    """One look at a letter that comes again elsewhere must not move all that follows."""
    places = [0, 0, 1, 4, 1, 2, 4, 4]  # which text token each speech token looks at
    weights = np.full((len(places), 5), -6.0, np.float32)
    weights[np.arange(len(places)), places] = -0.1
    # Token 3 is too short to be looked at.
    assert ends_by_attention(weights).tolist() == pytest.approx([0.08, 0.2, 0.24, 0.24, 0.32])
