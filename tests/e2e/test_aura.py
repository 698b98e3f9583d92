"""Deepgram Aura (`/v1/speak`) over real sockets: what is said, in which form, and Clear."""

import numpy as np
import pytest

from tests.e2e.deepgram import AURA, LONG, PAUSE, TEXT, service, slow
from tests.e2e.wire import native_pcm, run

LASTING = "This is still heard when the next turn is sent, however slow this machine may be. " * 2
"""Eleven seconds."""


def test_aura_speaks_what_it_is_sent_and_says_when_it_is_out() -> None:
    """Both frameworks end the bot's turn at Flushed: audio behind it is cut or goes astray."""

    async def talk() -> None:
        async with service(max_lead_ms=60_000) as deepgram:
            expected = await native_pcm(deepgram.daemon, LASTING)
            async with deepgram.client(AURA) as client:
                for number in range(3):
                    await client.speak(LASTING[:50], LASTING[50:52], LASTING[52:])
                    await client.send("Flush")
                    turn = await client.until("Flushed")
                    assert turn.order == ["audio", "Flushed"]
                    assert turn.audio == (PAUSE if number else b"") + expected
                    assert turn.last == {"type": "Flushed", "sequence_id": number}

    run(talk())


def test_speech_begins_before_the_flush() -> None:
    """An LLM flushes when it is done; who waits for that hears nothing until then."""

    async def talk() -> None:
        async with service() as deepgram, deepgram.client(AURA) as client:
            await client.speak(TEXT + " And")
            assert isinstance(await client.connection.recv(), bytes)

    run(talk())


def test_turns_are_spoken_in_order_and_each_is_marked() -> None:
    """Audio has no name here: if two turns mix, nobody can take them apart."""

    async def talk() -> None:
        async with service(max_lead_ms=60_000) as deepgram:
            texts = [LASTING, "And now the second of them.", "Three."]
            expected = [await native_pcm(deepgram.daemon, text) for text in texts]
            async with deepgram.client(AURA) as client:
                for text in texts:
                    await client.speak(text)
                    await client.send("Flush")
                spoken = [(await client.until("Flushed")).audio for _ in texts]
                assert spoken == [expected[0], PAUSE + expected[1], PAUSE + expected[2]]

    run(talk())


def test_a_flush_of_nothing_is_answered() -> None:
    """Pipecat flushes at every end of the LLM's answer, also an empty one, and waits."""

    async def talk() -> None:
        async with service() as deepgram, deepgram.client(AURA) as client:
            await client.send("Flush")
            assert (await client.until("Flushed")).order == ["Flushed"]
            await client.speak(" ")
            await client.send("Flush")
            await client.send("Flush")
            assert (await client.until("Flushed")).order == ["Flushed"]
            assert (await client.until("Flushed")).order == ["Flushed"]

    run(talk())


def test_nothing_of_a_turn_follows_cleared() -> None:
    """Audio has no name here: what comes after Cleared is taken for the next answer."""

    async def talk() -> None:
        async with service(build=slow) as deepgram:
            expected = await native_pcm(deepgram.daemon, TEXT)
            diary = deepgram.daemon.engine.diary
            async with deepgram.client(AURA) as client:
                await client.speak(LONG)
                await client.send("Flush")
                await client.speak("This waits behind it.")
                await client.send("Flush")
                await client.connection.recv()
                await client.send("Clear")
                assert "Flushed" not in (await client.until("Cleared")).order
                await client.expect_silence()
                await deepgram.daemon.until(lambda: not diary.busy)
                await client.speak(TEXT)
                await client.send("Flush")
                assert (await client.until("Flushed")).audio == expected
                assert 'outcome="cancelled"' in deepgram.daemon.daemon.metrics.page().decode()

    run(talk())


def test_an_error_is_told_as_a_warning_too() -> None:
    """Pipecat's Aura service knows no errors: of a full daemon it would say nothing, only be
    mute."""

    async def talk() -> None:
        async with service(max_text_chars=100) as deepgram, deepgram.client(AURA) as client:
            await client.speak("long " * 100)
            turn = await client.until("Error")
            assert turn.order == ["Warning", "Error"]
            warning, error = turn.messages
            assert warning["warn_msg"] == warning["description"] == error["description"]
            assert warning["warn_code"] == error["code"]

    run(talk())


