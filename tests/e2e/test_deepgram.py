"""What Deepgram's two sockets share: turns that wait, refusals, errors, ends, nonsense."""

import asyncio
import json
import random

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.e2e.deepgram import AURA, FLUX, LONG, TEXT, TOKEN, Body, Client, Service, service, slow
from tests.e2e.owners import ANNA, BOB, client_of, studio
from tests.e2e.wire import native_pcm, run
from tests.fakes import FragileEngine, RecordingEngine

# --- turns ----------------------------------------------------------------------------------------


def test_turns_that_wait_hold_no_slot() -> None:
    """Who flushes after each sentence has many turns: they would starve others, and themselves."""

    async def talk() -> None:
        def one_slot() -> RecordingEngine:
            return RecordingEngine(num_slots=1, samples_per_step=2400, cost_s=0.01)

        async with (
            service(build=one_slot, num_slots=1, max_wait_ms=50, max_contexts=2) as deepgram,
            deepgram.client(AURA) as client,
        ):
            for _ in range(5):
                await client.speak(TEXT)
                await client.send("Flush")
            for _ in range(5):
                assert (await client.until("Flushed")).order == ["audio", "Flushed"]

    run(talk())


@pytest.mark.parametrize("path", [AURA, FLUX])
def test_a_turn_that_comes_when_all_was_sent_does_not_wait(path: str) -> None:
    """LiveKit takes a turn's audio far ahead of playback; interrupted then, it says nothing and
    sends the next answer. Who is interrupted twice must not be mute for a whole turn."""

    def quick() -> RecordingEngine:
        return RecordingEngine(samples_per_step=24_000)

    async def talk() -> None:
        async with (
            service(build=quick, max_lead_ms=60_000) as deepgram,
            deepgram.client(path) as client,
        ):
            for _ in range(3):  # a minute each, nearly
                await client.speak(LONG)
                await client.send("Flush")
                await client.until("Flushed" if path == AURA else "SpeechMetadata")

    run(talk(), longest_s=45.0)  # the third would wait for most of a minute


