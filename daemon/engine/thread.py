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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatterbox.api import EngineInfo, SegmentId, SpeechEngine
from daemon.engine.commands import (
    CloseUtterance,
    Command,
    Hold,
    OpenUtterance,
    RemoveVoice,
    SetOrigin,
    Speak,
)
from daemon.engine.fault_barrier import FaultBarrier
from daemon.engine.scheduler import Scheduler, UtteranceId
from daemon.engine.stepper import LONGEST_WAIT_S, Batch, EngineReport, News, Stepper

_log = logging.getLogger(__name__)

Listener = Callable[[News], None]


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
            self._run_until_stopped(Stepper(engine, scheduler, self.clock))
        finally:
            self._run_on_loop(_settle, self._stopped, None)

    def _run_until_stopped(self, stepper: Stepper) -> None:
        wait_s = LONGEST_WAIT_S
        try:
            while self._run_apply_commands(stepper, wait_s):
                batch, wait_s = stepper.step()
                if batch or (wait_s > 0 and stepper.has_unreported):
                    self._run_on_loop(self._deliver, batch, stepper.report())
        except Exception as error:  # noqa: BLE001 - logged, and told to every listener
            _log.exception("the engine broke")
            self._run_on_loop(self._on_broken, error)

    def _run_apply_commands(self, stepper: Stepper, wait_s: float) -> bool:
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
