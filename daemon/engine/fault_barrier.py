"""An engine in; the same engine out, whose failing step costs the segments of that step alone.

A device that is lost stays lost in this process: that is raised, and ends the daemon. So are
several failing steps on end, whatever they say. Runs on the engine's thread.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from chatterbox.api import (
    CloningEngine,
    EngineEvent,
    EngineInfo,
    EngineStats,
    MeasuredEngine,
    Segment,
    SegmentFailed,
    SlotIndex,
    SpeechEngine,
)

_log = logging.getLogger(__name__)

MAX_FAILING_STEPS = 3
"""So many on end are no accident."""
_LOST = ("cuda error", "device-side assert", "cublas_status", "cudnn_status", "hip error")
"""In the texts of errors after which every further call to the device fails as well. Running out of
memory says none of these, and passes."""


class FaultBarrier:
    """Stands before an engine and keeps its contract."""

    def __init__(self, engine: SpeechEngine) -> None:
        self._engine = engine
        self._segments: dict[SlotIndex, Segment] = {}
        self._num_failing_steps = 0

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    def warm_up(self) -> None:
        self._engine.warm_up()

    def start(self, slot: SlotIndex, segment: Segment) -> list[EngineEvent]:
        try:
            events = self._engine.start(slot, segment)
        except Exception as error:
            if is_device_lost(error):
                raise DeviceLost(str(error)) from error
            raise
        self._segments[slot] = segment
        return events

    def step(self, slots: Sequence[SlotIndex]) -> list[EngineEvent]:
        try:
            events = self._engine.step(slots)
        except Exception as error:
            self._num_failing_steps += 1
            if is_device_lost(error):
                raise DeviceLost(str(error)) from error
            if self._num_failing_steps >= MAX_FAILING_STEPS:
                raise
            _log.exception("a step failed, and %d segments with it", len(slots))
            return [
                SegmentFailed(segment_id=self._segments[slot].id, message="the engine failed")
                for slot in slots
            ]
        self._num_failing_steps = 0
        return events

    def take_stats(self) -> EngineStats | None:
        """None if the engine does not count."""
        return self._engine.take_stats() if isinstance(self._engine, MeasuredEngine) else None

    def add_voice(self, name: str, path: Path) -> None:
        assert isinstance(self._engine, CloningEngine), "its info says that it can clone"
        try:
            self._engine.add_voice(name, path)
        except Exception as error:
            if is_device_lost(error):
                raise DeviceLost(str(error)) from error
            raise

    def remove_voice(self, name: str) -> None:
        assert isinstance(self._engine, CloningEngine), "it has added the voice"
        self._engine.remove_voice(name)

    def release(self, slot: SlotIndex) -> None:
        self._engine.release(slot)
        del self._segments[slot]


class DeviceLost(Exception):
    """No call to the device will succeed again in this process."""


def is_device_lost(error: BaseException) -> bool:
    """By its text: the daemon knows no device, and libraries raise plain RuntimeErrors for this."""
    text = f"{type(error).__name__}: {error}".lower()
    return "acceleratorerror" in text or any(sign in text for sign in _LOST)
