"""Phonemes and when each ends in; words, their stress and the places of pauses out. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

COMMAS = ",;:—…"
STOPS = ".!?"
_STRESS = "\N{MODIFIER LETTER VERTICAL LINE}"
_MARKS = COMMAS + STOPS + '"“”()'


@dataclass(frozen=True, slots=True)
class WordSpan:
    start_s: float
    end_s: float
    is_stressed: bool
    """Whether it has a syllable of primary stress; function words have none."""


@dataclass(frozen=True, slots=True)
class Gap:
    """From the end of one word to the start of the next."""

    start_s: float
    end_s: float
    kind: str
    """`comma`, `stop` or, without punctuation, `plain`."""


@dataclass(frozen=True, slots=True)
class TextTiming:
    words: tuple[WordSpan, ...]
    gaps: tuple[Gap, ...]


def text_timing(phonemes: str, ends: Sequence[float]) -> TextTiming:
    """`ends[i]` is when phoneme character i ends, in seconds."""
    words: list[WordSpan] = []
    between: list[str] = []
    start = 0
    for token in phonemes.split(" "):
        sound = [start + k for k, char in enumerate(token) if char not in _MARKS]
        marks = "".join(char for char in token if char in _MARKS)
        if sound:
            first = float(ends[sound[0] - 1]) if sound[0] else 0.0
            words.append(WordSpan(first, float(ends[sound[-1]]), _STRESS in token))
            between.append(marks)
        elif between:
            between[-1] += marks
        start += len(token) + 1
    gaps = [
        Gap(left.end_s, right.start_s, _kind(marks))
        for left, right, marks in zip(words, words[1:], between, strict=False)
    ]
    return TextTiming(tuple(words), tuple(gaps))


def _kind(marks: str) -> str:
    if any(mark in STOPS for mark in marks):
        return "stop"
    return "comma" if any(mark in COMMAS for mark in marks) else "plain"
