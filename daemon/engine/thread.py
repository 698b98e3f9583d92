"""Commands in from the event loop, engine events out to it: the thread that owns the engine.

The only file that knows threads. Nothing but frozen values crosses, and each step wakes the loop at
most once, so that a process could take the place of the thread without a change elsewhere.
"""

import asyncio
import itertools
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chatterbox.api import (
    CloningEngine,
    EngineEvent,
    EngineInfo,
    EngineStats,
    MeasuredEngine,
    PcmChunk,
    Segment,
    SegmentFailed,
    SegmentId,
    SegmentWarning,
    SlotIndex,
    SpeechEngine,
    UnspeakableText,
)
from daemon.engine.fault_barrier import DeviceLost, FaultBarrier
from daemon.engine.scheduler import Admission, Scheduler, UtteranceId

_log = logging.getLogger(__name__)

_SHORTEST_WAIT_S = 0.001
"""A floor, lest rounding turn the wait for a moment that has just come into a spin."""
_LONGEST_WAIT_S = 3600.0


@dataclass(frozen=True, slots=True)
class OpenUtterance:
    utterance_id: UtteranceId
    max_lead_s: float
    client: int | None = None
    """Who asked for it, so that one client with many utterances cannot delay others'."""
    voice: str | None = None
    """What it speaks with: not given up before it is closed."""


@dataclass(frozen=True, slots=True)
class Speak:
    """The next segment of an utterance."""

    utterance_id: UtteranceId
    segment: Segment


