"""The speech tokens of one generation in, as they are drawn; when each word is heard out. numpy
only.

For a voice whose tokens name the phonemes that sound: what is heard is laid over what was to be
said, in order. Phonemes may be too short to be named, and a rare pair of them is named by another,
so both have a price, and the cheapest way through counts (Viterbi).
"""

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chatterbox.api import SAMPLE_RATE, SpokenWord
from chatterbox.config import SPEECH_CODES, TOKEN_RATE
from chatterbox.silence import SilenceTrimmer
from chatterbox.text.front_end import TokenSpan

HALF_SAMPLES = SAMPLE_RATE // TOKEN_RATE // 2
WRONG = 1.0
"""Another phoneme is named than the one that is to sound."""
SKIPPED = 0.5
"""A phoneme is never named. Less than half of two wrong ones, or it would be heard nowhere."""


class Alignment:
    """Half tokens laid over text tokens, one after the other."""

    def __init__(self, text_tokens: Sequence[int], halves: NDArray[np.int16]) -> None:
        self._text = np.asarray(text_tokens, np.int16)
        self._halves = halves
        self._index = np.arange(len(self._text))
        self._skips = SKIPPED * self._index
        self._costs = self._skips
        self._from: list[NDArray[np.int16]] = []
        self._best: list[int] = []

    @property
    def num_halves(self) -> int:
        return len(self._from)

    def push(self, speech_token: int) -> None:
        for phoneme in self._halves[speech_token]:
            came_from = self._index.astype(np.int16)
            if self._from:
                came_from, self._costs = self._stayed_or_gone_on()
            self._costs = self._costs + np.where(self._text == phoneme, 0.0, WRONG)
            self._from.append(came_from)
            self._best.append(int(self._costs.argmin()))

    def _stayed_or_gone_on(self) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
        """For each text token: which one sounded in the half before, and at what price."""
        from_zero = self._costs - self._skips
        cheapest = np.minimum.accumulate(from_zero)
        where = np.maximum.accumulate(np.where(from_zero == cheapest, self._index, 0))
        gone_on = np.full_like(self._costs, np.inf)
        gone_on[1:] = cheapest[:-1] + self._skips[:-1]
        stays = self._costs <= gone_on
        before = np.concatenate([[0], where[:-1]])
        came_from = np.where(stays, self._index, before).astype(np.int16)
        return came_from, np.where(stays, self._costs, gone_on)

    def ends(self, num_halves: int, *, is_whole: bool) -> NDArray[np.int64]:
        """[text tokens]: in which half each one ends, judged by the first so many; `num_halves` and
        one more where it has not ended. With `is_whole` every one has.
        """
        num_tokens = len(self._text)
        ends = np.full(num_tokens, num_halves + 1)
        if not num_halves:
            return ends
        place = self._best[num_halves - 1]
        if is_whole:
            if num_halves == self.num_halves:
                place = int((self._costs + self._skips[::-1]).argmin())
            ends[place:] = num_halves
        for half in range(num_halves - 1, -1, -1):
            before = int(self._from[half][place]) if half else -1
            if before < place:
                ends[max(before, 0) : place] = half
                place = before
        return ends


class WordClock:
    """The words of one generation. What it says depends on the tokens that were known when the
    samples were asked for, never on how far the host ran ahead since.
    """

    def __init__(
        self,
        text_tokens: Sequence[int],
        words: Sequence[TokenSpan],
        halves: NDArray[np.int16],
        *,
        speed: float = 1.0,
    ) -> None:
        self._alignment = Alignment(text_tokens, halves)
        self._half_samples = HALF_SAMPLES / speed
        self._words = deque(words)
        self._launched: deque[int] = deque()
        self._last_end = 0

    def push(self, speech_token: int) -> None:
        """A token was drawn."""
        if speech_token < SPEECH_CODES:
            self._alignment.push(speech_token)

    def note_launch(self) -> None:
        """Samples were asked for, and `heard` will be called once for them."""
        self._launched.append(self._alignment.num_halves)

    def heard(self, trimmer: SilenceTrimmer, *, num_left: int) -> list[SpokenWord]:
        """The words that are through with what the trimmer has given, of which so many samples have
        left already.
        """
        num_halves = self._launched.popleft()
        return self._timed(num_halves, trimmer, num_left, is_whole=False)

    def finish(
        self, trimmer: SilenceTrimmer, *, num_left: int, num_tokens: int
    ) -> list[SpokenWord]:
        """The words that are not out yet. Only so many tokens became sound."""
        num_halves = min(2 * num_tokens, self._alignment.num_halves)
        return self._timed(num_halves, trimmer, num_left, is_whole=True)

    def _timed(
        self, num_halves: int, trimmer: SilenceTrimmer, num_left: int, *, is_whole: bool
    ) -> list[SpokenWord]:
        found: list[SpokenWord] = []
        if not self._words:
            return found
        ends = self._alignment.ends(num_halves, is_whole=is_whole)
        while self._words:
            word = self._words[0]
            end_half = _end_of(ends, word.last)
            end = round(end_half * self._half_samples) - trimmer.num_dropped
            if not is_whole and (end_half > num_halves or end > trimmer.num_given):
                break
            start = round(_end_of(ends, word.first) * self._half_samples) - trimmer.num_dropped
            end = min(max(end, num_left, self._last_end), trimmer.num_given)
            start = min(max(start, self._last_end), end)
            found += _divided(word, start, end)
            self._last_end = end
            self._words.popleft()
        return found


def _end_of(ends: NDArray[np.int64], num_tokens: int) -> int:
    """The half in which the first so many text tokens are through."""
    return int(ends[min(num_tokens, len(ends)) - 1]) if num_tokens else 0


def _divided(word: TokenSpan, start: int, end: int) -> list[SpokenWord]:
    """Runs of the text that are said together share the time by their characters, also where some
    of it has left: what the share is, is known only now.
    """
    total = sum(last - first for first, last in word.runs)
    found, done = [], 0
    for first, last in word.runs:
        begun, done = done, done + last - first
        found.append(
            SpokenWord(
                start=first,
                end=last,
                start_sample=start + (end - start) * begun // total,
                end_sample=start + (end - start) * done // total,
            )
        )
    return found
