"""One segment of an utterance: its piece of text, what is held of its audio, its words. No I/O."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from chatterbox.api import SAMPLE_RATE, SpokenWord
from daemon.speaking.outputs import TimedWord, UtteranceOutput, WordsSpoken
from daemon.speaking.segmenter import Pause, Piece
from daemon.speaking.word_estimate import WordEstimate

_PAUSE_MS: Mapping[Pause, int] = {
    Pause.NONE: 30,
    Pause.SHORT: 120,
    Pause.CLAUSE: 180,
    Pause.SENTENCE: 300,
    Pause.PARAGRAPH: 500,
}
TAIL_MS = 30
"""Silence that follows every segment at once, the last one too. It pushes the segment's last
samples out of the packet being filled and through the codec's lookahead (20 + 6.5 ms), so that a
writer who stalls does not cut a word. No pause is shorter, so the total does not depend on when
text arrived."""


def samples_of(duration_ms: int) -> int:
    return duration_ms * SAMPLE_RATE // 1000


@dataclass(slots=True)
class Part:
    """One segment on its way from text to samples."""

    index: int
    piece: Piece
    start_sample: int | None = None
    num_samples: int = 0
    is_ended: bool = False
    has_failed: bool = False
    has_tail: bool = False
    is_before_break: bool = False
    """The text says how long the pause after it is."""
    held_back: list[NDArray[np.float32]] = field(default_factory=list)
    estimate: WordEstimate | None = None
    """Where its engine tells no times."""
    waiting_words: deque[SpokenWord] = field(default_factory=deque)
    words: list[TimedWord] = field(default_factory=list)
    """Those given out."""

    @property
    def later_pause_samples(self) -> int:
        """The pause that follows if another segment does, less what the tail gave already."""
        if self.is_before_break or not self.num_samples:
            return 0
        return samples_of(_PAUSE_MS[self.piece.pause] - TAIL_MS)

    def fail(self) -> None:
        """No more of it comes: what is not out yet will not be spoken."""
        self.is_ended = self.has_failed = True
        self.estimate = None
        self.waiting_words.clear()

    def take_words(self, num_samples: int, *, pace: float) -> list[UtteranceOutput]:
        """The words to give out before so many samples of it are."""
        assert self.start_sample is not None
        if self.estimate is not None:
            held = sum(samples.size for samples in self.held_back)
            self.waiting_words += self.estimate.words_until(
                num_samples,
                num_left=self.num_samples,
                total=self.num_samples + held if self.is_ended else None,
                pace=pace,
            )
        words = []
        while self.waiting_words and (
            self.waiting_words[0].start_sample < num_samples
            or (self.is_ended and not self.held_back)
        ):
            words.append(self._placed(self.waiting_words.popleft(), self.start_sample))
        self.words += words
        return [WordsSpoken(words=tuple(words))] if words else []

    def _placed(self, word: SpokenWord, start_sample: int) -> TimedWord:
        return TimedWord(
            text=self.piece.text[word.start : word.end],
            start=self.piece.start + word.start,
            end=self.piece.start + word.end,
            start_sample=start_sample + word.start_sample,
            end_sample=start_sample + word.end_sample,
        )
