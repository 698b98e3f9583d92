"""Text over a real socket comes back as speech, all of it, in order and in time."""

import asyncio
import time

import numpy as np
import pytest

from chatterbox.api import SAMPLE_RATE
from daemon.opus import PACKET_SAMPLES, PRE_SKIP_SAMPLES
from daemon.wire.protocol import (
    Flushed,
    Opened,
    SegmentStart,
    Warned,
)
from tests.e2e.wire import run, running

TEXT = (
    "Hello there, my friend. This is a longer sentence, which goes on for a while; it has two"
    " clauses. And this is the last one, number 3.14, isn't it?"
)


def test_a_text_is_spoken_completely() -> None:
    """A lost last packet, a wrong total or a segment without audio would show here."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            heard = await wire.speak("a", TEXT)
            segments = heard.of(SegmentStart)
            assert "".join(TEXT.split()) == "".join("".join(s.text for s in segments).split())
            assert all(s.text == TEXT[s.start : s.end] for s in segments)
            assert [s.segment for s in segments] == list(range(len(segments)))
            end = heard.end
            assert end.samples == sum(packet.num_samples for packet in heard.packets)
            assert end.packets == len(heard.packets)
            assert end.segments == len(segments)
            assert end.text_chars == len(TEXT)
            assert end.duration_ms == pytest.approx(end.samples / 24)
            assert heard.samples().size == end.samples

    run(talk())


def test_segments_say_where_their_audio_starts() -> None:
    """Off by one pause, and every later word would be shown too early."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            heard = await wire.speak("a", TEXT, format="pcm_s16le")
            samples = heard.samples()
            for segment in heard.of(SegmentStart)[1:]:
                before = samples[segment.sample - 720 : segment.sample]
                after = samples[segment.sample : segment.sample + 720]
                assert np.abs(before).max() == 0.0
                assert np.abs(after).max() > 0.2

    run(talk())


def test_opus_and_pcm_are_the_same_audio() -> None:
    """A wrong pre-skip shifts Opus, a wrong last packet shortens it."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            opus = (await wire.speak("a", TEXT, bitrate=64_000)).samples()
            pcm = (await wire.speak("b", TEXT, format="pcm_s16le")).samples()
            assert opus.size == pcm.size
            assert np.corrcoef(opus, pcm)[0, 1] > 0.98

    run(talk())


def test_the_same_request_gives_the_same_bytes() -> None:
    """Pauses or window cuts that depend on timing would make speech irreproducible."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            at_once = await wire.speak("a", TEXT, seed=7)
            await wire.send("open", "b", seed=7)
            for char in TEXT:
                await wire.send("text", "b", text=char)
            await wire.send("end", "b")
            in_pieces = await wire.hear("b")
            other_seed = await wire.speak("c", TEXT, seed=8)
            payloads = [
                [packet.payload for packet in heard.packets] for heard in wire.heard.values()
            ]
            assert payloads[0] == payloads[1]
            assert payloads[0] != payloads[2]
            assert at_once.end.samples == in_pieces.end.samples == other_seed.end.samples

    run(talk())


def test_two_contexts_speak_at_the_same_time() -> None:
    """One long context must not keep another one of the same session waiting."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            await wire.say("long", "All work and no play makes Jack a dull boy. " * 40)
            await wire.say("short", "Hello.")
            short = await wire.hear("short")
            assert not wire.heard["long"].is_over
            long = wire.heard["long"]
            assert long.packets
            numbers = {heard.packets[0].number for heard in (short, long)}
            assert len(numbers) == 2

    run(talk())


def test_empty_text_is_an_empty_utterance() -> None:
    """It used to be easy to wait for ever for a segment that never comes."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            for name, text in (("a", ""), ("b", "  \n ")):
                heard = await wire.speak(name, text)
                assert heard.packets == []
                assert heard.end.samples == 0
            await wire.send("open", "c")
            await wire.send("end", "c")
            assert (await wire.hear("c")).end.samples == 0

    run(talk())


