"""Deepgram Flux (`/v2/speak`) over real sockets: turns, interruptions, speed, Close."""

import asyncio
from collections.abc import Callable

import pytest

from daemon.dialects.line import Line
from tests.e2e.deepgram import FLUX, LONG, ONE, TEXT, Body, service, slow
from tests.e2e.wire import native_pcm, run
from tests.fakes import RecordingEngine, UnhurriedEngine


def test_flux_brackets_each_turn_and_counts_it() -> None:
    """Everything between SpeechStarted and SpeechMetadata is one turn's; LiveKit and Pipecat take
    the latter as its end."""

    async def talk() -> None:
        async with service() as deepgram:
            expected = await native_pcm(deepgram.daemon, TEXT)
            async with deepgram.client(FLUX) as client:
                names = set()
                for _ in range(2):
                    await client.speak("Hello th", "ere. How are ", "you today?")
                    await client.send("Flush")
                    turn = await client.until("SpeechMetadata")
                    assert turn.order[0] == "SpeechStarted"
                    assert turn.order[-1] == "SpeechMetadata"
                    assert turn.order.count("Flushed") == 1
                    assert turn.audio == expected
                    assert turn.last["audio_duration_ms"] == round(len(expected) / 48)
                    assert turn.last["input_character_count"] == len(TEXT)
                    ids = {message["speech_id"] for message in turn.messages}
                    assert len(ids) == 1
                    names |= ids
                assert len(names) == 2

    run(talk())


def test_an_interruption_tells_what_was_heard() -> None:
    """It goes into the LLM's history: a word too many, and the agent believes that it was said."""

    async def talk() -> None:
        async with service(build=slow) as deepgram, deepgram.client(FLUX) as client:
            await client.speak(LONG)
            await client.send("Flush")
            await client.receive_audio(3 * 48_000)
            await client.interrupt(1500)
            stopped = (await client.until("SpeechInterrupted")).last
            assert stopped["audio_played_ms"] == 1500
            assert stopped["text_spoken"] + stopped["text_remaining"] == LONG
            # The tones last as long as the words have letters: 66.7 ms each.
            assert stopped["text_spoken"] == "This is one long"
            assert stopped["metadata"]["audio_duration_ms"] >= 3000
            await client.expect_silence()
            await deepgram.daemon.until(lambda: not deepgram.daemon.engine.diary.busy)

    run(talk())


def test_offsets_count_over_the_session_from_what_was_kept() -> None:
    """A second interruption that starts from zero, or counts what nobody heard, tells nonsense."""

    async def talk() -> None:
        async with service(build=slow) as deepgram, deepgram.client(FLUX) as client:
            await client.speak("Hi.")
            await client.send("Flush")
            first_ms = (await client.until("SpeechMetadata")).last["audio_duration_ms"]
            for kept_ms in (first_ms, first_ms + 1500):
                await client.speak(LONG)
                await client.receive_audio(3 * 48_000)
                await client.interrupt(kept_ms + 1500)
                stopped = (await client.until("SpeechInterrupted")).last
                assert stopped["text_spoken"] == "This is one long"
            await client.speak("Hi.")
            await client.interrupt(100)
            turn = await client.until("Warning")
            assert turn.last["code"] == "INVALID_INTERRUPT_OFFSET"
            await client.send("Flush")
            await client.until("SpeechMetadata")
            await client.send("Close")
            totals = (await client.until("SessionMetadata")).last
            assert totals["total_audio_duration_ms"] == 2 * first_ms + 3000
            assert await client.closed() == 1000

    run(talk())


def test_an_interruption_without_an_offset_stops_the_turn_and_tells_no_text() -> None:
    """Pipecat sends no offset; a text that is a guess would pass for what was heard."""

    async def talk() -> None:
        async with service(build=slow) as deepgram, deepgram.client(FLUX) as client:
            await client.speak(LONG)
            await client.send("Flush")
            await client.speak("This waits behind it.")
            await client.first_audio()
            await client.send("Interrupt")
            turn = await client.until("SpeechInterrupted")
            assert "text_spoken" not in turn.last
            assert "text_remaining" not in turn.last
            assert "SpeechMetadata" not in turn.order
            sent_ms = turn.last["metadata"]["audio_duration_ms"]
            assert turn.last["audio_played_ms"] == sent_ms > 0
            await client.expect_silence()
            await client.speak(TEXT)
            await client.send("Flush")
            assert (await client.until("SpeechMetadata")).order[0] == "SpeechStarted"

    run(talk())


def test_what_was_sent_but_not_heard_can_be_interrupted() -> None:
    """Audio is sent seconds ahead: most people interrupt a turn whose last byte has left."""

    async def talk() -> None:
        async with service() as deepgram, deepgram.client(FLUX) as client:
            await client.speak(TEXT)
            await client.send("Flush")
            end = (await client.until("SpeechMetadata")).last
            await client.interrupt(900)
            stopped = (await client.until("SpeechInterrupted")).last
            assert stopped["text_spoken"] == "Hello there."
            assert stopped["text_remaining"] == " How are you today?"
            assert stopped["metadata"]["speech_id"] == end["speech_id"]
            await client.send("Interrupt")
            assert (await client.until("Warning")).last["code"] == "NO_ACTIVE_SPEECH"

    run(talk())


