"""The life of ElevenLabs' contexts over real sockets: begun, closed, cut, or never there."""

import asyncio
import time

from tests.e2e.elevenlabs import (
    LONG,
    PCM_BYTES_A_MS,
    TEXT,
    Heard,
    dialled,
    dialling,
)
from tests.e2e.wire import run, running
from tests.fakes import HeldEngine


def test_messages_for_contexts_that_are_not_there_open_none() -> None:
    """Real clients flush, close and keep alive contexts that they never opened; each would hold a
    place until the limit is reached."""

    async def talk() -> None:
        async with dialling(max_contexts=1) as (daemon, wire):
            for name in ("p", "q", "r"):
                await wire.send(name, flush=True)
                await wire.send(name, close_context=True)
                await wire.send(name, text="")
            await wire.send(text="")
            assert (await wire.say("c", TEXT)).num_finals == 1
            assert set(wire.heard) == {"c"}
            assert len(daemon.engine.diary.started) == 2

    run(talk())


def test_a_context_without_words_ends_as_well() -> None:
    """Whoever waits for isFinal would wait for ever."""

    async def talk() -> None:
        async with dialling() as (_daemon, wire):
            for name, text in (("a", ""), ("b", "   "), ("c", "🙂")):
                await wire.open(name, text)
                await wire.send(name, close_context=True)
                heard = await wire.hear(name)
                assert (heard.num_finals, heard.audio) == (1, b"")

    run(talk())


def test_a_closed_context_is_finished_and_its_place_is_free_at_once() -> None:
    """The same message says that a turn is complete and that it was interrupted: what was sent must
    be heard, and clients that interrupt in a row must not run into the limit."""

    async def talk() -> None:
        engine = HeldEngine(num_steps=0)
        async with dialling(build=lambda: engine, max_contexts=2) as (_daemon, wire):
            for name in ("a", "b", "c", "d"):
                await wire.open(name, TEXT)
                await wire.send(name, close_context=True)
            # Of what was closed, no more than may be open goes on: the oldest is cut.
            assert (await wire.hear("a")).text == ""
            engine.go.set()
            heard = [await wire.hear(name) for name in ("b", "c", "d")]
            assert {item.text for item in heard} == {TEXT + " "}
            assert all(item.num_finals == 1 for item in wire.heard.values())

    run(talk())


def test_a_closed_context_takes_no_more_text() -> None:
    """Said after its end it would be lost without a word; keepalives may still come."""

    async def talk() -> None:
        engine = HeldEngine(num_steps=0)
        async with dialling(build=lambda: engine) as (_daemon, wire):
            await wire.open("c", TEXT)
            await wire.send("c", close_context=True)
            await wire.send("c", text="")
            await wire.send("c", text="more", flush=True)
            await wire.receive()
            engine.go.set()
            heard = await wire.hear("c")
            assert heard.errors == ["text_after_end"]
            assert (heard.text, heard.num_finals) == (TEXT + " ", 1)

    run(talk())


def test_too_many_open_contexts_are_refused_by_name() -> None:
    """The others go on, and there is room as soon as one is closed."""

    async def talk() -> None:
        async with dialling(max_contexts=2) as (_daemon, wire):
            for name in ("a", "b", "c"):
                await wire.open(name)
            refusal = await wire.receive()
            assert (refusal["error"], refusal["contextId"]) == ("max_active_conversations", "c")
            await wire.send("a", close_context=True)
            assert (await wire.say("c", TEXT)).text == TEXT + " "

    run(talk())


def test_a_closed_context_that_nobody_hears_wastes_little() -> None:
    """Clients drop the audio of an interrupted turn; it must not be made faster than it is played,
    and the next turn must not wait for it."""

    async def talk() -> None:
        async with dialling(num_slots=2) as (daemon, wire):
            await wire.open("old", LONG)
            await wire.send("old", close_context=True)
            while not wire.heard.get("old", Heard()).audio:
                await wire.receive()
            begun_s = time.monotonic()
            new = await wire.say("new", "Yes?")
            assert new.num_finals == 1
            await asyncio.sleep(0.3)
            lead_s = daemon.engine.diary.num_samples / 24_000 - (time.monotonic() - begun_s)
            assert lead_s < 2 * 2.0 + 2.0  # of either context, and the segment ahead

    run(talk())


