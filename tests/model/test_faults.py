"""A fault in each stage of a step: its segments fail, a resting one goes on bit for bit, and the
slot serves again as if nothing had been.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from chatterbox.api import PcmChunk, SegmentFailed, SlotIndex
from chatterbox.engine import ChatterboxEngine
from daemon.engine.fault_barrier import FaultBarrier
from tests.model.random_engine import random_engine, segment, speak

ZERO, ONE = SlotIndex(0), SlotIndex(1)
TEXT = "streaming speech, one window after the other"


class FailsOnce:
    """One stage of the engine, whose next call raises."""

    def __init__(self, stage: object) -> None:
        self._stage = stage
        self.has_failed = False

    def _fail(self) -> None:
        if not self.has_failed:
            self.has_failed = True
            raise RuntimeError("a kernel that does not like its shapes")

    def __call__(self, *arguments: object, **options: object) -> object:
        self._fail()
        return self._stage(*arguments, **options)  # type: ignore[operator]

    def decode(self, *arguments: object, **options: object) -> object:
        self._fail()
        return self._stage.decode(*arguments, **options)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self._stage, name)


def to_the_end(barrier: FaultBarrier, slot: SlotIndex) -> NDArray[np.float32]:
    pieces = []
    while True:
        for event in barrier.step([slot]):
            if isinstance(event, PcmChunk):
                pieces.append(event.samples)
                if event.is_last:
                    barrier.release(slot)
                    return np.concatenate(pieces)


@pytest.mark.parametrize("stage", ["t3", "flow", "vocoder"])
def test_a_fault_in_a_stage_stays_in_its_step(stage: str) -> None:
    """Speech of others must not pay for it, now or when the slot is used again."""
    engine: ChatterboxEngine = random_engine()
    rested = speak(engine, 0, segment(1, TEXT, seed=7))
    fresh = speak(engine, 1, segment(2, TEXT, seed=8))
    barrier = FaultBarrier(engine)
    barrier.start(ZERO, segment(3, TEXT, seed=7))
    barrier.start(ONE, segment(4, TEXT, seed=8))
    fault = FailsOnce(getattr(engine.stages, stage))
    setattr(engine.stages, stage, fault)
    events = []
    while not fault.has_failed:
        events = barrier.step([ONE])
    setattr(engine.stages, stage, fault._stage)
    assert [type(event) for event in events] == [SegmentFailed]
    assert events[0].segment_id == 4
    barrier.release(ONE)
    assert np.array_equal(to_the_end(barrier, ZERO), rested)
    barrier.start(ONE, segment(5, TEXT, seed=8))
    assert np.array_equal(to_the_end(barrier, ONE), fresh)
