"""Scheduler: who gets a slot and who steps, decided by listeners' clocks that are plain numbers."""

import itertools

import pytest

from chatterbox.api import SAMPLE_RATE, Segment, SegmentId
from daemon.engine.scheduler import Scheduler, UtteranceId


class Stage:
    """A scheduler with utterances by name, and time as an argument."""

    def __init__(self, *, num_slots: int = 2, max_wait_s: float = 5.0) -> None:
        self.scheduler = Scheduler(num_slots=num_slots, max_wait_s=max_wait_s)
        self._segment_ids = itertools.count(1)
        self._ids: dict[str, UtteranceId] = {}
        self.slot_of: dict[str, int] = {}
        self.id_of: dict[str, SegmentId] = {}

    def open(
        self,
        name: str,
        *,
        num_segments: int = 1,
        max_lead_s: float = 10.0,
        client: int | None = None,
    ) -> None:
        """Segments are called a0, a1, … after their utterance."""
        self._ids[name] = UtteranceId(len(self._ids))
        self.scheduler.open(self._ids[name], max_lead_s=max_lead_s, client=client)
        for index in range(num_segments):
            self.add(f"{name}{index}")

    def add(self, text: str) -> bool:
        segment = Segment(id=SegmentId(next(self._segment_ids)), text=text, voice="v")
        self.id_of[text] = segment.id
        return self.scheduler.add(self._ids[text[0]], segment)

    def admit(self, now_s: float = 0.0) -> list[str]:
        admissions = self.scheduler.admit(now_s)
        for admission in admissions:
            self.slot_of[admission.segment.text] = admission.slot
        return [admission.segment.text for admission in admissions]

    def steps(self, now_s: float = 0.0) -> set[str]:
        slots = self.scheduler.slots_to_step(now_s)
        assert slots == sorted(slots)
        names = {slot: text for text, slot in self.slot_of.items()}
        return {names[slot] for slot in slots}

    def make(self, text: str, seconds: float) -> None:
        self.scheduler.record(self.id_of[text], num_samples=round(seconds * SAMPLE_RATE))

    def finish(self, text: str) -> None:
        assert self.scheduler.finish(self.id_of[text]) == self.slot_of.pop(text)

    def play_from(self, name: str, origin_s: float) -> None:
        self.scheduler.set_origin(self._ids[name], origin_s)

    def hold(self, name: str, is_held: bool) -> None:
        self.scheduler.hold(self._ids[name], is_held=is_held)

    def close(self, name: str) -> set[int]:
        return set(self.scheduler.close(self._ids[name]))

    def expired(self, now_s: float) -> list[str]:
        names = {number: name for name, number in self._ids.items()}
        return [names[number] for number in self.scheduler.expired(now_s)]


# --- admission ------------------------------------------------------------------------------------


def test_first_sounds_come_first_and_in_order_of_arrival() -> None:
    """A listener who hears nothing yet is worse off than one with a second in stock."""
    stage = Stage(num_slots=1)
    stage.open("a", num_segments=2)
    assert stage.admit() == ["a0"]
    stage.make("a0", 1.0)
    stage.play_from("a", 0.0)
    stage.open("b")
    stage.open("c")
    stage.finish("a0")
    assert stage.admit(0.5) == ["b0"]
    stage.finish("b0")
    assert stage.admit(0.5) == ["c0"]
    stage.finish("c0")
    assert stage.admit(0.5) == ["a1"]


def test_among_speakers_the_earliest_deadline_wins() -> None:
    """The one who runs dry first would otherwise hear a gap."""
    stage = Stage(num_slots=2)
    for name, stock_s in (("a", 5.0), ("b", 1.0)):
        stage.open(name, num_segments=2)
        stage.admit()
        stage.make(f"{name}0", stock_s)
        stage.play_from(name, 0.0)
    stage.finish("a0")
    stage.finish("b0")
    assert stage.admit(0.5) == ["b1", "a1"]


def test_the_next_segment_is_prefetched_but_never_into_the_last_slot() -> None:
    """A newcomer's first sound must find a slot; with slots to spare, seams need no wait."""
    stage = Stage(num_slots=3)
    stage.open("a", num_segments=4)
    assert stage.admit() == ["a0"]  # nothing sounds yet: the next one would only slow it down
    stage.make("a0", 0.1)
    assert stage.admit() == ["a1"]
    assert stage.admit() == []  # two are enough for one utterance
    stage.open("b", num_segments=2)
    assert stage.admit() == ["b0"]
    stage.finish("b0")
    assert stage.admit() == ["b1"]

    small = Stage(num_slots=2)
    small.open("a", num_segments=2)
    assert small.admit() == ["a0"]


