"""What the host knows of one busy slot: which tokens, mel frames and samples of its segment exist.
No tensors.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from chatterbox.api import Segment
from chatterbox.silence import SilenceTrimmer
from chatterbox.t3.runaway import LoopWatch

RUNAWAY_SILENCE_S = 1.5
"""A token predictor that has been silent for so long has missed its stop."""


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

    @property
    def tail(self) -> int:
        """Tokens at the end that say nothing because the model has missed its stop: a loop, or all
        that followed a long silence; 0 while it speaks.
        """
        silent = self.trimmer.held_s > RUNAWAY_SILENCE_S
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
