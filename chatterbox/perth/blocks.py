"""Samples of one segment in, in pieces of any size; windows for the embedder and, with what it
adds, the marked samples out. No tensors.

Where a block begins and how long it is depends on its place in the segment alone, so that the
marked samples do not depend on how the segment came. A segment is marked as a recording of its own:
mirrored at its ends.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from chatterbox.perth.embedder import CONTEXT, CONTEXT_FRAMES
from chatterbox.perth.spectrum import HOP

Samples = NDArray[np.float32]
FIRST_BLOCKS_HOPS = 4
NUM_FIRST_BLOCKS = 4
"""Short ones while somebody may wait for a first sound; long ones cost a third."""
BLOCK_HOPS = 24
_FADE = HOP // 2
"""The mark fades in and out over 5 ms, because segments join at level zero."""
_FOREVER = 2**40
"""Frames of a segment whose end is not known."""


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a segment with its context."""

    start: int
    """Its first sample in the segment."""
    hops: int
    window: Samples  # [CONTEXT + hops * HOP + CONTEXT]
    present: tuple[int, int]
    """Frames of the window that the segment has: from, up to (exclusive)."""


@dataclass(slots=True)
class BlockStream:
    """`push` as samples come and `finish` once; `take_block` what can be marked, and give the
    result to `join`, in the same order.
    """

    _kept: Samples = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    _kept_from: int = 0
    """The place of the first sample kept: older ones are no block's context any more."""
    _total: int | None = None
    _next_start: int = 0
    _num_blocks: int = 0
    _waiting: deque[Block] = field(default_factory=deque)

    @property
    def _end(self) -> int:
        return self._kept_from + self._kept.size

    @property
    def is_done(self) -> bool:
        """All of the segment has been joined."""
        return self._total is not None and self._next_start >= self._total and not self._waiting

    def push(self, samples: Samples) -> None:
        assert self._total is None, "nothing follows the end of a segment"
        self._kept = np.concatenate([self._kept, samples])

    def finish(self) -> None:
        self._total = self._end

    def take_block(self) -> Block | None:
        """The next one, if its context is there."""
        start = self._next_start
        hops = FIRST_BLOCKS_HOPS if self._num_blocks < NUM_FIRST_BLOCKS else BLOCK_HOPS
        end = start + hops * HOP
        if self._total is None:
            if self._end < end + CONTEXT:
                return None
        elif start >= self._total:
            return None
        block = Block(
            start, hops, self._window(start - CONTEXT, end + CONTEXT), self._frames(start, hops)
        )
        self._next_start = end
        self._num_blocks += 1
        self._waiting.append(block)
        self._forget(end - CONTEXT)
        return block

    def join(self, added: Samples) -> Samples:
        """The oldest block's own samples, with what the embedder adds."""
        block = self._waiting.popleft()
        length = block.hops * HOP
        stop = (
            block.start + length if self._total is None else min(self._total, block.start + length)
        )
        length = stop - block.start
        place = np.arange(block.start, stop)
        from_edge = place if self._total is None else np.minimum(place, self._total - 1 - place)
        fade = np.minimum(1.0, from_edge / _FADE).astype(np.float32)
        own = block.window[CONTEXT : CONTEXT + length]
        return np.clip(own + added[:length] * fade, -1.0, 1.0)

    def _window(self, start: int, end: int) -> Samples:
        """From `start` to `end`, mirrored at the ends of the segment as often as it takes."""
        place = np.abs(np.arange(start, end))
        if self._total is not None:
            period = max(1, 2 * (self._total - 1))
            place = place % period
            place = np.minimum(place, period - place)
        index = np.clip(place - self._kept_from, 0, self._kept.size - 1)
        window: Samples = self._kept[index]
        return window

    def _frames(self, start: int, hops: int) -> tuple[int, int]:
        first = start // HOP - CONTEXT_FRAMES
        num_frames = hops + 2 * CONTEXT_FRAMES + 1
        known = _FOREVER if self._total is None else 1 + self._total // HOP
        return min(num_frames, max(0, -first)), min(num_frames, max(0, known - first))

    def _forget(self, before: int) -> None:
        """What no later block looks at. A mirror image reaches no farther than the context."""
        surplus = before - self._kept_from
        if surplus > 0:
            self._kept = self._kept[surplus:]
            self._kept_from = before