def test_immediately_closed_means_silence() -> None:
    """Our extension: nothing but isFinal may follow, and the slot is free."""

    async def talk() -> None:
        async with dialling() as (daemon, wire):
            await wire.open("c", LONG)
            while not wire.heard.get("c", Heard()).audio:
                await wire.receive()
            await wire.send("c", close_context=True, immediate=True)
            num_before = len(wire.heard["c"].messages)
            await wire.hear("c")
            assert len(wire.heard["c"].messages) - num_before < 40  # what was on its way
            await wire.expect_silence()
            await daemon.until(lambda: not daemon.engine.diary.busy)
            await wire.open("d", LONG)
            await wire.send("d", close_context=True)
            await wire.send("d", close_context=True, immediate=True)
            assert (await wire.hear("d")).num_finals == 1

    run(talk())


def test_closed_twice_means_silence() -> None:
    """Pipecat closes a context at the end of its text, and again if its user interrupts; a minute
    of speech would be made for nobody."""

    async def talk() -> None:
        async with dialling() as (daemon, wire):
            await wire.open("c", LONG)
            await wire.send("c", flush=True)
            await wire.send("c", close_context=True)
            while not wire.heard.get("c", Heard()).audio:
                await wire.receive()
            await wire.send("c", close_context=True)
            num_before = len(wire.heard["c"].messages)
            assert (await wire.hear("c")).num_finals == 1
            assert len(wire.heard["c"].messages) - num_before < 40  # what was on its way
            await daemon.until(lambda: not daemon.engine.diary.busy)

    run(talk())


def test_a_name_can_be_used_again() -> None:
    """The default context is; its second turn must not sound like the end of the first."""

    async def talk() -> None:
        async with dialling() as (_daemon, wire):
            first = await wire.say("c", TEXT)
            wire.heard.clear()
            assert (await wire.say("c", TEXT)).audio == first.audio

    run(talk())


def test_closing_the_socket_finishes_what_is_open() -> None:
    """Then it is the daemon that closes: Pipecat waits for that."""

    async def talk() -> None:
        async with dialling() as (_daemon, wire):
            await wire.open("c", TEXT)
            await wire.send(close_socket=True)
            await wire.send("d", text="ignored")
            assert await wire.closed() == (1000, "")
            assert wire.heard["c"].text == TEXT + " "
            assert set(wire.heard) == {"c"}
        async with dialling() as (_daemon, wire):
            await wire.send(close_socket=True)
            assert await wire.closed() == (1000, "")

    run(talk())


def test_silence_ends_contexts_and_sockets() -> None:
    """A client that is gone without a word must not hold its places. (What keeps them is tested in
    tests/unit/test_elevenlabs_talk.py, by a clock that no busy machine can disturb.)"""

    async def talk() -> None:
        async with (
            running(max_buffer_delay_ms=60_000) as daemon,
            dialled(daemon, output_format="pcm_24000", inactivity_timeout="1") as wire,
        ):
            await wire.open("c", "waiting")
            assert (await wire.hear("c")).text == "waiting "
            code, reason = await wire.closed()
            assert code == 1008
            assert "nothing was sent" in reason

    run(talk())


# --- one context a socket -------------------------------------------------------------------------


def test_the_single_socket_ends_with_an_empty_text() -> None:
    """The SDK sends this and then reads until the daemon closes; a `message` in what came last
    would be raised as an error."""

    async def talk() -> None:
        async with (
            running() as daemon,
            dialled(daemon, kind="stream-input", output_format="pcm_24000") as wire,
        ):
            config = {"chunk_length_schedule": [50]}
            await wire.send(text=" ", voice_settings=None, generation_config=config)
            for word in TEXT.split():
                await wire.send(text=f"{word} ", try_trigger_generation=True)
            await wire.send(text="")
            assert await wire.closed() == (1000, "")
            heard = wire.heard[None]
            assert heard.text == TEXT + " "
            assert heard.messages[-1] == {"audio": None, "isFinal": True}
            assert heard.aligned_ms == len(heard.audio) // PCM_BYTES_A_MS

    run(talk())


def test_the_single_socket_without_text_just_closes() -> None:
    """An empty text first is the end of nothing."""

    async def talk() -> None:
        async with running() as daemon, dialled(daemon, kind="stream-input") as wire:
            await wire.send(text="")
            assert await wire.closed() == (1000, "")
            assert not wire.heard

    run(talk())
