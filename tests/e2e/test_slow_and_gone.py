"""Clients that vanish or do not read: what they held is freed, and others never notice."""

import asyncio
import socket

from chatterbox.api import SAMPLE_RATE
from daemon.wire.protocol import AudioMessage
from tests.e2e.wire import run, running
from tests.fakes import RecordingEngine

LONG = "All work and no play makes Jack a dull boy, and so it goes on and on. " * 60


def test_a_client_that_vanishes_in_mid_speech_frees_everything() -> None:
    """Leaked slots are the classic: the daemon works for ghosts until it is restarted."""

    async def talk() -> None:
        async with running() as daemon:
            tasks_before = len(asyncio.all_tasks())
            for _ in range(5):
                async with daemon.wire() as wire:
                    for name in ("a", "b", "c"):
                        await wire.say(name, LONG)
                    await wire.receive_until(AudioMessage)
                    wire.connection.transport.abort()
            await daemon.until(lambda: not daemon.engine.diary.busy)
            await daemon.until(lambda: len(asyncio.all_tasks()) <= tasks_before)
            assert daemon.daemon.num_sessions == 0
            async with daemon.wire() as wire:
                assert (await wire.speak("a", "Hello.")).end.samples

    run(talk())


def test_a_client_that_says_goodbye_in_mid_speech_frees_everything() -> None:
    """The orderly close takes another path than the broken socket."""

    async def talk() -> None:
        async with running() as daemon:
            async with daemon.wire() as wire:
                await wire.say("a", LONG)
                await wire.receive_until(AudioMessage)
            await daemon.until(lambda: not daemon.engine.diary.busy)
            await daemon.until(lambda: daemon.daemon.num_sessions == 0)

    run(talk())


def test_a_slow_reader_is_paused_then_closed() -> None:
    """Unread audio must not pile up in the daemon, nor its slots be held for ever."""

    async def talk() -> None:
        def build() -> RecordingEngine:
            return RecordingEngine(num_slots=8, cost_s=0.002)  # a hundred times real time

        async with (
            running(build=build, stall_s=1.0) as daemon,
            daemon.wire() as neighbour,
            daemon.wire(receive_buffer=4096) as wire,
        ):
            await wire.say("a", LONG, format="pcm_s16le", max_lead_ms=120_000)
            await daemon.until(lambda: daemon.engine.diary.num_samples > 0)
            await asyncio.sleep(0.5)
            num_made = daemon.engine.diary.num_samples
            # What is on its way, the backlog at which the engine holds still, and a little more.
            assert num_made < 40 * SAMPLE_RATE
            assert (await neighbour.speak("n", "Hello there.")).end.samples
            await daemon.until(lambda: daemon.daemon.num_sessions == 1)
            assert not daemon.engine.diary.busy
            assert await wire.close_code() in (1008, None)  # it had no room for a close either

    run(talk())


def test_slow_readers_do_not_keep_the_slots() -> None:
    """As many of them as there are slots once silenced everybody else until they were closed."""

    async def talk() -> None:
        def build() -> RecordingEngine:
            return RecordingEngine(num_slots=2, cost_s=0.002)

        async with (
            running(build=build, stall_s=60.0, max_wait_ms=5_000) as daemon,
            daemon.wire() as neighbour,
            daemon.wire(receive_buffer=4096) as one,
            daemon.wire(receive_buffer=4096) as other,
        ):
            for wire in (one, other):
                await wire.say("a", LONG, format="pcm_s16le", max_lead_ms=120_000)
            await daemon.until(lambda: daemon.engine.diary.num_samples > 40 * SAMPLE_RATE)
            await daemon.until(lambda: not daemon.engine.diary.busy)
            num_made = daemon.engine.diary.num_samples
            assert (await neighbour.speak("n", "Hello there.")).end.samples
            assert daemon.engine.diary.num_samples - num_made < 5 * SAMPLE_RATE
            for wire in (one, other):
                wire.connection.transport.abort()

    run(talk())


def test_a_reader_that_wakes_up_in_time_hears_everything() -> None:
    """Back-pressure must pause, not drop."""

    async def talk() -> None:
        async with running(stall_s=10.0) as daemon, daemon.wire(receive_buffer=4096) as wire:
            text = "All work and no play makes Jack a dull boy. " * 8
            await wire.say("a", text, format="pcm_s16le", max_lead_ms=120_000)
            await asyncio.sleep(0.5)
            heard = await wire.hear("a")
            assert heard.samples().size == heard.end.samples
            assert heard.end.text_chars == len(text)

    run(talk())


def test_a_flood_of_errors_does_not_fill_the_memory() -> None:
    """A client that asks and never listens is not read any further."""

    async def talk() -> None:
        async with running(stall_s=30.0) as daemon, daemon.wire(receive_buffer=4096) as wire:
            wire.connection.transport.pause_reading()
            num_sent = 0

            async def flood() -> None:
                nonlocal num_sent
                while True:
                    await wire.connection.send("{" * 8000)
                    num_sent += 1

            flooding = asyncio.create_task(flood())
            async with asyncio.timeout(30):
                before = -1
                while num_sent != before:  # until the sockets' buffers are full
                    before = num_sent
                    await asyncio.sleep(0.3)
            flooding.cancel()
            wire.connection.transport.abort()
            await daemon.until(lambda: daemon.daemon.num_sessions == 0)

    run(talk())


def test_a_half_open_handshake_holds_no_place() -> None:
    """Admission counts connections; one that never completes must not count for ever."""

    async def talk() -> None:
        async with running(max_sessions=1) as daemon:
            with socket.create_connection(("127.0.0.1", daemon.port)) as plug:
                plug.setblocking(False)
                loop = asyncio.get_running_loop()
                upgrade = (
                    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                )
                await loop.sock_sendall(plug, upgrade + b"\r\n")  # without a key
                answer = await loop.sock_recv(plug, 100)
            assert answer.startswith(b"HTTP/1.1 400")
            async with daemon.wire() as wire:
                assert (await wire.speak("a", "Hello.")).end.samples

    run(talk())


def test_many_clients_take_turns() -> None:
    """More speakers than slots: each is served, none starves."""

    async def talk() -> None:
        def build() -> RecordingEngine:
            return RecordingEngine(num_slots=2, samples_per_step=4800, cost_s=0.002)

        async with running(build=build, max_wait_ms=10_000) as daemon:

            async def one(number: int) -> int:
                async with daemon.wire() as wire:
                    heard = await wire.speak("a", f"Hello, I am number {number}.")
                    assert heard.samples().size == heard.end.samples
                    return heard.end.samples

            lengths = await asyncio.gather(*(one(number) for number in range(10, 30)))
            assert len(set(lengths)) == 1
            assert daemon.engine.diary.most_busy == 2

    run(talk())


def test_more_paced_listeners_than_slots_are_all_served() -> None:
    """Slots that rest because their listeners have enough must not keep others waiting."""

    async def talk() -> None:
        def build() -> RecordingEngine:
            return RecordingEngine(num_slots=1, samples_per_step=4800)

        text = "Hello there. And on."
        async with running(build=build, max_wait_ms=3_000) as daemon, daemon.wire() as wire:
            for name in "abcdef":
                await wire.say(name, text, max_lead_ms=200)
            for name in "abcdef":
                heard = await wire.hear(name)
                assert heard.samples().size == heard.end.samples

    run(talk())
