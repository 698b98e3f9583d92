"""The stepper: commands and a clock set by hand in, news and waits out. No thread."""

import itertools

import pytest

from chatterbox.api import SAMPLE_RATE, PcmChunk, Segment, SegmentFailed, SegmentId
from daemon.engine.commands import CloseUtterance, Hold, OpenUtterance, SetOrigin, Speak
from daemon.engine.scheduler import Scheduler, UtteranceId
from daemon.engine.stepper import LONGEST_WAIT_S, Batch, NoSlot, Stepper
from tests.fakes import FakeClock, FragileEngine, RecordingEngine

ONE, TWO = UtteranceId(1), UtteranceId(2)


def made_s(news: Batch) -> float:
    """How much audio."""
    return sum(item.samples.size for _, item in news if isinstance(item, PcmChunk)) / SAMPLE_RATE


class Bench:
    """A stepper whose clock stands still unless a test moves it."""

    def __init__(self, engine: RecordingEngine) -> None:
        self.clock = FakeClock()
        self.engine = engine
        scheduler = Scheduler(num_slots=engine.info.num_slots, max_wait_s=5.0)
        self.stepper = Stepper(engine, scheduler, self.clock)
        self._ids = itertools.count(1)

    def say(self, utterance_id: UtteranceId, text: str, *, max_lead_s: float = 10.0) -> None:
        self.stepper.apply(OpenUtterance(utterance_id, max_lead_s))
        segment = Segment(id=SegmentId(next(self._ids)), text=text, voice="sine")
        self.stepper.apply(Speak(utterance_id, segment))

    def until_idle(self) -> tuple[Batch, float]:
        """All that happens without a command, and how long nothing will."""
        news: Batch = []
        while True:
            batch, wait_s = self.stepper.step()
            news += batch
            if wait_s:
                return news, wait_s


@pytest.fixture
def bench() -> Bench:
    return Bench(RecordingEngine(num_slots=1))


def test_a_segment_that_cannot_start_is_told_once_and_leaves_its_slot_free() -> None:
    """Releasing a slot that was never taken would break the engine for everybody."""
    bench = Bench(FragileEngine(num_slots=1))
    bench.say(ONE, "FAIL here")
    bench.say(TWO, "go on")
    news, _ = bench.until_idle()
    assert [type(item) for utterance_id, item in news if utterance_id == ONE] == [SegmentFailed]
    assert bench.engine.diary.num_released == 1
    assert made_s(news) == 5 * 1600 / SAMPLE_RATE


def test_who_waits_is_given_up_at_the_moment_that_was_promised(bench: Bench) -> None:
    """Not a step sooner; and nothing of it is left that a free slot could be given to."""
    bench.say(ONE, "A text that lasts. " * 20, max_lead_s=1000)
    bench.stepper.step()
    bench.say(TWO, "Hello")
    for passing_s in (0.0, 4.9, 0.09):
        bench.clock.pass_s(passing_s)
        batch, _ = bench.stepper.step()
        assert not any(isinstance(item, NoSlot) for _, item in batch)
    bench.clock.pass_s(0.02)
    batch, _ = bench.stepper.step()
    assert (TWO, NoSlot()) in batch
    bench.stepper.apply(CloseUtterance(ONE))
    assert bench.until_idle()[0] == []


def test_it_says_how_long_nothing_will_happen(bench: Bench) -> None:
    """Too long a sleep runs a listener dry, too short a one is a spin."""
    assert bench.until_idle() == ([], LONGEST_WAIT_S)
    bench.say(ONE, "A text that is spoken for well over two seconds", max_lead_s=1.0)
    news, wait_s = bench.until_idle()
    assert made_s(news) == 1.0
    assert wait_s == LONGEST_WAIT_S  # nobody has said that it is being heard
    bench.stepper.apply(SetOrigin(ONE, bench.clock() + 0.25))
    news, wait_s = bench.until_idle()
    assert not news
    assert wait_s == pytest.approx(0.25)
    bench.clock.pass_s(0.3)
    news, wait_s = bench.until_idle()
    assert made_s(news) == 0.2
    assert wait_s == pytest.approx(0.15)


def test_a_report_is_due_when_something_changed(bench: Bench) -> None:
    """The page of metrics would show a busy slot for ever, or the loop be woken for nothing."""
    due = [bench.stepper.has_unreported]
    bench.stepper.report()
    due.append(bench.stepper.has_unreported)
    bench.say(ONE, "Hello")
    bench.stepper.step()
    report = bench.stepper.report()
    assert (report.num_busy, len(report.steps_s)) == (1, 1)
    bench.stepper.apply(Hold(ONE, True))
    due.append(bench.stepper.has_unreported)
    bench.stepper.apply(CloseUtterance(ONE))
    due.append(bench.stepper.has_unreported)
    assert bench.stepper.report().num_busy == 0
    assert due == [True, False, False, True]
