"""Waiting segments, free slots and listeners' clocks in; who starts and who steps out. Pure policy:
no clock, no I/O, no thread. The earliest playback deadline wins, and nobody without sound waits for
somebody's stock.
"""

import heapq
import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import NewType

from chatterbox.api import SAMPLE_RATE, Segment, SegmentId, SlotIndex

UtteranceId = NewType("UtteranceId", int)
"""Names one utterance of the whole daemon; never reused."""

MAX_SLOTS_PER_UTTERANCE = 2
"""The segment being heard and the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    slot: SlotIndex
    segment: Segment


@dataclass(slots=True)
class _Generation:
    """One segment of an utterance, from waiting to finished."""

    segment: Segment
    stream: "_Stream"
    slot: SlotIndex | None = None
    num_samples: int = 0


@dataclass(slots=True)
class _Stream:
    """One utterance as the scheduler sees it: unfinished segments, and how far its audio is."""

    id: UtteranceId
    max_lead_s: float
    arrival: int
    client: int
    """Whoever asked for it; several utterances may be one client's."""
    started: list[_Generation] = field(default_factory=list)
    """In order; a finished one stays until those before it have finished."""
    waiting: deque[_Generation] = field(default_factory=deque)
    waiting_since_s: float | None = None
    num_finished_samples: int = 0
    origin_s: float | None = None
    is_held: bool = False

    def lead_s(self, generation: _Generation, *, now_s: float) -> float:
        """How much audio the listener still has until the point that this segment has reached."""
        num_samples = self.num_finished_samples
        for item in self.started:
            num_samples += item.num_samples
            if item is generation:
                break
        made_s = num_samples / SAMPLE_RATE
        return made_s if self.origin_s is None else self.origin_s + made_s - now_s

    def is_ahead(self, generation: _Generation, *, now_s: float) -> bool:
        return self.lead_s(generation, now_s=now_s) >= self.max_lead_s

    @property
    def is_silent(self) -> bool:
        """Nothing has been made yet: its listener waits for a first sound."""
        return not self.num_finished_samples and not any(item.num_samples for item in self.started)

    @property
    def num_slots(self) -> int:
        return sum(item.slot is not None for item in self.started)


