"""Deepgram's sockets over real ones: Aura and Flux, interruptions, refusals, nonsense."""

import asyncio
import contextlib
import json
import random
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from chatterboxd_client.session import SpeechClient
from tests.e2e.wire import Running, native_pcm, run, running
from tests.fakes import CloningSineEngine, FragileEngine, RecordingEngine, UnhurriedEngine

TEXT = "Hello there. How are you today?"
ONE = "How are you today"
"""Without a pause: those are as long at any speed."""
LONG = "This is one long sentence after the other. " * 20
TOKEN = "a-token-of-some-length"
AURA, FLUX = "/v1/speak", "/v2/speak"
PAUSE = bytes(270 * 24 * 2)
"""Before a turn of Aura's that follows on one that is still heard: one sentence after another."""

Body = dict[str, Any]


def slow() -> RecordingEngine:
    return RecordingEngine(samples_per_step=2400, cost_s=0.02)


@dataclass(slots=True)
class Turn:
    """What came up to some message: audio, and the messages around it."""

    audio: bytes = b""
    messages: list[Body] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    """Kinds of message, and `audio` once for each stretch of it."""

    @property
    def last(self) -> Body:
        return self.messages[-1]

    def of(self, kind: str) -> Body:
        found = [message for message in self.messages if message["type"] == kind]
        assert len(found) == 1, f"{kind} came {len(found)} times: {self.order}"
        return found[0]


class Client:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, kind: str, **fields: object) -> None:
        await self.connection.send(json.dumps({"type": kind, **fields}))

    async def speak(self, *texts: str) -> None:
        for text in texts:
            await self.send("Speak", text=text)

    async def interrupt(self, played_ms: int) -> None:
        await self.send("Interrupt", playback_offset={"type": "time_ms", "value": played_ms})

    async def until(self, kind: str) -> Turn:
        """Everything up to this message."""
        turn = Turn()
        while True:
            raw = await self.connection.recv()
            name = "audio" if isinstance(raw, bytes) else json.loads(raw)["type"]
            if name != "audio" or turn.order[-1:] != ["audio"]:
                turn.order.append(name)
            if isinstance(raw, bytes):
                turn.audio += raw
            else:
                turn.messages.append(json.loads(raw))
            if name == kind:
                return turn

    async def expect_silence(self, duration_s: float = 0.2) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration_s):
                raise AssertionError(f"{await self.connection.recv()!r} came")

    async def closed(self) -> int | None:
        """The code that the daemon closes with, whatever comes before it."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.connection.recv()
        return self.connection.close_code


@dataclass(slots=True)
class Service:
    daemon: Running

    def url(self, path: str, query: str = "") -> str:
        return f"ws://127.0.0.1:{self.daemon.port}{path}?model=aura-2-helena-en&{query}"

    @contextlib.asynccontextmanager
    async def client(self, path: str, query: str = "", **options: Any) -> AsyncIterator[Client]:
        async with connect(self.url(path, query), compression=None, **options) as connection:
            client = Client(connection)
            greeting = await client.until("Metadata" if path == AURA else "Connected")
            assert greeting.order in (["Metadata"], ["Connected"])
            assert greeting.last["request_id"]
            yield client

    async def refusal(self, url: str, **options: Any) -> tuple[int, str, Body]:
        """Status, what Pipecat shows of it, and the body."""
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, compression=None, **options)
        response = refused.value.response
        body: Body = json.loads(response.body or b"")
        assert {"err_code", "err_msg", "request_id"} == set(body)
        assert response.headers["dg-error"] == body["err_msg"]
        return response.status_code, body["err_code"], dict(response.headers) | body


@contextlib.asynccontextmanager
async def service(
    build: Callable[[], RecordingEngine] | None = None, **changes: Any
) -> AsyncIterator[Service]:
    async with running(build=build, **changes) as daemon:
        yield Service(daemon)


# --- Aura -----------------------------------------------------------------------------------------


def test_aura_speaks_what_it_is_sent_and_says_when_it_is_out() -> None:
    """Both frameworks end the bot's turn at Flushed: audio behind it is cut or goes astray."""

    async def talk() -> None:
        async with service() as deepgram:
            expected = await native_pcm(deepgram.daemon, TEXT)
            async with deepgram.client(AURA) as client:
                for number in range(3):
                    await client.speak("Hello th", "ere. How are ", "you today?")
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
        async with service() as deepgram:
            texts = ["One.", "And now the second of them.", "Three."]
            expected = [await native_pcm(deepgram.daemon, text) for text in texts]
            async with deepgram.client(AURA) as client:
                for text in texts:
                    await client.speak(text)
                    await client.send("Flush")
                spoken = [(await client.until("Flushed")).audio for _ in texts]
                assert spoken == [expected[0], PAUSE + expected[1], PAUSE + expected[2]]

    run(talk())


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
def test_turns_that_wait_are_not_made_long_before_they_are_heard(path: str) -> None:
    """Each turn is paced by itself; together they would be made at once, for somebody who hears
    the first words and interrupts."""

    async def talk() -> None:
        async with service(max_lead_ms=2000) as deepgram, deepgram.client(path) as client:
            for _ in range(10):
                await client.speak("Hello there.")  # 0.8 seconds, and the pause before it
                await client.send("Flush")
            for _ in range(2):
                await client.until("Flushed" if path == AURA else "SpeechMetadata")
            await asyncio.sleep(0.2)
            assert 3 <= len(deepgram.daemon.engine.diary.started) <= 6

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


