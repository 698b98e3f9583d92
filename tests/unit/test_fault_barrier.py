"""A failing step: who is lost with it, who goes on, and when the whole engine is given up."""

from collections.abc import Sequence

import pytest

from chatterbox.api import EngineEvent, PcmChunk, Segment, SegmentFailed, SegmentId, SlotIndex
from daemon.engine.fault_barrier import DeviceLost, FaultBarrier, is_device_lost
from tests.fakes import RecordingEngine

ZERO, ONE = SlotIndex(0), SlotIndex(1)


class Faulty(RecordingEngine):
    """Raises what stands next in `faults`, a None at a time."""

    def __init__(self, *faults: Exception | None) -> None:
        super().__init__(num_slots=2)
        self.faults = list(faults)

    def step(self, slots: Sequence[SlotIndex]) -> list[EngineEvent]:
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        return super().step(slots)


def segment(number: int) -> Segment:
    return Segment(id=SegmentId(number), text="Hello there, dear friend.", voice="sine")


def test_a_failing_step_costs_its_own_segments() -> None:
    """The one that rested goes on where it was; the slots of the others serve again."""
    engine = Faulty(None, RuntimeError("shapes do not agree"))
    barrier = FaultBarrier(engine)
    for slot, number in ((ZERO, 1), (ONE, 2)):
        barrier.start(slot, segment(number))
    first = barrier.step([ZERO, ONE])
    assert [type(event) for event in first] == [PcmChunk, PcmChunk]
    failed = barrier.step([ONE])
    assert [(type(event), event.segment_id) for event in failed] == [(SegmentFailed, 2)]
    barrier.release(ONE)
    barrier.start(ONE, segment(3))
    events = barrier.step([ZERO, ONE])
    assert [(type(event), event.segment_id) for event in events] == [(PcmChunk, 1), (PcmChunk, 3)]


def test_a_client_is_not_told_the_engines_secrets() -> None:
    """Texts of exceptions hold paths and addresses; the log has them."""
    barrier = FaultBarrier(Faulty(RuntimeError("/home/me/model.py at 0x7f")))
    barrier.start(ZERO, segment(1))
    (event,) = barrier.step([ZERO])
    assert isinstance(event, SegmentFailed)
    assert event.message == "the engine failed"


def test_failing_again_and_again_is_being_broken() -> None:
    """An engine that fails every step would otherwise eat every text without a sound."""
    faults = [RuntimeError("no")] * 2
    barrier = FaultBarrier(Faulty(*faults, None, *faults, RuntimeError("no more")))
    barrier.start(ZERO, segment(1))
    for _ in range(5):
        barrier.step([ZERO])
    with pytest.raises(RuntimeError, match="no more"):
        barrier.step([ZERO])


class AcceleratorError(RuntimeError):
    """As torch calls it."""


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED"), True),
        (AcceleratorError("whatever it says"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), False),
        (RuntimeError("The size of tensor a (3) must match"), False),
        (AssertionError("slot 3 is free"), False),
    ],
)
def test_what_a_lost_device_says(error: Exception, is_lost: bool) -> None:
    """After these nothing works until the process is a new one; after the others all does."""
    assert is_device_lost(error) == is_lost
    barrier = FaultBarrier(Faulty(error))
    barrier.start(ZERO, segment(1))
    if is_lost:
        with pytest.raises(DeviceLost):
            barrier.step([ZERO])
    else:
        assert isinstance(barrier.step([ZERO])[0], SegmentFailed)


def test_a_device_lost_at_the_start_of_a_segment_is_lost() -> None:
    """Otherwise each text in turn would fail alone, for ever."""

    class LostAtStart(RecordingEngine):
        def start(self, slot: SlotIndex, segment: Segment) -> list[EngineEvent]:
            raise RuntimeError("CUDA error: unspecified launch failure")

    with pytest.raises(DeviceLost):
        FaultBarrier(LostAtStart()).start(ZERO, segment(1))
