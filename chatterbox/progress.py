"""What the host knows of one busy slot: which tokens, mel frames and samples of its segment exist.
No tensors.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from chatterbox.api import EngineEvent, PcmChunk, Segment, SpokenWord, WordsTimed
from chatterbox.silence import Samples, SilenceTrimmer
from chatterbox.t3.runaway import LoopWatch
from chatterbox.text.front_end import TokenSpan
from chatterbox.timing import WordClock

RUNAWAY_SILENCE_S = 1.5
"""A token predictor that has been silent for so long, at its own speed, has missed its stop."""


@dataclass(slots=True)
class Part:
    """One generation of T3: a whole segment, or a piece of one that is too long for the model."""

    text_tokens: Sequence[int]
    max_speech_tokens: int
    prefix: int
    """Positions of conditioning and text before the first speech token."""
    draws: int = 0
    """Tokens whose draw was launched; the host knows `steps` of them, or will from `unread`."""
    unread: deque[int] = field(default_factory=deque)
    steps: int = 0
    tokens: int = 0
    committed_tokens: int = 0
    emitted_frames: int = 0
    known_f0: int = 0
    tokens_finished: bool = False
    audio_finished: bool = False
    """Everything is on its way to becoming samples."""
    unheard: int = 0
    """Windows of samples that have not arrived."""
    trimmer: SilenceTrimmer = field(default_factory=SilenceTrimmer)
    loop: LoopWatch = field(default_factory=LoopWatch)
    words: WordClock | None = None
    """For voices whose tokens have names."""
    speed: float = 1.0

    def hear(self, samples: Samples) -> tuple[list[SpokenWord], Samples]:
        """The next samples, trimmed, and the words that are through with them."""
        before = self.trimmer.num_given
        given = self.trimmer.push(samples)
        if self.words is None:
            return [], given
        return self.words.heard(self.trimmer, num_left=before), given

    def close(self) -> tuple[list[SpokenWord], Samples]:
        """The last samples and words."""
        before = self.trimmer.num_given
        tail = self.trimmer.finish()
        if self.words is None:
            return [], tail
        return self.words.finish(self.trimmer, num_left=before, num_tokens=self.tokens), tail

    @property
    def tail(self) -> int:
        """Tokens at the end that say nothing because the model has missed its stop: a loop, or all
        that followed a long silence; 0 while it speaks.
        """
        silent = self.trimmer.held_s * self.speed > RUNAWAY_SILENCE_S
        return self.tokens if silent else self.loop.repeated

    @property
    def may_draw(self) -> bool:
        return not self.tokens_finished and self.draws < self.max_speech_tokens

    @property
    def positions(self) -> int:
        """Positions in the cache once the next draw is done."""
        return self.prefix + self.draws + 1


@dataclass(slots=True)
class Progress:
    """A busy slot: its segment, the part being spoken and those that wait."""

    segment: Segment
    waiting: deque[list[int]]
    part: Part
    finished: bool = False
    words: Sequence[TokenSpan] = ()
    """Of all parts."""
    num_tokens_before: int = 0
    """Text tokens of the parts before the one being spoken."""
    num_samples_before: int = 0

    def news(
        self, words: Sequence[SpokenWord], samples: Samples, *, is_last: bool
    ) -> list[EngineEvent]:
        """What is told of samples and words of the part being spoken."""
        events: list[EngineEvent] = []
        if words:
            offset = self.num_samples_before
            placed = tuple(
                replace(
                    word,
                    start_sample=word.start_sample + offset,
                    end_sample=word.end_sample + offset,
                )
                for word in words
            )
            events.append(WordsTimed(segment_id=self.segment.id, words=placed))
        if len(samples) or is_last:
            chunk = PcmChunk(segment_id=self.segment.id, samples=samples, is_last=is_last)
            events.append(chunk)
        return events

    def leave_part(self) -> None:
        """It is complete, another one follows."""
        self.num_tokens_before += len(self.part.text_tokens)
        self.num_samples_before += self.part.trimmer.num_given


def words_between(words: Sequence[TokenSpan], begin: int, end: int) -> list[TokenSpan]:
    """The words whose first text token is one of these, counted from `begin`."""
    return [
        TokenSpan(word.runs, word.first - begin, min(word.last, end) - begin)
        for word in words
        if begin <= word.first < end
    ]


def split_tokens(tokens: Sequence[int], longest: int, separator: int | None) -> list[list[int]]:
    """Text tokens in pieces of at most `longest`, cut after a separator where there is one in the
    second half.
    """
    pieces, start = [], 0
    while len(tokens) - start > longest:
        end = start + longest
        while separator is not None and end > start + longest // 2 and tokens[end - 1] != separator:
            end -= 1
        if end <= start + longest // 2:
            end = start + longest
        pieces.append(list(tokens[start:end]))
        start = end
    pieces.append(list(tokens[start:]))
    return pieces
