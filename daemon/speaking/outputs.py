"""What an utterance gives out, in order: audio, words and notes. Types alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.speaking.segmenter import Piece


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentBegun:
    """The samples that follow belong to this piece of text; `sample` is where they start."""

    index: int
    piece: Piece
    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The next samples of the utterance: speech, or the silence of a pause."""

    samples: NDArray[np.float32]
    is_pause: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedWord:
    """Characters `start` up to `end` of the utterance's text, heard from `start_sample` to
    `end_sample` of its audio.
    """

    text: str
    start: int
    end: int
    start_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WordsSpoken:
    """The next words, in order. Each comes before the `Samples` that go past its end (words that
    are said as one, with the last of them), and if its time is known so early, before those it
    begins in; all of a segment before its tail.
    """

    words: tuple[TimedWord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushReached:
    number: int
    end: int
    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentTrouble:
    """A warning about a segment, or with `is_failure` the news that it is left out. Without an
    index it is about the text.
    """

    index: int | None
    code: str
    message: str
    is_failure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceEnded:
    num_samples: int
    num_segments: int
    num_chars: int


UtteranceOutput = (
    SegmentBegun | Samples | WordsSpoken | FlushReached | SegmentTrouble | UtteranceEnded
)