def test_clear_with_nothing_to_clear_is_answered() -> None:
    """Clients clear at every interruption, spoken to or not."""

    async def talk() -> None:
        async with service() as deepgram, deepgram.client(AURA) as client:
            for number in range(2):
                await client.send("Clear")
                assert (await client.until("Cleared")).last["sequence_id"] == number

    run(talk())


@pytest.mark.parametrize(
    ("query", "rate", "sample_bytes"),
    [
        ("encoding=linear16&sample_rate=16000", 16_000, 2),
        ("encoding=linear16&sample_rate=48000", 48_000, 2),
        ("encoding=mulaw&sample_rate=8000", 8_000, 1),
        ("encoding=alaw", 8_000, 1),
    ],
)
def test_audio_has_the_rate_that_was_asked_for(query: str, rate: int, sample_bytes: int) -> None:
    """Raw audio does not say what it is: at another rate it is a chipmunk or a hiss."""

    async def talk() -> None:
        async with service() as deepgram:
            seconds = len(await native_pcm(deepgram.daemon, TEXT)) / 2 / 24_000
            async with deepgram.client(AURA, query) as client:
                await client.speak(TEXT)
                await client.send("Flush")
                num_bytes = len((await client.until("Flushed")).audio)
                assert num_bytes / sample_bytes / rate == pytest.approx(seconds, abs=0.001)

    run(talk())


def test_mu_law_is_the_same_sound() -> None:
    """A law's bytes that are only of the right number would be noise on the telephone."""

    async def talk() -> None:
        async with service() as deepgram:
            sounds = []
            for encoding in ("linear16", "mulaw"):
                query = f"encoding={encoding}&sample_rate=8000"
                async with deepgram.client(AURA, query) as client:
                    await client.speak(TEXT)
                    await client.send("Flush")
                    sounds.append((await client.until("Flushed")).audio)
            linear = np.frombuffer(sounds[0], dtype="<i2").astype(float)
            code = ~np.frombuffer(sounds[1], dtype=np.uint8)
            size = (((code & 15).astype(int) * 2 + 33) << (code >> 4 & 7)) - 33
            decoded = np.where(code & 128, -1, 1) * size * 4.0
            assert np.abs(decoded - linear).max() <= 0.04 * np.abs(linear).max()

    run(talk())


def test_close_comes_after_what_was_flushed() -> None:
    """Deepgram's own package, where it blocks, must send Speak, Flush and Close before it listens:
    so do its examples, and they would hear nothing."""

    async def talk() -> None:
        async with service(build=slow) as deepgram:
            expected = await native_pcm(deepgram.daemon, TEXT)
            async with deepgram.client(AURA) as client:
                await client.speak(TEXT)
                await client.send("Flush")
                await client.speak("This is not flushed.")
                await client.send("Close")
                await client.speak("This is too late.")
                await client.send("Flush")
                turn = await client.until("Flushed")
                assert turn.audio == expected
                assert await client.closed() == 1000
            started = " ".join(segment.text for segment in deepgram.daemon.engine.diary.started)
            assert "not flushed" not in started
            assert "too late" not in started

    run(talk())


def test_clear_after_close_ends_it_at_once() -> None:
    """An interruption must not wait for the end of what it interrupts."""

    async def talk() -> None:
        async with service(build=slow) as deepgram, deepgram.client(AURA) as client:
            await client.speak(LONG)
            await client.send("Flush")
            await client.send("Close")
            await client.first_audio()
            await client.send("Clear")
            assert "Flushed" not in (await client.until("Cleared")).order
            assert await client.closed() == 1000

    run(talk())


def test_close_ends_at_once_what_was_not_flushed_and_frees_the_slot() -> None:
    """A pooled socket that is given up must not go on speaking to nobody."""

    async def talk() -> None:
        async with service(build=slow) as deepgram:
            diary = deepgram.daemon.engine.diary
            async with deepgram.client(AURA) as client:
                await client.speak(LONG)
                await client.connection.recv()
                await client.send("Close")
                assert await client.closed() == 1000
                await deepgram.daemon.until(lambda: not diary.busy)

    run(talk())
