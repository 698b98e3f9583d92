"""EngineThread: the bridge between event loop and engine, with sine engines and a real thread."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from chatterbox.api import PcmChunk, Segment, SegmentFailed, SegmentWarning, VoiceUnfit
from daemon.engine.commands import Hold, SetOrigin, Speak
from daemon.engine.scheduler import UtteranceId
from daemon.engine.stepper import News, NoSlot
from daemon.engine.thread import EngineThread
from tests.fakes import (
    CloningSineEngine,
    FakeClock,
    FragileEngine,
    RecordingEngine,
    UnbuildableError,
    unbuildable,
)


@dataclass
class Listener:
    """Keeps the news of one utterance and wakes whoever waits for some of it."""

    utterance_id: UtteranceId = field(init=False)
    news: list[News] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, news: News) -> None:
        self.news.append(news)
        self.changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    @property
    def num_ended(self) -> int:
        return sum(isinstance(item, PcmChunk) and item.is_last for item in self.news)

    @property
    def num_samples(self) -> int:
        return sum(item.samples.size for item in self.news if isinstance(item, PcmChunk))


class Bridge:
    def __init__(
        self, engine: RecordingEngine, *, max_wait_s: float, clock: Callable[[], float]
    ) -> None:
        self.engine = engine
        self.broken: list[Exception] = []
        self.thread = EngineThread(
            lambda: engine, max_wait_s=max_wait_s, on_broken=self.broken.append, clock=clock
        )

    def open(self, *, max_lead_s: float = 10.0) -> Listener:
        listener = Listener()
        listener.utterance_id = self.thread.open(max_lead_s=max_lead_s, listener=listener)
        return listener

    def say(self, listener: Listener, text: str) -> Segment:
        segment = Segment(id=self.thread.next_segment_id(), text=text, voice="sine")
        self.thread.post(Speak(listener.utterance_id, segment))
        return segment

    async def caught_up(self) -> None:
        """Whatever was told the thread before has had its effect: it takes things in order."""
        last = self.open()
        self.say(last, "Hi")
        await last.until(lambda: last.num_ended == 1)


@asynccontextmanager
async def bridge(
    engine: RecordingEngine | None = None,
    *,
    max_wait_s: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Bridge]:
    one = Bridge(engine or RecordingEngine(num_slots=2), max_wait_s=max_wait_s, clock=clock)
    info = await one.thread.start()
    assert info.model == "sine"
    try:
        yield one
    finally:
        async with asyncio.timeout(30):
            await one.thread.stop()
        assert "engine" not in [thread.name for thread in threading.enumerate()]


def test_a_segment_comes_back_whole_and_frees_its_slot() -> None:
    """The smallest round trip: one text in, all its samples out."""

    async def talk() -> None:
        async with bridge() as one:
            listener = one.open()
            segment = one.say(listener, "Hello there")
            await listener.until(lambda: listener.num_ended == 1)
            assert {getattr(item, "segment_id", None) for item in listener.news} == {segment.id}
            assert listener.num_samples == len("Hello there") * 1600
            assert one.engine.diary.busy == set()

    asyncio.run(talk())


def test_the_engine_lives_on_its_thread_alone() -> None:
    """Engines keep thread-local settings, and a device belongs to one thread."""
    threads: set[str] = set()

    class Watched(RecordingEngine):
        def warm_up(self) -> None:
            threads.add(threading.current_thread().name)

        def step(self, slots: object) -> list[object]:  # type: ignore[override]
            threads.add(threading.current_thread().name)
            return super().step(slots)  # type: ignore[arg-type, return-value]

    async def talk() -> None:
        async with bridge(Watched()) as one:
            listener = one.open()
            one.say(listener, "Hello")
            await listener.until(lambda: listener.num_ended == 1)

    asyncio.run(talk())
    assert threads == {"engine"}


def test_one_wake_up_a_step() -> None:
    """A wake-up for each event would make the loop's work grow with slots times steps."""
    wake_ups: list[object] = []

    async def talk() -> None:
        async with bridge(RecordingEngine(num_slots=8)) as one:
            loop = asyncio.get_running_loop()
            original = loop.call_soon_threadsafe

            def counting(
                callback: Callable[..., object], *args: object, **kwargs: object
            ) -> object:
                wake_ups.append(callback)
                return original(callback, *args, **kwargs)  # type: ignore[arg-type]

            loop.call_soon_threadsafe = counting  # type: ignore[method-assign, assignment]
            listeners = [one.open() for _ in range(8)]
            for listener in listeners:
                one.say(listener, "Hello there, all of you")
            for listener in listeners:
                await listener.until(lambda listener=listener: listener.num_ended == 1)  # type: ignore[misc]
            loop.call_soon_threadsafe = original  # type: ignore[method-assign]
            assert len(wake_ups) <= one.engine.diary.num_steps

    asyncio.run(talk())