def test_nobody_starts_who_is_far_ahead() -> None:
    """A slot held by a listener with minutes in stock is a slot lost to others."""
    stage = Stage()
    stage.open("a", num_segments=2, max_lead_s=2.0)
    stage.admit()
    stage.make("a0", 3.0)
    stage.play_from("a", 100.0)
    stage.finish("a0")
    assert stage.admit(100.5) == []
    assert stage.scheduler.next_wake_s(100.5) == pytest.approx(101.0)
    assert stage.admit(101.1) == ["a1"]


def test_closing_frees_slots_and_forgets_waiting_segments() -> None:
    """A cancelled utterance that starts its next segment speaks to nobody."""
    stage = Stage(num_slots=3)
    stage.open("a", num_segments=3)
    stage.admit()
    stage.make("a0", 0.1)
    stage.admit()
    slots = {stage.slot_of["a0"], stage.slot_of["a1"]}
    assert stage.close("a") == slots
    assert stage.scheduler.num_free_slots == 3
    assert stage.close("a") == set()
    assert stage.admit() == []
    assert stage.add("a9") is False
    assert stage.steps() == set()


def test_every_slot_comes_back() -> None:
    """One leaked slot a day is a daily restart."""
    stage = Stage(num_slots=3)
    for turn in range(20):
        name = chr(ord("a") + turn)
        stage.open(name, num_segments=3)
        stage.admit()
        stage.make(f"{name}0", 0.1)
        stage.admit()
        if turn % 2:
            stage.finish(f"{name}0")
        assert stage.close(name)
        assert stage.scheduler.num_free_slots == 3


def test_the_lowest_free_slot_is_taken() -> None:
    """Engines compute every row up to the highest busy one: gaps would be paid for in each step."""
    stage = Stage(num_slots=4)
    for name in "abc":
        stage.open(name)
        stage.admit()
    stage.finish("a0")
    stage.close("c")
    stage.open("d")
    stage.admit()
    assert stage.slot_of["d0"] == 0


# --- steps ----------------------------------------------------------------------------------------


def test_a_listener_with_enough_is_paused_and_goes_on_in_time() -> None:
    """Speech made too early is wasted when it is interrupted; too late, and there is a gap."""
    stage = Stage()
    stage.open("a", max_lead_s=2.0)
    stage.admit()
    assert stage.steps() == {"a0"}
    stage.make("a0", 2.5)
    assert stage.steps(50.0) == set()  # nothing sent yet: the clock does not run
    assert stage.scheduler.next_wake_s(50.0) == float("inf")
    stage.play_from("a", 50.0)
    assert stage.steps(50.4) == set()
    assert stage.scheduler.next_wake_s(50.4) == pytest.approx(50.5)
    assert stage.steps(50.6) == {"a0"}


def test_while_somebody_is_hungry_those_with_stock_rest() -> None:
    """On a processor each slot that steps costs the others time to first sound."""
    stage = Stage(num_slots=3)
    for name, stock_s in (("a", 5.0), ("b", 0.5), ("c", 0.0)):
        stage.open(name)
        stage.admit()
        stage.make(f"{name}0", stock_s)
        stage.play_from(name, 0.0)
    assert stage.steps(0.0) == {"b0", "c0"}
    stage.make("b0", 3.0)
    stage.make("c0", 3.0)
    assert stage.steps(0.0) == {"a0", "b0", "c0"}


def test_a_prefetched_segment_cannot_starve_the_one_before() -> None:
    """Counting stock that lies behind a hole would pause the segment that must fill the hole."""
    stage = Stage(num_slots=3)
    stage.open("a", num_segments=2, max_lead_s=4.0)
    stage.admit()
    stage.play_from("a", 0.0)
    stage.make("a0", 1.0)
    assert stage.admit() == ["a1"]
    stage.make("a1", 9.0)
    assert stage.steps(0.5) == {"a0"}
    stage.finish("a1")  # the later one ended first
    assert stage.steps(0.5) == {"a0"}
    stage.make("a0", 3.5)
    assert stage.steps(0.4) == set()
    assert stage.steps(0.6) == {"a0"}


def test_a_held_utterance_finishes_starts_nothing_and_does_not_expire() -> None:
    """Its packets do not get out; more of them would fill the memory."""
    stage = Stage(num_slots=2, max_wait_s=1.0)
    stage.open("a", num_segments=2)
    stage.admit()
    stage.hold("a", True)
    assert stage.steps() == {"a0"}, "to the end of the segment, or its slot were lost for others"
    stage.finish("a0")
    assert stage.admit(0.0) == []
    assert stage.expired(100.0) == []
    stage.hold("a", False)
    assert stage.admit(100.0) == ["a1"]


