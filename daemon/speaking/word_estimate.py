"""Text of one segment and the length of its audio in, a guess at when each word is heard out. Pure.

For engines that tell no times. Time is shared out by what there is to say: letters, figures, which
take longer, and the pauses that punctuation asks for (EXPERIMENTS.md has the measurement). While
the length is not known yet, it follows from the pace of what the voice has said before.
"""

import re
from collections import OrderedDict, deque
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from chatterbox.api import SAMPLE_RATE, SpokenWord

_RUN: Final = re.compile(r"\S+")
_UNSPACED: Final = "\u3000"
"""From here on, scripts have no spaces: every character counts as a word."""
_FIGURE: Final = 5.0
_SYLLABLE: Final = 3.0
_SPACE: Final = 0.7
_PAUSES: Final = {**dict.fromkeys(",;:–—、", 3.5), **dict.fromkeys(".!?…。", 4.5)}
_TYPICAL_PACE: Final = 0.06 * SAMPLE_RATE
"""Samples of a letter."""
_TYPICAL_COUNTS: Final = 12.0
"""As many letters as the typical pace counts beside what was heard."""
_MEMORY: Final = 0.8
"""What a segment leaves of the weight of those before it."""
_MAX_VOICES: Final = 256


def letters_in(text: str) -> list[float]:
    """How many letters it takes as long to say as each of these characters. The pause after the
    last word is none of the segment's.
    """
    last = max((index for index, char in enumerate(text) if char.isalnum()), default=-1)
    return [_letters(char) if index <= last else 0.0 for index, char in enumerate(text)]


def _letters(char: str) -> float:
    if char.isalnum():
        if char.isdigit():
            return _FIGURE
        return _SYLLABLE if char >= _UNSPACED else 1.0
    return _SPACE if char.isspace() else _PAUSES.get(char, 0.0)


class Paces:
    """How fast each voice speaks, in samples of a letter, from what it said last."""

    def __init__(self) -> None:
        self._said: OrderedDict[tuple[str, str | None], tuple[float, float]] = OrderedDict()

    def of(self, voice: str, language: str | None) -> float:
        letters, samples = self._said.get((voice, language), (0.0, 0.0))
        return (samples + _TYPICAL_COUNTS * _TYPICAL_PACE) / (letters + _TYPICAL_COUNTS)

    def note(self, voice: str, language: str | None, text: str, num_samples: int) -> None:
        """A segment was spoken whole."""
        key = voice, language
        letters, samples = self._said.pop(key, (0.0, 0.0))
        self._said[key] = (
            _MEMORY * letters + sum(letters_in(text)),
            _MEMORY * samples + num_samples,
        )
        if len(self._said) > _MAX_VOICES:
            self._said.popitem(last=False)


class WordEstimate:
    """The words of one segment that have no time yet."""

    def __init__(self, text: str) -> None:
        self._letters_before = [0.0, *accumulate(letters_in(text))]
        self._spans = deque(spans := word_spans(text))
        self._sound_ends = deque(_sound_end(text, *span) for span in spans)
        self._letters = 0.0
        self._sample = 0

    def words_until(
        self, num_samples: int, *, num_left: int, total: int | None, pace: float
    ) -> list[SpokenWord]:
        """The words that are through after `num_samples`, of which so many have left already; all
        of them once the `total` is known.
        """
        guess = max(pace * self._letters_before[-1], num_samples + 1)
        expected = guess if total is None else total
        words = []
        while self._spans:
            start, end = self._spans[0]
            begun, ended = self._letters_before[start], self._letters_before[self._sound_ends[0]]
            left = max(self._letters_before[-1] - self._letters, 1.0)
            per_letter = max(0.0, expected - self._sample) / left
            end_sample = max(num_left, round(self._sample + per_letter * (ended - self._letters)))
            if total is None and (end_sample > num_samples or len(self._spans) == 1):
                break
            start_sample = round(self._sample + per_letter * (begun - self._letters))
            words.append(
                SpokenWord(
                    start=start,
                    end=end,
                    start_sample=min(max(start_sample, self._sample), end_sample),
                    end_sample=end_sample,
                )
            )
            self._letters, self._sample = ended, end_sample
            self._spans.popleft()
            self._sound_ends.popleft()
        return words


def word_spans(text: str) -> list[tuple[int, int]]:
    """Characters of each word: runs without white space that hold a letter or digit; each of its
    letters where a script has no spaces, with the marks that follow it.
    """
    spans: list[tuple[int, int]] = []
    for run in _RUN.finditer(text):
        cuts = [run.start()]
        has_letter = False
        for index in range(run.start(), run.end()):
            is_unspaced = max(text[index], text[max(index - 1, run.start())]) >= _UNSPACED
            if has_letter and is_unspaced and text[index].isalnum():
                cuts.append(index)
            has_letter = has_letter or text[index].isalnum()
        if has_letter:
            spans += zip(cuts, [*cuts[1:], run.end()], strict=True)
    return spans


def _sound_end(text: Sequence[str], start: int, end: int) -> int:
    """Where the last letter of a word ends: the marks behind it are pauses."""
    return next(index + 1 for index in range(end - 1, start - 1, -1) if text[index].isalnum())