def test_closing_frees_the_slot_and_silences_at_once() -> None:
    """Cancelled speech must neither be heard nor be made."""

    async def talk() -> None:
        engine = RecordingEngine(num_slots=1, samples_per_step=240, cost_s=0.01)
        async with bridge(engine) as one:
            listener = one.open()
            one.say(listener, "A rather long sentence that goes on")
            one.say(listener, "And another one")
            await listener.until(lambda: len(listener.news) >= 3)
            one.thread.close(listener.utterance_id)
            num_samples, num_news = engine.diary.num_samples, len(listener.news)
            other = one.open()
            one.say(other, "Hi")
            await other.until(lambda: other.num_ended == 1)
            assert len(listener.news) == num_news
            running_step = 240
            assert engine.diary.num_samples <= num_samples + running_step + other.num_samples
            assert [segment.text for segment in engine.diary.started[1:]] == ["Hi"]
            one.thread.close(listener.utterance_id)  # harmless

    asyncio.run(talk())


def test_unspeakable_text_is_a_warning_and_the_next_segment_starts() -> None:
    """An emoji must not park the thread with work in its queue."""

    async def talk() -> None:
        async with bridge(RecordingEngine(num_slots=1)) as one:
            listener = one.open()
            for text in ("😀", "Hello", "🙈", "there"):
                one.say(listener, text)
            await listener.until(lambda: listener.num_ended == 4)
            codes = [item.code for item in listener.news if isinstance(item, SegmentWarning)]
            assert codes == ["unspeakable", "unspeakable"]
            assert one.engine.diary.busy == set()

    asyncio.run(talk())


def test_a_failing_start_fails_its_segment_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The contract: such an exception leaves the slot free and concerns nobody else."""
    caplog.set_level(logging.CRITICAL)

    async def talk() -> None:
        async with bridge(FragileEngine(num_slots=1)) as one:
            listener = one.open()
            failed = one.say(listener, "FAIL here")
            one.say(listener, "go on")
            await listener.until(lambda: listener.num_ended == 1)
            failures = [item for item in listener.news if isinstance(item, SegmentFailed)]
            assert [item.segment_id for item in failures] == [failed.id]
            assert "cursed" in failures[0].message
            assert one.broken == []

    asyncio.run(talk())


def test_a_failing_step_breaks_the_engine_once(caplog: pytest.LogCaptureFixture) -> None:
    """After it nothing can be trusted; the daemon must hear of it, and stop() must still work."""
    caplog.set_level(logging.CRITICAL)

    async def talk() -> None:
        async with bridge(FragileEngine()) as one:
            listener = one.open()
            one.say(listener, "BREAK it")
            async with asyncio.timeout(30):
                while not one.broken:  # noqa: ASYNC110 - the callback under test sets no event
                    await asyncio.sleep(0.001)
            one.say(listener, "anyone?")
        assert [str(error) for error in one.broken] == ["CUDA error: the device is gone"]

    asyncio.run(talk())


def test_who_waits_too_long_is_told() -> None:
    """A client must not wait for ever for a slot that a long text holds, nor be sent away early."""

    async def talk() -> None:
        engine = RecordingEngine(num_slots=1, samples_per_step=240, cost_s=0.005)
        async with bridge(engine, max_wait_s=0.1) as one:
            holder = one.open()
            one.say(holder, "A text of some length. " * 8)
            await holder.until(lambda: bool(holder.news))
            start_s = time.monotonic()
            waiter = one.open()
            one.say(waiter, "Hello")
            await waiter.until(lambda: bool(waiter.news))
            assert isinstance(waiter.news[0], NoSlot)
            assert time.monotonic() - start_s >= 0.1

    asyncio.run(talk())


def test_lead_and_hold_pause_and_the_clock_resumes() -> None:
    """Generation follows playback: that is the daemon's memory bound."""

    clock = FakeClock()

    async def talk() -> None:
        async with bridge(clock=clock) as one:
            listener = one.open(max_lead_s=0.5)
            text = "A text that is spoken for well over two seconds"
            for _ in range(2):
                one.say(listener, text)
            await listener.until(lambda: listener.num_samples >= 14_400)
            await one.caught_up()
            assert listener.num_samples == 14_400  # three steps of 200 ms
            one.thread.post(SetOrigin(listener.utterance_id, clock() - 0.4))
            await listener.until(lambda: listener.num_samples > 14_400)
            await one.caught_up()
            assert listener.num_samples == 24_000  # two more: it has heard two
            one.thread.post(Hold(listener.utterance_id, True))
            one.thread.post(SetOrigin(listener.utterance_id, clock() - 50))
            await listener.until(lambda: listener.num_ended == 1)  # what it had begun
            await one.caught_up()
            assert listener.num_samples == len(text) * 1600
            one.thread.post(Hold(listener.utterance_id, False))
            await listener.until(lambda: listener.num_ended == 2)

    asyncio.run(talk())