def test_close_ends_it_at_once_and_frees_the_slot() -> None:
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


def test_a_client_that_goes_away_frees_its_slot() -> None:
    """LiveKit interrupts by dropping the socket; speech that goes on costs others theirs."""

    async def talk() -> None:
        async with service(build=slow) as deepgram:
            diary = deepgram.daemon.engine.diary
            for path in (AURA, FLUX):
                async with deepgram.client(path) as client:
                    await client.speak(LONG)
                    await client.send("Flush")
                    while not isinstance(await client.connection.recv(), bytes):
                        pass
                    assert diary.busy
                    client.connection.transport.abort()
                    await deepgram.daemon.until(lambda: not diary.busy)

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
        other = f"{TOKEN}-of-bob"
        async with (
            running(
                build=CloningSineEngine,
                clone_command=(sys.executable, "-m", "tests.fake_listener"),
                tokens=(f"anna={TOKEN}", f"bob={other}"),
            ) as daemon,
            await SpeechClient.connect(daemon.url, token=TOKEN) as anna,
        ):
            made = await anna.clone_voice(b"clip", name="me", consent=True)
            url = f"ws://127.0.0.1:{daemon.port}{FLUX}?model={made.voice}"
            hers = {"Authorization": f"Token {TOKEN}"}
            async with connect(url, additional_headers=hers) as connection:
                client = Client(connection)
                await client.speak("Hi.")
                await client.send("Flush")
                assert (await client.until("SpeechMetadata")).audio
            assert daemon.engine.diary.started[-1].voice == made.voice
            status, code, _ = await Service(daemon).refusal(
                url, additional_headers={"Authorization": f"Token {other}"}
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


@pytest.mark.parametrize("path", [AURA, FLUX])
def test_a_running_turn_finishes_when_the_daemon_is_told_to_stop(path: str) -> None:
    """A restart must not cut a sentence that somebody is listening to."""

    async def talk() -> None:
        async with service(build=slow) as deepgram:
            expected = await native_pcm(deepgram.daemon, TEXT)
            async with deepgram.client(path) as client:
                await client.speak(TEXT)
                while not isinstance(first := await client.connection.recv(), bytes):
                    pass
                deepgram.daemon.daemon.stop()
                await client.send("Flush")
                turn = await client.until("Flushed" if path == AURA else "SpeechMetadata")
                assert first + turn.audio == expected
                assert await client.closed() == 1001
            assert await deepgram.daemon.task == 0

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


# --- Flux -----------------------------------------------------------------------------------------


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
            received = 0
            while received < 3 * 48_000:
                raw = await client.connection.recv()
                received += len(raw) if isinstance(raw, bytes) else 0
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
                received = 0
                while received < 3 * 48_000:
                    raw = await client.connection.recv()
                    received += len(raw) if isinstance(raw, bytes) else 0
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
            while not isinstance(await client.connection.recv(), bytes):
                pass
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
