"""Commands in, then one step of the engine at a time; its news and its report out. Knows no thread,
no queue and no loop.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from chatterbox.api import (
    CloningEngine,
    EngineEvent,
    EngineStats,
    MeasuredEngine,
    PcmChunk,
    SegmentFailed,
    SegmentId,
    SegmentWarning,
    SlotIndex,
    SpeechEngine,
    UnspeakableText,
)
from daemon.engine.commands import (
    CloseUtterance,
    Command,
    Hold,
    OpenUtterance,
    RemoveVoice,
    SetOrigin,
    Speak,
)
from daemon.engine.fault_barrier import DeviceLost
from daemon.engine.scheduler import Admission, Scheduler, UtteranceId

_log = logging.getLogger(__name__)

_SHORTEST_WAIT_S = 0.001
"""A floor, lest rounding turn the wait for a moment that has just come into a spin."""
LONGEST_WAIT_S = 3600.0


@dataclass(frozen=True, slots=True)
class NoSlot:
    """The utterance waited too long for a slot, or too many wait; the engine thread has forgotten
    it."""

    is_crowded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """How the engine does: the steps since the last report, and what it is busy with."""

    steps_s: tuple[float, ...]
    num_busy: int
    num_waiting: int
    stats: EngineStats | None = None
    """Of an engine that counts."""


News = EngineEvent | NoSlot
Batch = list[tuple[UtteranceId, News]]
"""What one step has to tell, in order."""


class Stepper:
    """The engine and its scheduler. Whoever owns it gives it commands between two steps."""

    def __init__(
        self, engine: SpeechEngine, scheduler: Scheduler, clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._scheduler = scheduler
        self._clock = clock
        self._voice_of: dict[UtteranceId, str] = {}
        self._unwanted_voices: set[str] = set()
        self._never_started: set[SegmentId] = set()
        self._steps_s: list[float] = []
        self._last_report: EngineReport | None = None

    def apply(self, command: Command) -> None:
        match command:
            case OpenUtterance(utterance_id, max_lead_s, client, voice):
                self._scheduler.open(utterance_id, max_lead_s=max_lead_s, client=client)
                if voice is not None:
                    self._voice_of[utterance_id] = voice
            case Speak(utterance_id, segment):
                self._scheduler.add(utterance_id, segment)
            case SetOrigin(utterance_id, origin_s):
                self._scheduler.set_origin(utterance_id, origin_s)
            case Hold(utterance_id, is_held):
                self._scheduler.hold(utterance_id, is_held=is_held)
            case CloseUtterance(utterance_id):
                self._close(utterance_id)
            case RemoveVoice(name):
                self._unwanted_voices.add(name)
                self._remove_voices()

    def _close(self, utterance_id: UtteranceId) -> None:
        for slot in self._scheduler.close(utterance_id):
            self._engine.release(slot)
        self._voice_of.pop(utterance_id, None)
        if self._unwanted_voices:
            self._remove_voices()

    def add_voice(self, name: str, path: Path) -> Exception | None:
        """What went wrong, if something did; speech goes on then, unless the device is lost."""
        assert isinstance(self._engine, CloningEngine), "the fault barrier is one"
        try:
            self._engine.add_voice(name, path)
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 - whoever waits for the voice raises it
            return error
        return None

    def _remove_voices(self) -> None:
        assert isinstance(self._engine, CloningEngine), "the fault barrier is one"
        unused = self._unwanted_voices - set(self._voice_of.values())
        for name in unused:
            self._engine.remove_voice(name)
        self._unwanted_voices -= unused

    def step(self) -> tuple[Batch, float]:
        """Start what may start, advance who wants audio; returns the news and how long nothing
        will happen unless a command comes."""
        now_s = self._clock()
        batch = self._give_up_on_expired(now_s)
        for admission in self._scheduler.admit(now_s):
            batch += self._record(self._start(admission))
        batch += self._give_up_on_crowd()
        slots = self._scheduler.slots_to_step(now_s)
        if slots:
            return batch + self._record(self._timed_step(slots)), 0.0
        if batch:  # what has just ended may let others start
            return batch, 0.0
        wait_s = self._scheduler.next_wake_s(now_s) - now_s
        return batch, min(max(wait_s, _SHORTEST_WAIT_S), LONGEST_WAIT_S)

    def _give_up_on_expired(self, now_s: float) -> Batch:
        batch: Batch = []
        for utterance_id in self._scheduler.expired(now_s):
            self._close(utterance_id)
            batch.append((utterance_id, NoSlot()))
        return batch

    def _give_up_on_crowd(self) -> Batch:
        batch: Batch = []
        for utterance_id in self._scheduler.crowded_out():
            self._close(utterance_id)
            batch.append((utterance_id, NoSlot(is_crowded=True)))
        return batch

    def _timed_step(self, slots: Sequence[SlotIndex]) -> list[EngineEvent]:
        started_s = self._clock()
        events = self._engine.step(slots)
        self._steps_s.append(self._clock() - started_s)
        return events

    @property
    def has_unreported(self) -> bool:
        last = self._last_report
        return bool(self._steps_s) or last is None or last != self._new_report()

    def report(self) -> EngineReport:
        report = self._new_report()
        self._steps_s.clear()
        self._last_report = replace(report, steps_s=())
        if isinstance(self._engine, MeasuredEngine):
            return replace(report, stats=self._engine.take_stats())
        return report

    def _new_report(self) -> EngineReport:
        return EngineReport(
            steps_s=tuple(self._steps_s),
            num_busy=self._scheduler.num_busy_slots,
            num_waiting=self._scheduler.num_waiting,
        )

    def _start(self, admission: Admission) -> list[EngineEvent]:
        """A segment that cannot start ends at once, and alone; the engine left its slot free."""
        segment = admission.segment
        try:
            return self._engine.start(admission.slot, segment)
        except UnspeakableText as error:
            nothing = np.zeros(0, dtype=np.float32)
            events: list[EngineEvent] = [
                SegmentWarning(segment_id=segment.id, code="unspeakable", message=str(error)),
                PcmChunk(segment_id=segment.id, samples=nothing, is_last=True),
            ]
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 - logged, and told to its listener
            _log.exception("segment %d could not be started", segment.id)
            events = [SegmentFailed(segment_id=segment.id, message=str(error))]
        self._never_started.add(segment.id)
        return events

    def _record(self, events: Sequence[EngineEvent]) -> Batch:
        """Tell the scheduler, free the slots of what is over, address the news."""
        batch: Batch = [(self._scheduler.utterance_of(event.segment_id), event) for event in events]
        for event in events:
            if isinstance(event, PcmChunk):
                self._scheduler.record(event.segment_id, num_samples=event.samples.size)
            if isinstance(event, SegmentFailed) or (isinstance(event, PcmChunk) and event.is_last):
                self._finish(event.segment_id)
        return batch

    def _finish(self, segment_id: SegmentId) -> None:
        slot = self._scheduler.finish(segment_id)
        if segment_id in self._never_started:
            self._never_started.discard(segment_id)
        else:
            self._engine.release(slot)