class Scheduler:
    """Bookkeeping around two decisions, `admit` and `slots_to_step`. Owned by the engine thread.

    `comfort_lead_s`: while any listener has less audio than this, those who have more do not step,
    so that the engine's whole power goes to the listeners who need it. `max_waiting`: how many may
    wait for a slot at a time.
    """

    def __init__(
        self,
        *,
        num_slots: int,
        max_wait_s: float,
        max_waiting: float = math.inf,
        comfort_lead_s: float = 2.0,
    ) -> None:
        # A heap: engines compute all rows up to the highest busy one, so low slots are cheaper.
        self._free_slots = [SlotIndex(index) for index in range(num_slots)]
        self._num_slots = num_slots
        self._max_wait_s = max_wait_s
        self._max_waiting = max_waiting
        self._comfort_lead_s = comfort_lead_s
        self._streams: dict[UtteranceId, _Stream] = {}
        self._generation_of: dict[SegmentId, _Generation] = {}
        self._num_arrivals = 0

    # --- events -----------------------------------------------------------------------------------

    def open(
        self, utterance_id: UtteranceId, *, max_lead_s: float, client: int | None = None
    ) -> None:
        """Utterances of one `client` share what one client may have; None is a client of its
        own."""
        self._num_arrivals += 1
        self._streams[utterance_id] = _Stream(
            id=utterance_id,
            max_lead_s=max_lead_s,
            arrival=self._num_arrivals,
            client=-self._num_arrivals if client is None else client,
        )

    def add(self, utterance_id: UtteranceId, segment: Segment) -> bool:
        """The utterance's next segment; False if the utterance has been closed meanwhile."""
        stream = self._streams.get(utterance_id)
        if stream is None:
            return False
        generation = _Generation(segment=segment, stream=stream)
        stream.waiting.append(generation)
        self._generation_of[segment.id] = generation
        return True

    def set_origin(self, utterance_id: UtteranceId, origin_s: float) -> None:
        """When the first sample would play if the utterance had no pauses and was never dry."""
        if stream := self._streams.get(utterance_id):
            stream.origin_s = origin_s

    def hold(self, utterance_id: UtteranceId, *, is_held: bool) -> None:
        """Start no more segments, or go on: its packets do not get out."""
        if stream := self._streams.get(utterance_id):
            stream.is_held = is_held

    def close(self, utterance_id: UtteranceId) -> list[SlotIndex]:
        """Forget an utterance; returns the slots that it held, free from now on."""
        stream = self._streams.pop(utterance_id, None)
        if stream is None:
            return []
        for generation in (*stream.started, *stream.waiting):
            self._generation_of.pop(generation.segment.id, None)
        slots = [item.slot for item in stream.started if item.slot is not None]
        for slot in slots:
            heapq.heappush(self._free_slots, slot)
        return slots

    def record(self, segment_id: SegmentId, *, num_samples: int) -> None:
        self._generation_of[segment_id].num_samples += num_samples

    def finish(self, segment_id: SegmentId) -> SlotIndex:
        """A started segment is over, spoken or not; returns its slot, free from now on."""
        generation = self._generation_of.pop(segment_id)
        slot = generation.slot
        assert slot is not None, f"segment {segment_id} was never started"
        generation.slot = None
        heapq.heappush(self._free_slots, slot)
        stream = generation.stream
        while stream.started and stream.started[0].slot is None:
            stream.num_finished_samples += stream.started.pop(0).num_samples
        return slot

    # --- questions --------------------------------------------------------------------------------

    def utterance_of(self, segment_id: SegmentId) -> UtteranceId:
        return self._generation_of[segment_id].stream.id

    @property
    def num_free_slots(self) -> int:
        return len(self._free_slots)

    @property
    def num_busy_slots(self) -> int:
        return self._num_slots - len(self._free_slots)

    @property
    def num_waiting(self) -> int:
        return sum(stream.waiting_since_s is not None for stream in self._streams.values())

    # --- decisions --------------------------------------------------------------------------------

    def admit(self, now_s: float) -> list[Admission]:
        """Fill free slots, most urgent listener first; the chosen segments hold their slots."""
        admissions: list[Admission] = []
        held = self._slots_of_clients()
        while self._free_slots:
            candidates = [
                stream
                for stream in self._streams.values()
                if self._wants_slot(stream, now_s=now_s)
                and (not stream.num_slots or self._may_prefetch(stream))
                and self._leaves_room(stream, held)
            ]
            if not candidates:
                break
            stream = min(candidates, key=lambda item: self._urgency(item, held, now_s=now_s))
            held[stream.client] += 1
            generation = stream.waiting.popleft()
            generation.slot = heapq.heappop(self._free_slots)
            stream.started.append(generation)
            admissions.append(Admission(slot=generation.slot, segment=generation.segment))
        self._note_who_waits(now_s)
        return admissions

    def _note_who_waits(self, now_s: float) -> None:
        for stream in self._streams.values():
            if stream.num_slots or not self._wants_slot(stream, now_s=now_s):
                stream.waiting_since_s = None
            elif stream.waiting_since_s is None:
                stream.waiting_since_s = now_s

    def _wants_slot(self, stream: _Stream, *, now_s: float) -> bool:
        return (
            bool(stream.waiting)
            and not stream.is_held
            and not stream.is_ahead(stream.waiting[0], now_s=now_s)
        )

    def _may_prefetch(self, stream: _Stream) -> bool:
        """A segment ahead of its turn waits until the first one sounds, which it would only slow
        down, and never takes the last free slot: that is for somebody's first sound."""
        return (
            not stream.is_silent
            and stream.num_slots < MAX_SLOTS_PER_UTTERANCE
            and len(self._free_slots) > 1
        )

    def _slots_of_clients(self) -> Counter[int]:
        """Every client with an open utterance, and how many slots it holds."""
        held: Counter[int] = Counter()
        for stream in self._streams.values():
            held[stream.client] += stream.num_slots
        return held

    def _leaves_room(self, stream: _Stream, held: Counter[int]) -> bool:
        """The last free slot is for a client that holds none, as long as there are others than
        this one: somebody's next first sound must not wait for a whole segment of a client with
        many contexts."""
        return len(self._free_slots) > 1 or not held[stream.client] or len(held) == 1

    def _urgency(
        self, stream: _Stream, held: Counter[int], *, now_s: float
    ) -> tuple[int, float, int]:
        """Smaller is sooner: first sounds, of those who hold least and then in order of arrival,
        then by deadline, then prefetch."""
        lead_s = stream.lead_s(stream.waiting[0], now_s=now_s)
        if stream.num_slots:
            return (2, lead_s, stream.arrival)
        if stream.is_silent:
            return (0, float(held[stream.client]), stream.arrival)
        return (1, lead_s, stream.arrival)

    def slots_to_step(self, now_s: float) -> list[SlotIndex]:
        """The busy slots that go on now: of hungry listeners if there are any, else of all who are
        not far ahead. While somebody waits for a slot, the others finish their segments as well: a
        slot that rests in mid-segment would keep the waiting listener silent for nothing. So does a
        slot of somebody who reads nothing: what it has begun is finished, and it begins nothing
        more."""
        held = [
            item.slot
            for stream in self._streams.values()
            if stream.is_held
            for item in stream.started
            if item.slot is not None
        ]
        leads_s = {
            item.slot: (stream.lead_s(item, now_s=now_s), stream.max_lead_s)
            for stream in self._streams.values()
            if not stream.is_held
            for item in stream.started
            if item.slot is not None
        }
        wanting = {slot: lead_s for slot, (lead_s, max_s) in leads_s.items() if lead_s < max_s}
        hungry = [slot for slot, lead_s in wanting.items() if lead_s < self._comfort_lead_s]
        if hungry:
            return sorted(hungry)
        is_wanted = any(item.waiting_since_s is not None for item in self._streams.values())
        return sorted([*(leads_s if is_wanted else wanting), *held])

    def expired(self, now_s: float) -> list[UtteranceId]:
        """Utterances that have waited too long for a slot."""
        return [
            stream.id
            for stream in self._streams.values()
            if stream.waiting_since_s is not None
            and now_s - stream.waiting_since_s >= self._max_wait_s
        ]

    def crowded_out(self) -> list[UtteranceId]:
        """When too many wait, some of those who wait for their first sound: of the client with
        most of them, the last to come. Whoever is in mid-speech keeps its place."""
        excess = self.num_waiting - self._max_waiting
        if excess <= 0:
            return []
        waiting = sorted(
            (
                stream
                for stream in self._streams.values()
                if stream.waiting_since_s is not None and stream.is_silent
            ),
            key=lambda item: (item.waiting_since_s, item.arrival),
        )
        # How many of its client's came before each: those with most before them go first.
        before: Counter[int] = Counter()
        ranked = []
        for place, stream in enumerate(waiting):
            ranked.append((before[stream.client], place, stream.id))
            before[stream.client] += 1
        return [stream_id for _, _, stream_id in sorted(ranked, reverse=True)[: int(excess)]]

    def next_wake_s(self, now_s: float) -> float:
        """When time alone will change a decision; infinite if only news can. Asked when no slot
        steps: paused listeners play on, and waiting ones lose patience."""
        wake_s = math.inf
        for stream in self._streams.values():
            if stream.waiting_since_s is not None:
                wake_s = min(wake_s, stream.waiting_since_s + self._max_wait_s)
            if stream.is_held or stream.origin_s is None:
                continue
            busy = [item for item in stream.started if item.slot is not None]
            for item in (*busy, *_first(stream.waiting)):
                lead_s = stream.lead_s(item, now_s=now_s)
                if lead_s >= stream.max_lead_s:
                    wake_s = min(wake_s, now_s + lead_s - stream.max_lead_s)
        return wake_s


def _first(waiting: deque[_Generation]) -> list[_Generation]:
    return [waiting[0]] if waiting else []
