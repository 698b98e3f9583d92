"""Messages of one session in, the next one for the socket out: ordered, bounded, and paced.

Control messages leave first. Audio leaves lane by lane, a lane for each context, at most its
`max_lead_s` ahead of the listener's playback; the listener who runs dry first is served first.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from chatterbox.api import SAMPLE_RATE
from daemon.speaking.playback import PlaybackClock

_MAX_CONTROL = 256
"""Unsent control messages at which the session stops reading."""
_PACING_SLACK_S = 0.1
"""A lane that reached its lead rests until this much of it was played: five packets for one
wake-up of the event loop."""
_TIMER_S = 0.001
"""The event loop's timers fire this much too early; without it the lane would spin."""


@dataclass(frozen=True, slots=True)
class _Item:
    data: str | bytes
    num_samples: int
    is_last: bool


class Lane:
    """The packets and in-order messages of one context. `on_sent` is called after each that left;
    its argument tells whether it was the last.
    """

    def __init__(self, *, max_lead_s: float, on_sent: Callable[[bool], None]) -> None:
        self.clock = PlaybackClock()
        self.on_sent = on_sent
        self._max_lead_s = max_lead_s
        self._slack_s = min(_PACING_SLACK_S, max_lead_s / 4)
        self._is_resting = False
        self._items: deque[_Item] = deque()

    def push(self, data: str | bytes, *, num_samples: int = 0, is_last: bool = False) -> None:
        self._items.append(_Item(data, num_samples, is_last))

    def ready_at_s(self, now_s: float) -> float:
        """When the first item may leave: in the past if it may now, infinite if there is none."""
        if not self._items:
            return math.inf
        if not self._items[0].num_samples:
            return -math.inf
        too_far_s = self.clock.lead_s(now_s) + self._items[0].num_samples / SAMPLE_RATE
        too_far_s -= self._max_lead_s
        if too_far_s > 0:
            self._is_resting = True
        elif self._is_resting and too_far_s + self._slack_s <= _TIMER_S:
            self._is_resting = False
        return now_s + too_far_s + self._slack_s if self._is_resting else -math.inf

    def take(self, now_s: float) -> _Item:
        item = self._items.popleft()
        if item.num_samples:
            self.clock.send(item.num_samples, now_s=now_s)
        return item


class Outbox:
    """One reader (`get`), on the event loop that everybody who puts something in runs on."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._control: deque[str] = deque()
        self._lanes: list[Lane] = []
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def post(self, text: str) -> None:
        """A control message, ahead of all audio."""
        self._control.append(text)
        self._is_empty.clear()
        if len(self._control) >= _MAX_CONTROL:
            self._has_room.clear()
        self._changed.set()

    async def wait_for_room(self) -> None:
        """Returns once the client has taken enough of its control messages."""
        await self._has_room.wait()

    def open_lane(self, *, max_lead_s: float, on_sent: Callable[[bool], None]) -> Lane:
        lane = Lane(max_lead_s=max_lead_s, on_sent=on_sent)
        self._lanes.append(lane)
        self._is_empty.clear()
        return lane

    def close_lane(self, lane: Lane) -> None:
        """Forget a lane and all that it holds."""
        if lane in self._lanes:
            self._lanes.remove(lane)
        self._note_if_empty()

    def lane_changed(self) -> None:
        """Something was pushed to a lane."""
        self._changed.set()

    async def wait_until_empty(self) -> None:
        """Returns once everything has left and no lane is open."""
        await self._is_empty.wait()

    def _note_if_empty(self) -> None:
        if not self._control and not self._lanes:
            self._is_empty.set()

    async def get(self) -> str | bytes:
        """The next message, when it may leave. Nothing can come between this and its sending, as
        long as the caller writes it to the socket before awaiting anything else."""
        while True:
            self._changed.clear()
            now_s = self._clock()
            if self._control:
                return self._take_control()
            lane, ready_at_s = self._most_urgent_lane(now_s)
            if lane is not None and ready_at_s <= now_s:
                return self._take_from(lane, now_s)
            await self._wait_for_change(ready_at_s - now_s)

    def _take_control(self) -> str:
        text = self._control.popleft()
        if len(self._control) < _MAX_CONTROL // 2:
            self._has_room.set()
        self._note_if_empty()
        return text

    def _take_from(self, lane: Lane, now_s: float) -> str | bytes:
        item = lane.take(now_s)
        if item.is_last:
            self.close_lane(lane)
        lane.on_sent(item.is_last)
        return item.data

    def _most_urgent_lane(self, now_s: float) -> tuple[Lane | None, float]:
        """Of the lanes that may send now the one whose listener runs dry first; else the one that
        may send next."""
        best: Lane | None = None
        best_key = (math.inf, math.inf)
        for lane in self._lanes:
            ready_at_s = lane.ready_at_s(now_s)
            dry_at_s = lane.clock.dry_at_s
            key = (max(ready_at_s, now_s), -math.inf if dry_at_s is None else dry_at_s)
            if ready_at_s < math.inf and key < best_key:
                best, best_key = lane, key
        return best, best_key[0]

    async def _wait_for_change(self, longest_s: float) -> None:
        try:
            async with asyncio.timeout(longest_s if longest_s < math.inf else None):
                await self._changed.wait()
        except TimeoutError:
            pass
