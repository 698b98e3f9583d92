"""Barge-in: a cancelled context is silent at once, frees everything, and says what was spoken."""

import asyncio

from daemon.wire.protocol import AudioMessage, Cancelled, Failed, Opened, SegmentStart
from tests.e2e.wire import Heard, run, running
from tests.fakes import RecordingEngine

LONG = "All work and no play makes Jack a dull boy, and so it goes on and on. " * 30


def assert_ends_with_its_acknowledgement(heard: Heard) -> None:
    assert isinstance(heard.messages[-1], Cancelled)
    assert len(heard.of(Cancelled)) == 1


def test_nothing_follows_the_acknowledgement() -> None:
    """Packets in the encoder, the outbox or the engine's queue would speak into the next turn."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            await wire.say("a", LONG, max_lead_ms=120_000)
            for _ in range(20):
                await wire.receive_until(AudioMessage)
            await wire.send("cancel", "a")
            assert_ends_with_its_acknowledgement(await wire.hear("a"))
            await wire.expect_silence(0.3)
            await daemon.until(lambda: not daemon.engine.diary.busy)

    run(talk())


def test_a_storm_of_cancels_loses_and_leaks_nothing() -> None:
    """Races between opening, speaking and cancelling show up in numbers only."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            for turn in range(60):
                name = f"turn {turn % 3}"
                await wire.say(name, LONG, format="pcm_s16le" if turn % 2 else "opus")
                for _ in range(turn % 5):
                    await wire.receive()
                if turn % 7 == 0:
                    await asyncio.sleep(0.01)
                await wire.send("cancel", name)
                cancelled = await wire.receive_until(Cancelled)
                assert cancelled.context == name
                assert cancelled.text_spoken + cancelled.text_remaining == LONG
                assert_ends_with_its_acknowledgement(wire.heard[name])
            await wire.expect_silence(0.3)
            await daemon.until(lambda: not daemon.engine.diary.busy)
            heard = await wire.speak("after", "Hello.")
            assert heard.end.samples == sum(packet.num_samples for packet in heard.packets)
            assert not wire.stray

    run(talk())


def test_cancel_frees_the_slot_before_the_next_step() -> None:
    """The next turn would otherwise wait for the end of the sentence that nobody hears."""

    async def talk() -> None:
        def build() -> RecordingEngine:
            return RecordingEngine(num_slots=1, samples_per_step=240, cost_s=0.02)

        async with running(build=build) as daemon, daemon.wire() as wire:
            await wire.say("a", LONG)
            await wire.receive_until(AudioMessage)
            await wire.send("cancel", "a")
            await wire.receive_until(Cancelled)
            num_steps = daemon.engine.diary.num_steps
            await daemon.until(lambda: not daemon.engine.diary.busy)
            assert daemon.engine.diary.num_steps <= num_steps + 1

    run(talk())


def test_played_ms_divides_the_text_between_words() -> None:
    """The language model must be told what its listener really heard."""
    text = "One two three four. Five six seven eight."

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            # 19 characters at 15 a second: the first segment lasts 1267 ms.
            for played_ms, spoken in ((0, ""), (640, "One two"), (1300, "One two three four.")):
                await wire.say("a", text)
                for _ in range(80):
                    await wire.receive_until(AudioMessage)
                await wire.send("cancel", "a", played_ms=played_ms)
                cancelled = await wire.receive_until(Cancelled)
                assert cancelled.text_spoken == spoken
                assert cancelled.text_remaining == text[len(spoken) :]
                assert cancelled.played_ms == played_ms

    run(talk())


def test_a_cancel_that_crosses_the_end_is_answered() -> None:
    """With a lead of seconds nearly every interruption comes after the last packet was sent."""
    text = "One two three four. Five six seven eight."

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            heard = await wire.speak("a", text)
            assert heard.end.samples
            await wire.send("cancel", "a", played_ms=1300)
            cancelled = await wire.receive_until(Cancelled)
            assert cancelled.text_spoken == "One two three four."
            await wire.send("cancel", "a", played_ms=1300)
            assert (await wire.receive_until(Failed)).code == "unknown_context"

    run(talk())


def test_a_cancel_before_any_sound_leaves_the_whole_text() -> None:
    """Text that waits in the segmenter belongs to what remains."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            await wire.send("open", "a")
            await wire.send("text", "a", text="Never mi")
            await wire.send("cancel", "a")
            cancelled = await wire.receive_until(Cancelled)
            assert (cancelled.text_spoken, cancelled.text_remaining) == ("", "Never mi")
            assert cancelled.samples_sent == 0

    run(talk())


def test_a_name_may_be_used_again_at_once() -> None:
    """Audio of the old bearer of the name must not count as the new one's."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            await wire.say("a", LONG)
            await wire.receive_until(AudioMessage)
            await wire.send("cancel", "a")
            await wire.say("a", "Hello.")
            await wire.receive_until(Cancelled)
            await wire.receive_until(Opened)
            heard = await wire.hear("a")
            assert [segment.text for segment in heard.of(SegmentStart)] == ["Hello."]
            assert heard.packets[0].sequence == 0
            assert heard.samples().size == heard.end.samples

    run(talk())


def test_cancelling_one_context_leaves_the_others_alone() -> None:
    """A purge that is too wide would cut a neighbour's sentence."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            await wire.say("a", LONG, max_lead_ms=1000)
            await wire.say("b", "Hello there, neighbour.", max_lead_ms=600)
            while "b" not in wire.heard or not wire.heard["b"].packets:
                await wire.receive()
            await wire.send("cancel", "a")
            heard = await wire.hear("b")
            assert heard.samples().size == heard.end.samples

    run(talk())