@pytest.mark.parametrize("path", [AURA, FLUX])
def test_turns_that_wait_are_not_made_long_before_they_are_heard(path: str) -> None:
    """Each turn is paced by itself; together they would be made at once, for somebody who hears
    the first words and interrupts."""

    async def talk() -> None:
        async with service(max_lead_ms=30_000) as deepgram, deepgram.client(path) as client:
            long = LONG[: len(LONG) // 2]  # half a minute, nearly
            for text in (long, long, "And this waits."):
                await client.speak(text)
                await client.send("Flush")
            for _ in range(2):
                await client.until("Flushed" if path == AURA else "SpeechMetadata")
            await client.expect_silence()
            started = [segment.text for segment in deepgram.daemon.engine.diary.started]
            assert "And this waits." not in started
            await client.send("Clear" if path == AURA else "Interrupt")
            await client.until("Cleared" if path == AURA else "SpeechInterrupted")
            await client.speak("And this is wanted now.")
            await client.first_audio()

    run(talk())


# --- refusals -------------------------------------------------------------------------------------


def test_a_token_may_be_shown_in_each_of_deepgrams_ways() -> None:
    """Pipecat and LiveKit send `Token`, temporary tokens come as `Bearer`, browsers can do
    neither."""

    async def talk() -> None:
        async with service(tokens=(f"me={TOKEN}",)) as deepgram:
            for options in (
                {"additional_headers": {"Authorization": f"Token {TOKEN}"}},
                {"additional_headers": {"Authorization": f"token  {TOKEN}"}},
                {"additional_headers": {"Authorization": f"Bearer {TOKEN}"}},
                {"subprotocols": [Subprotocol("token"), Subprotocol(TOKEN)]},
            ):
                async with deepgram.client(AURA, **options) as client:
                    await client.speak("Hi.")
                    await client.send("Flush")
                    assert (await client.until("Flushed")).audio
            for options in (
                {},
                {"additional_headers": {"Authorization": "Token nonsense"}},
                {"additional_headers": {"Authorization": f"Basic {TOKEN}"}},
                {"subprotocols": [Subprotocol("chat"), Subprotocol(TOKEN)]},
            ):
                for path in (AURA, FLUX):
                    status, code, _ = await deepgram.refusal(deepgram.url(path), **options)
                    assert (status, code) == (401, "INVALID_AUTH"), options

    run(talk())


def test_what_cannot_be_met_is_refused_before_the_upgrade_with_the_reason() -> None:
    """Pipecat shows dg-error alone; without it, it says HTTP 400 and nobody knows why."""

    async def talk() -> None:
        async with service() as deepgram:
            base = f"ws://127.0.0.1:{deepgram.daemon.port}{FLUX}?"
            for query, expected in (
                ("model=nobody", "MODEL_NOT_FOUND"),
                ("model=%0d%0aSet-Cookie:%20a", "MODEL_NOT_FOUND"),
                ("model=flux-alexis-xx", "LANGUAGE_NOT_FOUND"),
                ("encoding=opus", "INVALID_ENCODING"),
                ("container=wav", "INVALID_CONTAINER"),
                ("sample_rate=7999", "INVALID_SAMPLE_RATE"),
                ("sample_rate=fast", "INVALID_SAMPLE_RATE"),
                ("sample_rate=99999999999", "INVALID_SAMPLE_RATE"),
                ("speed=3", "SPEED_OUT_OF_RANGE"),
                ("speed=nan", "SPEED_OUT_OF_RANGE"),
                ("speed=1.01", "SPEED_INCREMENT_INVALID"),
            ):
                status, code, about = await deepgram.refusal(base + query)
                assert (status, code) == (400, expected), query
                assert "set-cookie" not in about

    run(talk())


def test_a_voice_of_somebodys_own_is_spoken_to_its_owner_alone() -> None:
    """Who had a voice made expects it behind every door; to others it must not even exist."""

    async def talk() -> None:
        async with studio() as daemon, await client_of(daemon) as anna:
            made = await anna.clone_voice(b"clip", name="me", consent=True)
            url = f"ws://127.0.0.1:{daemon.port}{FLUX}?model={made.voice}"
            hers = {"Authorization": f"Token {ANNA}"}
            async with connect(url, additional_headers=hers) as connection:
                client = Client(connection)
                await client.speak("Hi.")
                await client.send("Flush")
                assert (await client.until("SpeechMetadata")).audio
            assert daemon.engine.diary.started[-1].voice == made.voice
            status, code, _ = await Service(daemon).refusal(
                url, additional_headers={"Authorization": f"Token {BOB}"}
            )
            assert (status, code) == (400, "MODEL_NOT_FOUND")

    run(talk())


def test_a_full_daemon_says_when_to_come_back() -> None:
    """Refusals after the upgrade would look like a working connection."""

    async def talk() -> None:
        async with service(max_sessions=1, retry_after_s=3) as deepgram, deepgram.client(AURA):
            status, code, about = await deepgram.refusal(deepgram.url(FLUX))
            assert (status, code, about["retry-after"]) == (503, "FULL", "3")
        async with service(max_sessions_per_peer=1) as deepgram, deepgram.client(AURA):
            status, code, _ = await deepgram.refusal(deepgram.url(FLUX))
            assert (status, code) == (429, "TOO_MANY_REQUESTS")

    run(talk())


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [AURA, FLUX])
def test_a_wrong_message_is_told_and_the_next_one_is_obeyed(path: str) -> None:
    """One bad message of a long conversation must cost that message, not the conversation."""

    async def talk() -> None:
        async with service(max_text_chars=100) as deepgram, deepgram.client(path) as client:
            for raw, code in (
                ("{", "MESSAGE-0000"),
                ("[]", "MESSAGE-0000"),
                ("[" * 60_000, "MESSAGE-0000"),
                (b"{}", "MESSAGE-0000"),
                ("{}", "MESSAGE-0000"),
                ('{"type": ["Speak"]}', "MESSAGE-0000"),
                ('{"type": "speak", "text": "a"}', "MESSAGE-0000"),
                ('{"type": "Speak"}', "DATA-0000"),
                ('{"type": "Speak", "text": 5}', "DATA-0000"),
                ('{"type": "Speak", "text": "\\ud800"}', "DATA-0000"),
                (json.dumps({"type": "Speak", "text": "long " * 100}), "DATA-0000"),
            ):
                await client.connection.send(raw)
                error = (await client.until("Error")).last
                assert error["code"] == code, (raw[:50], error)
                assert error["description"]
            await client.speak("Hi.")
            await client.send("Flush")
            last = "Flushed" if path == AURA else "SpeechMetadata"
            assert (await client.until(last)).audio

    run(talk())


@pytest.mark.parametrize(("path", "last"), [(AURA, "Flushed"), (FLUX, "SpeechMetadata")])
def test_no_free_slot_is_an_error_and_the_turn_ends(path: str, last: str) -> None:
    """A client that hears of busy must not wait for the end of a turn that never comes."""

    async def talk() -> None:
        def one_slot() -> RecordingEngine:
            return RecordingEngine(num_slots=1, samples_per_step=240, cost_s=0.05)

        async with (
            service(build=one_slot, num_slots=1, max_wait_ms=100) as deepgram,
            deepgram.daemon.wire() as wire,
        ):
            await wire.send("open", "a", format="pcm_s16le")
            await wire.send("text", "a", text="A long sentence that holds the only slot. ")
            await deepgram.daemon.until(lambda: bool(deepgram.daemon.engine.diary.busy))
            async with deepgram.client(path) as client:
                await client.speak(TEXT)
                assert (await client.until("Error")).last["code"] == "BUSY"
                await client.speak("More of the answer that nobody will hear.")
                await client.expect_silence()
                await client.send("Flush")
                assert (await client.until(last)).audio == b""

    run(talk())