@dataclass(frozen=True, slots=True)
class SetOrigin:
    """When the utterance's first sample would have played, had it no pauses and never been dry."""

    utterance_id: UtteranceId
    origin_s: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Stop or go on making audio for an utterance whose packets do not get out."""

    utterance_id: UtteranceId
    is_held: bool


@dataclass(frozen=True, slots=True)
class CloseUtterance:
    """Cancelled or complete: forget it, and free its slots before the next step."""

    utterance_id: UtteranceId


@dataclass(frozen=True, slots=True)
class RemoveVoice:
    """Give up a voice that was added, once nobody speaks with it."""

    name: str


@dataclass(frozen=True, slots=True)
class _AddVoice:
    """Take a voice over from its file; the answer is settled on the loop."""

    name: str
    path: Path
    answer: "asyncio.Future[None]"


@dataclass(frozen=True, slots=True)
class _Echo:
    """Settle this future on the loop: the thread is alive and between two steps."""

    answer: "asyncio.Future[None]"


@dataclass(frozen=True, slots=True)
class _Stop:
    pass


Command = OpenUtterance | Speak | SetOrigin | Hold | CloseUtterance | RemoveVoice


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
Listener = Callable[[News], None]
Batch = list[tuple[UtteranceId, News]]
"""What one step has to tell, in order."""


class EngineThread:
    """All methods belong to the event loop but those that start with `_run`.

    `build_engine` is called on the thread, because engines may keep thread-local settings.
    `on_broken` is called on the loop, once, if the engine breaks after it was ready.
    """

    def __init__(
        self,
        build_engine: Callable[[], SpeechEngine],
        *,
        max_wait_s: float,
        on_broken: Callable[[Exception], None],
        max_waiting: float = math.inf,
        on_report: Callable[[EngineReport], None] = lambda _report: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._build_engine = build_engine
        self._max_wait_s = max_wait_s
        self._max_waiting = max_waiting
        self._on_broken = on_broken
        self._on_report = on_report
        self.clock = clock
        self._commands: queue.SimpleQueue[Command | _AddVoice | _Echo | _Stop] = queue.SimpleQueue()
        self._listeners: dict[UtteranceId, Listener] = {}
        self._utterance_ids = itertools.count(1)
        self._segment_ids = itertools.count(1)
        self._thread: threading.Thread | None = None

    async def start(self) -> EngineInfo:
        """Build and warm up the engine; returns when it is ready, raises what building raised."""
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[EngineInfo] = self._loop.create_future()
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        # A daemon thread: an engine that hangs must not keep a process alive that was told to go.
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()
        return await self._ready

    async def stop(self) -> None:
        """Finish the running step, free the engine, end the thread. Harmless if it has ended."""
        if self._thread is None:
            return
        self._commands.put(_Stop())
        await self._stopped
        self._thread.join()
        self._listeners.clear()

    async def echo(self) -> None:
        """Returns once the thread has answered, which it does between two steps, or when idle. If
        it hangs in a step, or has ended, this hangs as well."""
        answer: asyncio.Future[None] = self._loop.create_future()
        self._commands.put(_Echo(answer))
        await answer

    async def add_voice(self, name: str, path: Path) -> None:
        """Returns once segments may ask for it. Raises `VoiceUnfit`, or what else went wrong."""
        answer: asyncio.Future[None] = self._loop.create_future()
        self._commands.put(_AddVoice(name, path, answer))
        await answer

    def remove_voice(self, name: str) -> None:
        """It is given up when the last utterance that was opened with it is closed."""
        self._commands.put(RemoveVoice(name))

    def open(
        self,
        *,
        max_lead_s: float,
        listener: Listener,
        client: int | None = None,
        voice: str | None = None,
    ) -> UtteranceId:
        """Announce an utterance; news of its segments goes to `listener`, on the loop. Utterances
        of one `client` (any number that only they share) take turns with others'."""
        utterance_id = UtteranceId(next(self._utterance_ids))
        self._listeners[utterance_id] = listener
        self._commands.put(OpenUtterance(utterance_id, max_lead_s, client, voice))
        return utterance_id

    def next_segment_id(self) -> SegmentId:
        return SegmentId(next(self._segment_ids))

    def post(self, command: Speak | SetOrigin | Hold) -> None:
        self._commands.put(command)

    def close(self, utterance_id: UtteranceId) -> None:
        """No news of this utterance arrives any more; its slots are free at the next step."""
        if self._listeners.pop(utterance_id, None) is not None:
            self._commands.put(CloseUtterance(utterance_id))

    def _deliver(self, batch: Batch, report: EngineReport) -> None:
        self._on_report(report)
        for utterance_id, event in batch:
            # Looked up one by one: an event may close an utterance that later ones are about.
            listener = self._listeners.get(utterance_id)
            if listener is not None:
                listener(event)

    # --- on the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            engine = FaultBarrier(self._build_engine())
            engine.warm_up()
            num_slots = engine.info.num_slots
        except Exception as error:  # noqa: BLE001 - start() raises it
            _log.debug("the engine could not be built", exc_info=True)
            self._run_on_loop(_settle, self._ready, error)
        else:
            self._run_on_loop(_settle, self._ready, engine.info)
            scheduler = Scheduler(
                num_slots=num_slots, max_wait_s=self._max_wait_s, max_waiting=self._max_waiting
            )
            self._run_until_stopped(_Stepper(engine, scheduler, self.clock))
        finally:
            self._run_on_loop(_settle, self._stopped, None)

    def _run_until_stopped(self, stepper: "_Stepper") -> None:
        wait_s = _LONGEST_WAIT_S
        try:
            while self._run_apply_commands(stepper, wait_s):
                batch, wait_s = stepper.step()
                if batch or (wait_s > 0 and stepper.has_unreported):
                    self._run_on_loop(self._deliver, batch, stepper.report())
        except Exception as error:  # noqa: BLE001 - logged, and told to every listener
            _log.exception("the engine broke")
            self._run_on_loop(self._on_broken, error)

    def _run_apply_commands(self, stepper: "_Stepper", wait_s: float) -> bool:
        """Wait for a command, but no longer than that; apply all there are. False: stop."""
        try:
            command = self._commands.get(block=wait_s > 0, timeout=wait_s or None)
            while not isinstance(command, _Stop):
                if isinstance(command, _Echo):
                    self._run_on_loop(_settle, command.answer, None)
                elif isinstance(command, _AddVoice):
                    outcome = stepper.add_voice(command.name, command.path)
                    self._run_on_loop(_settle, command.answer, outcome)
                else:
                    stepper.apply(command)
                command = self._commands.get_nowait()
        except queue.Empty:
            return True
        return False

    def _run_on_loop(self, callback: Callable[..., object], *args: object) -> None:
        self._loop.call_soon_threadsafe(callback, *args)


def _settle(future: "asyncio.Future[Any]", outcome: object) -> None:
    """The future may be done already: whoever waited for it was cancelled."""
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


class _Stepper:
    """The engine and its scheduler: commands applied, then one step. Knows no queue, no loop."""

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
        return batch, min(max(wait_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S)

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
