"""Text of one segment and the length of its audio in, a guess at when each word is heard out. Pure.

For engines that tell no times. Time is divided in proportion to characters. While the length is
not known yet, it follows from the pace of what was spoken before.
"""

import re
from collections import deque
from typing import Final

from chatterbox.api import SAMPLE_RATE, SpokenWord

_TYPICAL_SAMPLES_PER_CHAR: Final = SAMPLE_RATE / 15
_RUN: Final = re.compile(r"\S+")
_UNSPACED: Final = "\u3000"
"""From here on, scripts have no spaces: every character counts as a word."""


class WordEstimate:
    """The words of one segment that have no time yet."""

    def __init__(self, text: str) -> None:
        self._num_chars = len(text)
        self._spans = deque(word_spans(text))
        self._char = 0
        self._sample = 0

    def words_until(
        self,
        num_samples: int,
        *,
        num_left: int,
        total: int | None,
        samples_per_char: float | None,
    ) -> list[SpokenWord]:
        """The words that are through after `num_samples`, of which so many have left already; all
        of them once the `total` is known.
        """
        expected: float
        if total is None:
            pace = samples_per_char or _TYPICAL_SAMPLES_PER_CHAR
            expected = max(pace * self._num_chars, num_samples + 1)
        else:
            expected = total
        words = []
        while self._spans:
            start, end = self._spans[0]
            pace = max(0.0, expected - self._sample) / (self._num_chars - self._char)
            end_sample = max(num_left, round(self._sample + pace * (end - self._char)))
            if total is None and (end_sample > num_samples or len(self._spans) == 1):
                break
            words.append(
                SpokenWord(
                    start=start,
                    end=end,
                    start_sample=round(self._sample + pace * (start - self._char)),
                    end_sample=end_sample,
                )
            )
            self._char, self._sample = end, end_sample
            self._spans.popleft()
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