def test_an_idle_thread_does_not_spin() -> None:
    """A daemon that waits for work must cost nothing, also with a paused listener."""
    num_looks = 0

    def watched_clock() -> float:
        nonlocal num_looks
        num_looks += 1
        return time.monotonic()

    async def talk() -> None:
        async with bridge(clock=watched_clock) as one:
            listener = one.open(max_lead_s=0.3)
            one.say(listener, "A text that is spoken for well over two seconds")
            await listener.until(lambda: listener.num_samples >= 9600)
            await one.caught_up()
            num_before = num_looks
            await asyncio.sleep(0.3)
            assert num_looks <= num_before + 2  # the step that found nothing to do

    asyncio.run(talk())


def test_building_may_fail() -> None:
    """The error must reach whoever starts the daemon, and the thread must be gone."""

    async def talk() -> None:
        thread = EngineThread(unbuildable, max_wait_s=1.0, on_broken=lambda error: None)
        with pytest.raises(UnbuildableError):
            await thread.start()
        await thread.stop()

    asyncio.run(talk())
    assert "engine" not in [thread.name for thread in threading.enumerate()]


def test_stop_before_start_is_harmless() -> None:
    """The daemon's way out does not ask how far it came."""

    async def talk() -> None:
        await EngineThread(RecordingEngine, max_wait_s=1.0, on_broken=lambda error: None).stop()

    asyncio.run(talk())


def test_paused_and_resumed_audio_is_the_same() -> None:
    """Pausing by lead, by hold and by neighbours must leave no trace in the samples."""

    async def talk() -> None:
        async with bridge(RecordingEngine(num_slots=4, samples_per_step=480)) as one:
            plain = one.open(max_lead_s=100)
            one.say(plain, "The same words again")
            await plain.until(lambda: plain.num_ended == 1)
            paused = one.open(max_lead_s=0.3)
            one.say(paused, "The same words again")
            while not paused.num_ended:
                one.thread.post(SetOrigin(paused.utterance_id, time.monotonic() - 0.1))
                one.thread.post(Hold(paused.utterance_id, True))
                await asyncio.sleep(0.001)
                one.thread.post(Hold(paused.utterance_id, False))
                made_s = paused.num_samples / 24_000
                one.thread.post(SetOrigin(paused.utterance_id, time.monotonic() - made_s))
                await asyncio.sleep(0.002)
            heard = [
                np.concatenate([item.samples for item in each.news if isinstance(item, PcmChunk)])
                for each in (plain, paused)
            ]
            np.testing.assert_array_equal(heard[0], heard[1])

    asyncio.run(talk())


def test_a_voice_stays_until_nobody_speaks_with_it(tmp_path: Path) -> None:
    """A voice that is deleted in mid-speech would leave the rest of the text unspoken."""

    async def scenario() -> None:
        engine = CloningSineEngine(num_slots=2)
        async with bridge(engine) as one:
            file = tmp_path / "voice"
            file.write_bytes(b"a voice")
            await one.thread.add_voice("v", file)
            listener = Listener()
            listener.utterance_id = one.thread.open(max_lead_s=10, listener=listener, voice="v")
            one.thread.remove_voice("v")
            segment = Segment(id=one.thread.next_segment_id(), text="Still here.", voice="v")
            one.thread.post(Speak(listener.utterance_id, segment))
            await listener.until(lambda: listener.num_ended == 1)
            assert listener.num_samples > 0
            assert "v" in engine.added
            one.thread.close(listener.utterance_id)
            await one.thread.echo()
            assert not engine.added

    asyncio.run(scenario())


def test_an_unfit_voice_is_refused_and_speech_goes_on(tmp_path: Path) -> None:
    """One bad file must cost its owner an error, not everybody the engine."""

    async def scenario() -> None:
        async with bridge(CloningSineEngine(num_slots=2)) as one:
            file = tmp_path / "voice"
            file.write_bytes(b"UNFIT")
            with pytest.raises(VoiceUnfit, match="holds no voice"):
                await one.thread.add_voice("v", file)
            with pytest.raises(FileNotFoundError):
                await one.thread.add_voice("v", tmp_path / "missing")
            listener = one.open()
            one.say(listener, "Hello.")
            await listener.until(lambda: listener.num_ended == 1)
            assert not one.broken

    asyncio.run(scenario())