def test_a_resting_slot_is_finished_when_somebody_waits_for_it() -> None:
    """Else an idle engine would answer `busy`, because its slots wait for listeners to catch up."""
    stage = Stage(num_slots=1)
    stage.open("a", num_segments=2, max_lead_s=2.0)
    stage.admit()
    stage.make("a0", 3.0)
    stage.play_from("a", 0.0)
    assert stage.steps(0.1) == set()
    stage.open("b")
    stage.admit(0.1)
    assert stage.steps(0.1) == {"a0"}
    stage.hold("a", True)
    assert stage.steps(0.1) == {"a0"}
    stage.finish("a0")
    assert stage.admit(0.2) == ["b0"]


def test_whoever_reads_nothing_waits_for_the_hungry() -> None:
    """Its segment is finished with power that nobody else needs."""
    stage = Stage(num_slots=2)
    stage.open("a")
    stage.open("b")
    stage.admit()
    stage.hold("a", True)
    assert stage.steps() == {"b0"}
    stage.make("b0", 5.0)
    stage.play_from("b", 0.0)
    assert stage.steps(0.0) == {"a0", "b0"}


# --- waiting --------------------------------------------------------------------------------------


def test_waiting_without_a_slot_ends_after_the_bound() -> None:
    """`busy` after a stated time is better than silence."""
    stage = Stage(num_slots=1, max_wait_s=5.0)
    stage.open("a")
    stage.open("b")
    assert stage.admit(10.0) == ["a0"]
    assert stage.expired(14.9) == []
    assert stage.scheduler.next_wake_s(10.0) == pytest.approx(15.0)
    assert stage.expired(15.0) == ["b"]


def test_patience_starts_anew_after_each_segment() -> None:
    """A long utterance on a busy daemon is not `busy` as long as it gets its turns."""
    stage = Stage(num_slots=1, max_wait_s=5.0)
    stage.open("a", num_segments=2)
    stage.open("b", num_segments=2)
    stage.admit(0.0)
    stage.make("a0", 1.0)
    stage.finish("a0")
    assert stage.admit(4.0) == ["b0"]
    assert stage.expired(6.0) == []
    stage.make("b0", 2.0)
    stage.finish("b0")
    assert stage.admit(8.0) == ["a1"]
    assert stage.expired(12.0) == []
    assert stage.expired(13.0) == ["b"]


def test_waiting_for_the_own_segment_is_no_waiting() -> None:
    """The second segment of a speaker holds no slot, but its listener hears the first."""
    stage = Stage(num_slots=1, max_wait_s=1.0)
    stage.open("a", num_segments=3)
    stage.admit(0.0)
    stage.admit(50.0)
    assert stage.expired(100.0) == []


def test_an_idle_scheduler_sleeps() -> None:
    """A finite wake-up without reason is a spin."""
    stage = Stage()
    assert stage.scheduler.next_wake_s(0.0) == float("inf")
    stage.open("a")
    stage.admit(0.0)
    stage.finish("a0")
    stage.admit(0.0)
    assert stage.scheduler.next_wake_s(0.0) == float("inf")


GREEDY, MODEST = 1, 2


def test_a_greedy_client_leaves_the_last_slot() -> None:
    """A client with sixteen contexts would keep everybody else silent for a whole segment."""
    stage = Stage(num_slots=4)
    stage.open("z", client=MODEST, num_segments=0)
    for name in "abcdefgh":
        stage.open(name, client=GREEDY)
    assert stage.admit() == ["a0", "b0", "c0"]
    stage.add("z0")
    assert stage.admit() == ["z0"]


def test_alone_a_client_takes_every_slot() -> None:
    """A backend that speaks for all of its users over one socket must not pay for fairness."""
    stage = Stage(num_slots=3)
    for name in "abcd":
        stage.open(name, client=GREEDY)
    assert stage.admit() == ["a0", "b0", "c0"]


def test_first_sounds_of_who_holds_least_come_first() -> None:
    """The greedy client's contexts were all there before."""
    stage = Stage(num_slots=3)
    for name in "abcdef":
        stage.open(name, client=GREEDY)
    assert stage.admit() == ["a0", "b0", "c0"]
    stage.open("y", client=MODEST)
    stage.open("z", client=MODEST + 1)
    stage.finish("b0")
    assert stage.admit() == ["y0"]
    stage.finish("c0")
    assert stage.admit() == ["z0"]
    stage.finish("a0")
    assert stage.admit() == ["d0"]


def test_the_crowd_is_thinned_where_it_is_thickest() -> None:
    """A flood of contexts from one client must not turn another's only one away."""
    scheduler = Scheduler(num_slots=1, max_wait_s=5.0, max_waiting=2)
    for number in range(5):
        client = MODEST if number == 4 else GREEDY
        scheduler.open(UtteranceId(number), max_lead_s=1.0, client=client)
        segment = Segment(id=SegmentId(number), text="x", voice="v")
        scheduler.add(UtteranceId(number), segment)
    assert [admission.segment.id for admission in scheduler.admit(0.0)] == [0]
    assert scheduler.crowded_out() == [3, 2]
