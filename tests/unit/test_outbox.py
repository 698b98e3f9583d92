"""Outbox: order, pacing and fairness of what one session sends."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from daemon.outbox import Lane, Outbox
from tests.fakes import FakeClock

PACKET = 480
PACKET_S = 0.02


def run(test: Callable[[Outbox, FakeClock], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        clock = FakeClock()
        async with asyncio.timeout(30):
            await test(Outbox(clock), clock)

    asyncio.run(bounded())


def ignore(is_last: bool) -> None:
    """For lanes whose progress nobody watches."""


def push_packets(lane: Lane, name: str, num_packets: int) -> None:
    for number in range(num_packets):
        lane.push(f"{name}{number}".encode(), num_samples=PACKET)


async def take_ready(outbox: Outbox) -> list[str]:
    """Everything that may leave without any time passing."""
    taken: list[str] = []
    while True:
        try:
            async with asyncio.timeout(0.01):
                item = await outbox.get()
        except TimeoutError:
            return taken
        taken.append(item if isinstance(item, str) else item.decode())


def test_control_overtakes_audio_but_not_itself() -> None:
    """A `cancelled` behind ten seconds of packets would come ten seconds late."""

    async def talk(outbox: Outbox, clock: FakeClock) -> None:
        lane = outbox.open_lane(max_lead_s=10, on_sent=ignore)
        push_packets(lane, "p", 2)
        outbox.post("first")
        outbox.post("second")
        assert await take_ready(outbox) == ["first", "second", "p0", "p1"]

    run(talk)


def test_notes_keep_their_place_among_packets() -> None:
    """`segment` names the audio that follows it."""

    async def talk(outbox: Outbox, clock: FakeClock) -> None:
        lane = outbox.open_lane(max_lead_s=10, on_sent=ignore)
        lane.push("segment 0")
        push_packets(lane, "p", 1)
        lane.push("segment 1")
        push_packets(lane, "q", 1)
        assert await take_ready(outbox) == ["segment 0", "p0", "segment 1", "q0"]

    run(talk)


def test_audio_leaves_no_more_than_the_lead_ahead() -> None:
    """What is sent too early is wasted when the listener interrupts."""

    async def talk(outbox: Outbox, clock: FakeClock) -> None:
        lane = outbox.open_lane(max_lead_s=0.2, on_sent=ignore)
        push_packets(lane, "p", 100)
        num_sent = len(await take_ready(outbox))
        assert num_sent == 10
        for _ in range(60):
            clock.pass_s(0.01)
            num_sent += len(await take_ready(outbox))
            assert lane.clock.lead_s(clock()) <= 0.2 + 1e-9
            # The lane rests for a quarter of so short a lead, then catches up.
            assert lane.clock.lead_s(clock()) >= 0.2 - 0.05 - PACKET_S - 0.01
            if num_sent >= 30:
                return
        pytest.fail("it stopped sending")

    run(talk)


def test_a_resting_lane_wakes_by_itself() -> None:
    """Pacing needs a timer of its own: no message may come to wake the writer."""

    async def talk(outbox: Outbox, clock: FakeClock) -> None:
        lane = outbox.open_lane(max_lead_s=0.2, on_sent=ignore)
        push_packets(lane, "p", 11)
        assert len(await take_ready(outbox)) == 10
        waiting = asyncio.create_task(outbox.get())
        await asyncio.sleep(0)
        clock.pass_s(0.1)
        assert await waiting == b"p10"

    run(talk)


def test_the_writer_wakes_for_news() -> None:
    """A lost wake-up is a session that falls silent."""

    async def talk(outbox: Outbox, clock: FakeClock) -> None:
        lane = outbox.open_lane(max_lead_s=10, on_sent=ignore)
        waiting = asyncio.create_task(outbox.get())
        await asyncio.sleep(0)
        push_packets(lane, "p", 1)
        outbox.lane_changed()
        assert await waiting == b"p0"
        waiting = asyncio.create_task(outbox.get())
        await asyncio.sleep(0)
        outbox.post("control")
        assert await waiting == "control"

    run(talk)


def test_who_runs_dry_first_is_served_first() -> None:
    """One long context must not fill the socket while another one's listener waits."""

    async def talk(outbox: Outbox, clock: FakeClock) -> None:
        old = outbox.open_lane(max_lead_s=10, on_sent=ignore)
        push_packets(old, "old", 3)
        assert await take_ready(outbox) == ["old0", "old1", "old2"]
        push_packets(old, "more", 3)
        new = outbox.open_lane(max_lead_s=10, on_sent=ignore)
        push_packets(new, "new", 4)
        taken = await take_ready(outbox)
        assert taken[:3] == ["new0", "new1", "new2"]
        assert sorted(taken[3:]) == ["more0", "more1", "more2", "new3"]

    run(talk)


def test_a_closed_lane_is_silent() -> None:
    """Nothing of a cancelled context may follow."""

    async def talk(outbox: Outbox, clock: FakeClock) -> None:
        lane = outbox.open_lane(max_lead_s=10, on_sent=ignore)
        push_packets(lane, "p", 5)
        outbox.close_lane(lane)
        push_packets(lane, "late", 5)
        outbox.lane_changed()
        outbox.post("cancelled")
        assert await take_ready(outbox) == ["cancelled"]
        outbox.close_lane(lane)

    run(talk)


def test_the_last_item_closes_its_lane_and_is_reported() -> None:
    """The session frees a context when its `audio_end` leaves, neither earlier nor never."""

    async def talk(outbox: Outbox, clock: FakeClock) -> None:
        reports: list[bool] = []
        lane = outbox.open_lane(max_lead_s=10, on_sent=reports.append)
        push_packets(lane, "p", 1)
        lane.push("end", is_last=True)
        emptied = asyncio.create_task(outbox.wait_until_empty())
        await asyncio.sleep(0)
        assert not emptied.done()
        assert await take_ready(outbox) == ["p0", "end"]
        assert reports == [False, True]
        await emptied

    run(talk)


def test_unread_control_messages_stop_the_reader() -> None:
    """A client that asks without listening would fill the memory with answers."""

    async def talk(outbox: Outbox, clock: FakeClock) -> None:
        for number in range(255):
            outbox.post(str(number))
            await outbox.wait_for_room()
        outbox.post("one too many")
        waiting = asyncio.create_task(outbox.wait_for_room())
        await asyncio.sleep(0)
        assert not waiting.done()
        for _ in range(200):
            await outbox.get()
        await waiting

    run(talk)