def test_an_interruption_tells_of_each_turn_that_was_not_heard_to_its_end() -> None:
    """Short turns are sent before the first of them is heard: all of them are in the air, and the
    agent believes that it has said them."""

    async def talk() -> None:
        async with service() as deepgram, deepgram.client(FLUX) as client:
            names = []
            for text in ("Well.", TEXT, "This is behind it."):
                await client.speak(text)
                await client.send("Flush")
                end = (await client.until("SpeechMetadata")).last
                names.append((end["speech_id"], end["audio_duration_ms"]))
            await client.speak("And this is not flushed. ")
            await client.until("SpeechStarted")
            await client.interrupt(names[0][1] + 900)
            told = [(await client.until("SpeechInterrupted")).last for _ in range(3)]
            assert [item["metadata"]["speech_id"] for item in told[:2]] == [
                name for name, _ in names[1:]
            ]
            assert [item["text_spoken"] for item in told] == ["Hello there.", "", ""]
            assert [item["text_remaining"] for item in told] == [
                " How are you today?",
                "This is behind it.",
                "And this is not flushed. ",
            ]
            await client.expect_silence()
            await client.interrupt(names[0][1] + 900)
            assert (await client.until("Warning")).last["code"] == "NO_ACTIVE_SPEECH"

    run(talk())


def test_an_interruption_faster_than_the_first_audio_stops_the_turn() -> None:
    """People talk over the very first word; the answer must not begin after they did."""

    async def talk() -> None:
        async with service(build=slow) as deepgram, deepgram.client(FLUX) as client:
            await client.send("Interrupt")
            assert (await client.until("Warning")).last["code"] == "NO_AUDIO_GENERATED"
            await client.speak(TEXT)
            await client.interrupt(0)
            turn = await client.until("SpeechInterrupted")
            assert turn.last["text_spoken"] == ""
            assert turn.last["text_remaining"] == TEXT
            await client.expect_silence()

    run(talk())


@pytest.mark.parametrize("tells_offset", [True, False])
def test_a_turn_that_just_ended_is_not_begun_again_to_be_interrupted(
    tells_offset: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption may come while a slow socket still makes room behind SpeechMetadata: a second
    SpeechStarted would count the turn twice, and all later offsets would be off."""
    send_json = Line.send_json

    async def send_slowly(line: Line, body: Body) -> None:
        await send_json(line, body)
        if body["type"] == "SpeechMetadata":
            await asyncio.Event().wait()

    async def talk() -> None:
        async with service() as deepgram, deepgram.client(FLUX) as client:
            monkeypatch.setattr(Line, "send_json", send_slowly)
            await client.speak(TEXT)
            await client.send("Flush")
            duration_ms = (await client.until("SpeechMetadata")).last["audio_duration_ms"]
            monkeypatch.setattr(Line, "send_json", send_json)
            if tells_offset:
                await client.interrupt(duration_ms)
            else:
                await client.send("Interrupt")
            turn = await client.until("Warning")
            assert turn.order == ["Warning"]
            assert turn.last["code"] == "NO_ACTIVE_SPEECH"
            await client.send("Close")
            totals = (await client.until("SessionMetadata")).last
            assert totals["total_audio_duration_ms"] == duration_ms

    run(talk())


def test_flux_warns_of_a_flush_or_turn_of_nothing() -> None:
    """A turn of one smiley must end as others do, or the agent stays silent for ever."""

    async def talk() -> None:
        async with service() as deepgram, deepgram.client(FLUX) as client:
            await client.send("Flush")
            assert (await client.until("Warning")).last["code"] == "NO_ACTIVE_SPEECH"
            await client.speak("  ")
            await client.send("Flush")
            turn = await client.until("SpeechMetadata")
            assert turn.of("Warning")["code"] == "NO_SYNTHESIZABLE_TEXT"
            assert turn.last["audio_duration_ms"] == 0

    run(talk())


def test_close_finishes_what_was_written() -> None:
    """Flux's Close is the polite end: the last words are still wanted."""

    async def talk() -> None:
        async with service() as deepgram:
            expected = await native_pcm(deepgram.daemon, TEXT)
            async with deepgram.client(FLUX) as client:
                await client.speak(TEXT)
                await client.send("Close")
                await client.speak("This comes too late.")
                turn = await client.until("SessionMetadata")
                assert turn.audio == expected
                assert turn.last["total_audio_duration_ms"] == round(len(expected) / 48)
                assert turn.last["total_input_character_count"] == len(TEXT)
                assert await client.closed() == 1000

    run(talk())


@pytest.mark.parametrize("build", [RecordingEngine, UnhurriedEngine])
def test_configure_changes_the_speed_of_the_next_turn(
    build: Callable[[], RecordingEngine],
) -> None:
    """A setting that is acknowledged and not heard is worse than one that is refused."""

    async def talk() -> None:
        async with service(build=build) as deepgram, deepgram.client(FLUX) as client:
            lengths = []
            for speed in (1.0, 1.5, 0.5):
                await client.send("Configure", speed=speed)
                applied = (await client.until("ConfigureSuccess")).last["applied"]
                assert applied == {"speed": speed}
                await client.speak(ONE)
                await client.send("Flush")
                turn = await client.until("SpeechMetadata")
                lengths.append(len(turn.audio))
                assert turn.last["audio_duration_ms"] == pytest.approx(
                    len(turn.audio) / 48, rel=0.02
                )
            assert lengths[1] == pytest.approx(lengths[0] / 1.5, rel=0.05)
            assert lengths[2] == pytest.approx(lengths[0] / 0.5, rel=0.05)
            for speed, code in ((1.6, "SPEED_OUT_OF_RANGE"), (1.02, "SPEED_INCREMENT_INVALID")):
                await client.send("Configure", speed=speed)
                failure = (await client.until("ConfigureFailure")).last
                assert (failure["code"], failure["field"], failure["value"]) == (
                    code,
                    "speed",
                    speed,
                )

    run(talk())