@pytest.mark.parametrize(("path", "last"), [(AURA, "Flushed"), (FLUX, "SpeechMetadata")])
def test_a_lost_sentence_is_a_warning_and_the_others_are_spoken(path: str, last: str) -> None:
    """A gap in the answer that nobody is told of looks like a fault of the microphone."""

    async def talk() -> None:
        async with service(build=FragileEngine) as deepgram, deepgram.client(path) as client:
            await client.speak("This part is fine. FAIL this one. And so is this.")
            await client.send("Flush")
            turn = await client.until(last)
            warning = turn.of("Warning")
            assert warning["code"] == warning["warn_code"] == "SYNTHESIS_FAILED"
            assert warning["description"] == warning["warn_msg"]
            assert len(turn.audio) > 24_000

    run(talk())


# --- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [AURA, FLUX])
def test_a_running_turn_finishes_when_the_daemon_is_told_to_stop(path: str) -> None:
    """A restart must not cut a sentence that somebody is listening to."""

    async def talk() -> None:
        async with service(build=slow, grace_s=15.0) as deepgram:
            expected = await native_pcm(deepgram.daemon, TEXT)
            async with deepgram.client(path) as client:
                await client.speak(TEXT)
                first = await client.first_audio()
                deepgram.daemon.daemon.stop()
                await client.send("Flush")
                turn = await client.until("Flushed" if path == AURA else "SpeechMetadata")
                assert first + turn.audio == expected
                assert await client.closed() == 1001
            assert await deepgram.daemon.task == 0

    run(talk())


def test_a_client_that_goes_away_frees_its_slot() -> None:
    """LiveKit interrupts by dropping the socket; speech that goes on costs others theirs."""

    async def talk() -> None:
        async with service(build=slow) as deepgram:
            diary = deepgram.daemon.engine.diary
            for path in (AURA, FLUX):
                async with deepgram.client(path) as client:
                    await client.speak(LONG)
                    await client.send("Flush")
                    await client.first_audio()
                    assert diary.busy
                    client.connection.transport.abort()
                    await deepgram.daemon.until(lambda: not diary.busy)

    run(talk())


def test_a_client_that_does_not_read_is_closed() -> None:
    """Whoever opens a stream and sleeps must not hold a slot until the daemon is restarted."""

    async def talk() -> None:
        async with (
            service(stall_s=0.3, max_lead_ms=120_000, max_text_chars=500_000) as deepgram,
            deepgram.client(AURA, "sample_rate=48000", max_queue=1, close_timeout=0.1) as client,
        ):
            await client.speak(*[LONG] * 20)
            await client.send("Flush")
            daemon = deepgram.daemon
            await daemon.until(lambda: 'outcome="gone"' in daemon.daemon.metrics.page().decode())
            assert not daemon.engine.diary.busy

    run(talk())


# --- nonsense -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [AURA, FLUX])
def test_whatever_is_sent_the_daemon_goes_on(path: str) -> None:
    """No order of messages may break the connection, leave a slot, or stop the next turn."""
    random_ = random.Random(10)
    values: list[object] = [
        None,
        True,
        -1,
        0,
        1.5,
        1e400,
        "",
        "Hi. ",
        "\ud800",
        "x" * 300,
        [],
        {},
        [[]],
    ]
    offsets = [{"type": "time_ms", "value": value} for value in (0, 100, 10**9, -5, "a", None)]

    def nonsense() -> Body:
        kind = random_.choice(
            ["Speak", "Speak", "Flush", "Clear", "Interrupt", "Configure", "Metadata", 7]
        )
        body: Body = {"type": kind, "text": random_.choice([*values, "And so on. ", "Well, "])}
        body["playback_offset"] = random_.choice([*values, *offsets])
        body["speed"] = random_.choice([*values, 1.0])
        return body

    async def talk() -> None:
        async with service(max_text_chars=200, max_contexts=3) as deepgram:
            num_tasks = len(asyncio.all_tasks())
            for _ in range(8):
                async with deepgram.client(path) as client:
                    num_clears = 1
                    for _ in range(60):
                        message = nonsense()
                        num_clears += message["type"] == "Clear"
                        await client.connection.send(json.dumps(message))
                        if random_.random() < 0.1:
                            await asyncio.sleep(0.002)
                    if path == AURA:
                        await client.send("Clear")
                        for _ in range(num_clears):
                            await client.until("Cleared")
                        await client.speak("Hi.")
                        await client.send("Flush")
                        assert (await client.until("Flushed")).audio
                    else:
                        await client.send("Interrupt")
                        await client.send("Configure", speed=1.0)
                        await client.speak("Hi.")
                        await client.send("Close")
                        assert (await client.until("SessionMetadata")).messages
            await deepgram.daemon.until(lambda: not deepgram.daemon.engine.diary.busy)
            await deepgram.daemon.until(lambda: len(asyncio.all_tasks()) <= num_tasks)
            assert deepgram.daemon.daemon.num_sessions == 0

    run(talk())