def test_what_cannot_be_said_is_skipped_with_a_warning() -> None:
    """A lone emoji must neither end the context nor stop the segments after it."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            await wire.send("open", "a")
            for text in ("😀 😀!", " Hello there, friend."):
                await wire.send("text", "a", text=text)
                await wire.send("flush", "a")
            await wire.send("end", "a")
            heard = await wire.hear("a")
            assert [warning.code for warning in heard.of(Warned)] == ["unspeakable"]
            assert heard.end.samples > SAMPLE_RATE

    run(talk())


def test_flush_speaks_half_a_sentence_and_says_when() -> None:
    """Without flush an agent could not say a fragment; without `flushed` it could not wait."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            await wire.send("open", "a", max_buffer_delay_ms=60_000)
            await wire.send("text", "a", text="Well then")
            await wire.send("flush", "a")
            first = await wire.receive_until(Flushed)
            heard = wire.heard["a"]
            assert first.flush == 1
            assert first.end == len("Well then")
            # All but what the codec still holds has arrived.
            num_heard = sum(packet.num_samples for packet in heard.packets)
            assert 0 <= first.samples - num_heard <= PACKET_SAMPLES + PRE_SKIP_SAMPLES
            await wire.send("flush", "a")
            second = await wire.receive_until(Flushed)
            assert (second.flush, second.samples) == (2, first.samples)
            await wire.send("text", "a", text=" it goes on.")
            await wire.send("end", "a")
            assert (await wire.hear("a")).end.segments == 2

    run(talk())


def test_a_stalling_writer_is_spoken_after_the_buffer_delay() -> None:
    """An LLM that calls a tool in mid-sentence would otherwise leave its listener in silence."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            await wire.send("open", "a", max_buffer_delay_ms=50)
            await wire.send("text", "a", text="Let me look that u")
            segment = await wire.receive_until(SegmentStart)
            assert segment.text == "Let me look that"
            await wire.send("text", "a", text="p.")
            await wire.send("end", "a")
            heard = await wire.hear("a")
            assert [item.text for item in heard.of(SegmentStart)] == ["Let me look that", "up."]

    run(talk())


def test_a_fluent_writer_is_not_cut_by_the_buffer_delay() -> None:
    """The delay counts from the last text, not from the first."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            await wire.send("open", "a", max_buffer_delay_ms=1_000)
            for word in ("One ", "two ", "three ", "four "):
                await wire.send("text", "a", text=word)
                await asyncio.sleep(0.4)
            await wire.send("end", "a")
            heard = await wire.hear("a")
            assert [item.text for item in heard.of(SegmentStart)] == ["One two three four"]

    run(talk())


def test_audio_keeps_to_the_lead_that_was_asked_for() -> None:
    """Audio that is sent too early is wasted at every interruption; too late, and it stutters."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            asked_s = time.monotonic()
            text = "Hello there, dear friend of mine. It is good to see you here."
            heard = await wire.speak("a", text, max_lead_ms=1_000)
            leads_s = []  # too small by the latency of the first packet
            num_samples = 0
            for message, arrived_s in zip(heard.messages, heard.arrived_s, strict=True):
                if message in heard.packets:
                    num_samples += message.num_samples
                    leads_s.append(num_samples / SAMPLE_RATE - (arrived_s - asked_s))
            assert max(leads_s) <= 1.0
            assert min(leads_s[50:]) > 0
            assert heard.end.duration_ms > 3000

    run(talk())


def test_settings_reach_the_engine_and_the_encoder() -> None:
    """An option that is taken but not passed on would be found by listening only."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            plain = await wire.speak("a", "Hello there.", seed=3)
            fast = await wire.speak("b", "Hello there.", options={"speed": 2.0}, voice="low")
            thin = await wire.speak("c", "Hello there.", bitrate=8000)
            assert fast.end.samples < 0.6 * plain.end.samples
            assert sum(len(p.payload) for p in thin.packets) < 0.5 * sum(
                len(p.payload) for p in plain.packets
            )
            opened = fast.of(Opened)[0]
            assert (opened.voice, opened.options["speed"]) == ("low", 2.0)
            started = daemon.engine.diary.started
            assert [segment.voice for segment in started] == ["sine", "low", "sine"]
            assert started[0].seed == 3

    run(talk())
