"""Silence is trimmed at the ends of a segment, kept inside, and every edge is at level zero."""

import numpy as np
import pytest
from numpy.typing import NDArray

from chatterbox.api import SAMPLE_RATE
from chatterbox.silence import BLOCK, PRE_ROLL_BLOCKS, TAIL_BLOCKS, SilenceTrimmer

Samples = NDArray[np.float32]


def _tone(blocks: int) -> Samples:
    time = np.arange(blocks * BLOCK) / SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * 200 * time + 1)).astype(np.float32)


def _silence(blocks: int) -> Samples:
    return np.full(blocks * BLOCK, 1e-4, dtype=np.float32)


def _trimmed(samples: Samples, blocks: int) -> Samples:
    trimmer = SilenceTrimmer()
    size = blocks * BLOCK
    pieces = [trimmer.push(samples[i : i + size]) for i in range(0, len(samples), size)]
    return np.concatenate([*pieces, trimmer.finish()])


SPEECH = np.concatenate([_silence(40), _tone(30), _silence(50), _tone(10), _silence(100)])


def test_ends_are_trimmed_and_the_inside_is_kept() -> None:
    """Leading silence would count as latency; a pause inside a sentence is speech."""
    trimmed = _trimmed(SPEECH, 4)
    assert len(trimmed) == (PRE_ROLL_BLOCKS + 30 + 50 + 10 + TAIL_BLOCKS) * BLOCK
    start = PRE_ROLL_BLOCKS * BLOCK
    assert np.array_equal(trimmed[start : start + 90 * BLOCK], SPEECH[40 * BLOCK : 130 * BLOCK])


@pytest.mark.parametrize("blocks", [1, 3, 7, 230])
def test_pieces_give_the_same(blocks: int) -> None:
    """Windows of any size must not move an edge."""
    assert np.array_equal(_trimmed(SPEECH, blocks), _trimmed(SPEECH, 4))


def test_edges_are_at_zero() -> None:
    """Segments are joined end to end: a step there is a click."""
    trimmed = _trimmed(SPEECH, 4)
    assert trimmed[0] == 0
    assert abs(trimmed[-1]) < 1e-6


def test_only_silence_is_nothing() -> None:
    """A segment without sound must not become a short silence that counts as audio."""
    trimmer = SilenceTrimmer()
    assert trimmer.push(_silence(30)).size == 0
    assert trimmer.held_s == pytest.approx(30 * BLOCK / SAMPLE_RATE)
    assert trimmer.finish().size == 0


def test_sound_is_never_held_back() -> None:
    """First audio: the first audible block leaves with the call that brought it."""
    trimmer = SilenceTrimmer()
    assert trimmer.push(_tone(4)).size == 4 * BLOCK
    assert trimmer.held_s == 0


def test_odd_sizes_are_refused() -> None:
    """A partial block would shift every later one."""
    with pytest.raises(ValueError, match="multiple"):
        SilenceTrimmer().push(np.zeros(BLOCK + 1, dtype=np.float32))
