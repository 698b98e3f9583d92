"""Cartesia's socket over real ones: contexts side by side, word times, interruptions, nonsense."""

import asyncio
import base64
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

from chatterboxd_client.session import SpeechClient
from tests.e2e.wire import Running, native_pcm, run, running
from tests.fakes import CloningSineEngine, FragileEngine, RecordingEngine, UnhurriedEngine

TEXT = "Hello there. How are you today?"
ONE = "How are you today"
"""Without a pause: those are as long at any speed."""
LONG = "This is one long sentence after the other. " * 20
TOKEN = "a-token-of-some-length"
PATH = "/tts/websocket?cartesia_version=2025-04-16"
USUAL = {
    "model_id": "sonic-3",
    "voice": {"mode": "id", "id": "f786b574-daa5-4673-aa0c-cbe3e8534c02"},
    "output_format": {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24_000},
    "language": "en",
    "add_timestamps": True,
}
"""What LiveKit's plugin sends with each text."""

Body = dict[str, Any]


def slow() -> RecordingEngine:
    return RecordingEngine(samples_per_step=2400, cost_s=0.02)


@dataclass(slots=True)
class Heard:
    """What came about one context."""

    messages: list[Body] = field(default_factory=list)

    @property
    def order(self) -> list[str]:
        """Kinds of message, those of the same kind in a row as one."""
        kinds = [message["type"] for message in self.messages]
        return [kind for kind, before in zip(kinds, [None, *kinds], strict=False) if kind != before]

    @property
    def audio(self) -> bytes:
        return b"".join(base64.b64decode(message["data"]) for message in self.of("chunk"))

    @property
    def words(self) -> list[tuple[str, float, float]]:
        found: list[tuple[str, float, float]] = []
        for message in self.of("timestamps"):
            times = message["word_timestamps"]
            found += zip(times["words"], times["start"], times["end"], strict=True)
        return found

    def of(self, kind: str) -> list[Body]:
        return [message for message in self.messages if message["type"] == kind]


class Client:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.heard: dict[str | None, Heard] = {}

    async def say(self, context: str, text: str, *, more: bool = True, **changes: object) -> None:
        body = {"context_id": context, "transcript": text, "continue": more, **USUAL, **changes}
        await self.connection.send(json.dumps(body))

    async def cancel(self, context: str) -> None:
        await self.connection.send(json.dumps({"context_id": context, "cancel": True}))

    async def receive(self) -> Body:
        raw = await self.connection.recv()
        assert isinstance(raw, str), "Cartesia's clients read no binary messages"
        message: Body = json.loads(raw)
        self.heard.setdefault(message["context_id"], Heard()).messages.append(message)
        return message

    async def until(self, kind: str, context: str | None) -> Body:
        while True:
            message = await self.receive()
            if message["type"] == kind and message["context_id"] == context:
                return message

    async def hear(self, context: str) -> Heard:
        """Up to its end; what came of others meanwhile is kept for them."""
        while not (context in self.heard and self.heard[context].order[-1:] == ["done"]):
            await self.receive()
        heard = self.heard.pop(context)
        assert len(heard.of("done")) == 1
        return heard

    async def expect_silence(self, duration_s: float = 0.2) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration_s):
                raise AssertionError(f"{await self.receive()} came")

    async def closed(self) -> int | None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.connection.recv()
        return self.connection.close_code


@dataclass(slots=True)
class Service:
    daemon: Running

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.daemon.port}{PATH}"

    @contextlib.asynccontextmanager
    async def client(self, query: str = "", **options: Any) -> AsyncIterator[Client]:
        async with connect(self.url + query, compression=None, **options) as connection:
            yield Client(connection)

    async def refusal(self, query: str = "", **options: Any) -> tuple[int, Body]:
        with pytest.raises(InvalidStatus) as refused:
            await connect(self.url + query, compression=None, **options)
        response = refused.value.response
        body: Body = json.loads(response.body or b"")
        assert body["status_code"] == response.status_code
        assert {"error_code", "title", "message", "request_id"} < set(body)
        return response.status_code, dict(response.headers) | body


@contextlib.asynccontextmanager
async def service(
    build: Callable[[], RecordingEngine] | None = None, **changes: Any
) -> AsyncIterator[Service]:
    async with running(build=build, **changes) as daemon:
        yield Service(daemon)


# --- speech ---------------------------------------------------------------------------------------


def test_a_context_is_spoken_whole_and_ends_with_done() -> None:
    """LiveKit takes `done` as the end: audio behind it is lost, and without it the plugin hangs."""

    async def talk() -> None:
        async with service() as cartesia, cartesia.client() as client:
            expected = await native_pcm(cartesia.daemon, TEXT)
            for end in ("", " "):  # Pipecat's and LiveKit's
                await client.say("a", "Hello th")
                await client.say("a", "ere. How are ")
                await client.say("a", "you today?")
                await client.say("a", end, more=False)
                heard = await client.hear("a")
                assert heard.audio == expected
                assert heard.messages[-1]["status_code"] == 200
                assert not any(message["done"] for message in heard.messages[:-1])
            await client.say("b", TEXT, more=False)
            assert (await client.hear("b")).audio == expected

    run(talk())


def test_word_times_are_of_the_text_as_it_was_sent() -> None:
    """LiveKit looks each word up in what it sent, in order; one that is not there switches its
    transcripts off. Both frameworks write what was heard into the LLM's history by them."""

    async def talk() -> None:
        async with service() as cartesia, cartesia.client() as client:
            await client.say("a", TEXT, more=False)
            heard = await client.hear("a")
            assert [word for word, _, _ in heard.words] == TEXT.split()
            place = 0
            for word, start_s, end_s in heard.words:
                place = TEXT.index(word, place)
                assert start_s < end_s
                # The tones: a fifteenth of a second for each character, a pause after the stop.
                expected_s = place / 15 + (0.3 - 1 / 15 if place > 12 else 0)
                assert start_s == pytest.approx(expected_s, abs=0.01)
            played_s = 0.0
            for message in heard.messages:
                if message["type"] == "chunk":
                    played_s += len(base64.b64decode(message["data"])) / 48_000
                elif message["type"] == "timestamps":
                    assert message["word_timestamps"]["start"][0] >= played_s - 0.5
            await client.say("b", TEXT, more=False, add_timestamps=None)
            assert not (await client.hear("b")).words

    run(talk())


def test_two_contexts_at_a_time_do_not_mix() -> None:
    """The next answer begins while the last one is still being sent: each must be whole."""

    async def talk() -> None:
        async with service(build=slow) as cartesia, cartesia.client() as client:
            texts = {"a": TEXT, "b": "The second one, of another length.", "c": "Three."}
            expected = {
                name: await native_pcm(cartesia.daemon, text) for name, text in texts.items()
            }
            for index in range(40):
                for name, text in texts.items():
                    if text[index : index + 1]:
                        await client.say(name, text[index])
            for name in texts:
                await client.say(name, "", more=False)
            for name, text in texts.items():
                heard = await client.hear(name)
                assert heard.audio == expected[name]
                assert [word for word, _, _ in heard.words] == text.split()

    run(talk())


@pytest.mark.parametrize(
    ("encoding", "rate", "sample_bytes"),
    [
        ("pcm_s16le", 16_000, 2),
        ("pcm_f32le", 44_100, 4),
        ("pcm_mulaw", 8_000, 1),
        ("pcm_alaw", 8_000, 1),
        ("pcm_s16le", 22_050, 2),
    ],
)
def test_audio_has_the_form_that_was_asked_for(encoding: str, rate: int, sample_bytes: int) -> None:
    """Raw audio does not say what it is: at another rate it is a chipmunk or a hiss."""

    async def talk() -> None:
        async with service() as cartesia, cartesia.client() as client:
            seconds = len(await native_pcm(cartesia.daemon, TEXT)) / 48_000
            sound = {"container": "raw", "encoding": encoding, "sample_rate": rate}
            await client.say("a", TEXT, more=False, output_format=sound)
            heard = await client.hear("a")
            assert len(heard.audio) / sample_bytes / rate == pytest.approx(seconds, abs=0.001)
            if encoding == "pcm_f32le":
                peak = np.abs(np.frombuffer(heard.audio, dtype="<f4")).max()
                assert 0.2 < peak < 0.3

    run(talk())


def test_without_a_buffer_each_text_is_spoken_at_once() -> None:
    """Who sends whole sentences asks for no delay: the last word must not wait for the next one."""

    async def talk() -> None:
        async with service() as cartesia, cartesia.client() as client:
            await client.say("a", "This goes on", max_buffer_delay_ms=0)
            first = await client.until("flush_done", "a")
            assert (first["flush_id"], first["flush_done"], first["done"]) == (1, True, False)
            assert [word for word, _, _ in client.heard["a"].words] == ["This", "goes", "on"]
            await client.say("a", " until here.", max_buffer_delay_ms=0)
            assert (await client.until("flush_done", "a"))["flush_id"] == 2
            await client.say("a", "", more=False, max_buffer_delay_ms=0)
            heard = await client.hear("a")
            assert len(heard.of("flush_done")) == 2
            chunks = {message["flush_id"] for message in heard.of("chunk")}
            assert {1, 2} <= chunks <= {1, 2, 3}

    run(talk())


def test_a_flush_speaks_what_waits_and_says_when_it_is_out() -> None:
    """All audio of a text must be out before its flush_done, whatever the rate: clients write a
    file for each."""

    async def talk() -> None:
        async with service() as cartesia, cartesia.client() as client:
            sound = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 8000}
            await client.say("a", "This waits", output_format=sound)
            await client.expect_silence()
            await client.say("a", "", flush=True, output_format=sound)
            await client.until("flush_done", "a")
            before = len(client.heard["a"].audio)
            assert before == pytest.approx(2 * 8000 * (10 / 15 + 0.03), abs=8)
            await client.say("a", "", more=False, output_format=sound)
            assert len((await client.hear("a")).audio) == before

    run(talk())


@pytest.mark.parametrize("build", [RecordingEngine, UnhurriedEngine])
def test_speed_changes_length_and_word_times(build: Callable[[], RecordingEngine]) -> None:
    """Word times at another speed must be those of the audio that is sent, whoever made it."""

    async def talk() -> None:
        async with service(build=build) as cartesia, cartesia.client() as client:
            await client.say("a", ONE, more=False)
            usual = await client.hear("a")
            controls = {"speed": 1.5, "volume": 0.5, "emotion": "happy"}
            await client.say("b", ONE, more=False, generation_config=controls)
            fast = await client.hear("b")
            assert len(fast.audio) == pytest.approx(len(usual.audio) / 1.5, rel=0.05)
            for (word, start_s, _), (same, fast_s, _) in zip(usual.words, fast.words, strict=True):
                assert word == same
                assert fast_s == pytest.approx(start_s / 1.5, abs=0.001)
            loud, soft = (
                np.abs(np.frombuffer(item.audio, dtype="<i2").astype(float)).max()
                for item in (usual, fast)
            )
            assert soft == pytest.approx(loud / 2, rel=0.1)

    run(talk())


def test_voices_are_found_by_name_and_strangers_get_the_default() -> None:
    """Both plugins name a voice of Cartesia's unless told otherwise, and must connect all the
    same; a name that is nobody's is a mistake that somebody should hear of."""

    async def talk() -> None:
        async with service(voice_aliases=("their-deep-one=low",)) as cartesia:
            engine = cartesia.daemon.engine
            async with cartesia.client() as client:
                for voice, ours in (
                    ("low", "low"),
                    ({"mode": "id", "id": "low"}, "low"),
                    ({"id": "their-deep-one"}, "low"),
                    (USUAL["voice"], "sine"),
                    ({"mode": "embedding", "embedding": [0.1] * 192}, "sine"),
                    (None, "sine"),
                ):
                    await client.say("a", "Hi.", more=False, voice=voice)
                    await client.hear("a")
                    assert engine.diary.started[-1].voice == ours, voice
                await client.say("a", "Hi.", voice={"mode": "id", "id": "nobody"})
                heard = await client.hear("a")
                assert heard.order == ["error", "done"]
                assert "nobody" in heard.messages[0]["message"]

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
            for token, order in ((TOKEN, ["chunk", "done"]), (other, ["error", "done"])):
                async with Service(daemon).client(f"&api_key={token}") as client:
                    sound = {"voice": made.voice, "add_timestamps": False}
                    await client.say("a", "Hi.", more=False, **sound)
                    assert (await client.hear("a")).order == order
            assert [item.voice for item in daemon.engine.diary.started] == [made.voice]

    run(talk())


def test_tags_are_not_read_aloud() -> None:
    """Pipecat writes them into the text; `<spell>` is for what is not a word."""

    async def talk() -> None:
        async with service() as cartesia, cartesia.client() as client:
            text = 'It is <emotion value="happy" /><speed ratio="1.2"/><spell>A1 B2</spell>.'
            await client.say("a", text, more=False)
            heard = await client.hear("a")
            assert [word for word, _, _ in heard.words] == ["It", "is", "A", "1", "B", "2."]
            assert [segment.text for segment in cartesia.daemon.engine.diary.started] == [
                "It is A 1 B 2."
            ]

    run(talk())


# --- interruption ---------------------------------------------------------------------------------


def test_nothing_of_a_cancelled_context_follows_and_its_neighbour_goes_on() -> None:
    """Barge-in: one answer stops at once, its slot is free, the other is not touched."""

    async def talk() -> None:
        async with service(build=slow) as cartesia:
            expected = await native_pcm(cartesia.daemon, TEXT)
            diary = cartesia.daemon.engine.diary
            async with cartesia.client() as client:
                await client.say("a", LONG)
                await client.say("b", TEXT, more=False)
                await client.until("chunk", "a")
                await client.cancel("a")
                await client.until("done", "a")
                client.heard.pop("a")
                assert (await client.hear("b")).audio == expected
                await client.expect_silence()
                assert "a" not in client.heard
                await cartesia.daemon.until(lambda: not diary.busy)
                assert 'outcome="cancelled"' in cartesia.daemon.daemon.metrics.page().decode()
                await client.say("a", TEXT, more=False)
                assert (await client.hear("a")).audio == expected

    run(talk())


def test_cancelling_or_ending_what_is_not_there_does_no_harm() -> None:
    """Clients cancel contexts that have just ended, and end those that never began: no slot may be
    taken, and no error shown for it."""

    async def talk() -> None:
        async with service() as cartesia, cartesia.client() as client:
            await client.cancel("ghost")
            await client.expect_silence(0.05)
            await client.say("ghost", "", more=False)
            assert (await client.hear("ghost")).order == ["done"]
            assert not cartesia.daemon.engine.diary.started
            await client.say("a", TEXT, more=False)
            await client.say("a", "", more=False)
            assert (await client.hear("a")).of("chunk")
            await client.cancel("a")
            await client.expect_silence(0.05)

    run(talk())


def test_a_client_that_goes_away_frees_its_slots() -> None:
    """LiveKit interrupts by dropping the socket; speech that goes on costs others theirs."""

    async def talk() -> None:
        async with service(build=slow) as cartesia, cartesia.client() as client:
            diary = cartesia.daemon.engine.diary
            for name in "abc":
                await client.say(name, LONG)
            await client.until("chunk", "c")
            assert len(diary.busy) >= 3
            client.connection.transport.abort()
            await cartesia.daemon.until(lambda: not diary.busy)

    run(talk())


# --- refusals and errors --------------------------------------------------------------------------


def test_a_key_is_asked_for_in_each_of_cartesias_ways() -> None:
    """Pipecat and LiveKit send X-API-Key, its SDK a bearer, a browser can only write a query."""

    async def talk() -> None:
        async with service(tokens=(f"me={TOKEN}",)) as cartesia:
            for query, headers in (
                ("", {"X-API-Key": TOKEN}),
                ("", {"Authorization": f"Bearer {TOKEN}"}),
                (f"&api_key={TOKEN}", {}),
                (f"&access_token={TOKEN}", {}),
            ):
                async with cartesia.client(query, additional_headers=headers) as client:
                    await client.say("a", "Hi.", more=False)
                    assert (await client.hear("a")).audio
            for query, headers in (
                ("", {}),
                ("", {"X-API-Key": "nonsense"}),
                ("&api_key=", {}),
            ):
                status, body = await cartesia.refusal(query, additional_headers=headers)
                assert (status, body["error_code"]) == (401, "unauthorized")

    run(talk())


def test_a_full_daemon_says_when_to_come_back() -> None:
    """Refusals after the upgrade would look like a working connection."""

    async def talk() -> None:
        async with service(max_sessions=1, retry_after_s=3) as cartesia, cartesia.client():
            status, body = await cartesia.refusal()
            assert (status, body["error_code"], body["retry-after"]) == (503, "full", "3")

    run(talk())


def test_each_wrong_request_is_an_error_of_its_context_and_ends_it() -> None:
    """Pipecat reads context_id of every message; LiveKit overlooks an error that says done."""

    async def talk() -> None:
        async with service(max_text_chars=100, max_contexts=2) as cartesia:
            async with cartesia.client() as client:
                wishes: list[Body] = [
                    {"transcript": None},
                    {"transcript": 5},
                    {"transcript": "\ud800"},
                    {"transcript": "long " * 100},
                    {"continue": "yes"},
                    {"cancel": 1},
                    {"voice": 7},
                    {"voice": "nobody"},
                    {"language": "xx"},
                    {"language": 5},
                    {"output_format": None},
                    {"output_format": {"container": "wav", "encoding": "pcm_s16le"}},
                    {"output_format": {"encoding": "opus"}},
                    {"output_format": {"encoding": "pcm_s16le", "sample_rate": 1}},
                    {"max_buffer_delay_ms": 5001},
                    {"max_buffer_delay_ms": "soon"},
                    {"generation_config": []},
                    {"generation_config": {"speed": 9}},
                    {"generation_config": {"volume": True}},
                ]
                for wrong in wishes:
                    body = {"context_id": "a", "transcript": "Hi.", "continue": True, **USUAL}
                    await client.connection.send(json.dumps(body | wrong))
                    heard = await client.hear("a")
                    assert heard.order == ["error", "done"], wrong
                    error, end = heard.messages
                    assert error["done"] is False
                    assert 400 <= error["status_code"] == end["status_code"] < 500, wrong
                    assert error["message"]
                for raw in ("{", "[]", b"{}", "[" * 60_000, '{"context_id": 5}'):
                    await client.connection.send(raw)
                    assert (await client.receive())["type"] == "error"
                    assert client.heard.pop(None).messages[0]["context_id"] is None
                await client.say("a", TEXT, more=False)
                assert (await client.hear("a")).audio
            assert not cartesia.daemon.engine.diary.busy

    run(talk())


def test_a_context_keeps_its_settings_and_its_end() -> None:
    """Half a context in another voice or rate is noise; text behind its end would never be said."""

    async def talk() -> None:
        async with service(build=slow) as cartesia, cartesia.client() as client:
            await client.say("a", LONG)
            await client.until("chunk", "a")
            await client.say("a", "More.", voice="low")
            heard = await client.hear("a")
            assert heard.of("error")[0]["error_code"] == "context_changed"
            await client.say("b", TEXT, more=False)
            await client.say("b", "More.", more=False)
            heard = await client.hear("b")
            assert heard.of("error")[0]["error_code"] == "text_after_end"
            await client.expect_silence()
            assert not cartesia.daemon.engine.diary.busy

    run(talk())


def test_too_many_contexts_are_refused_and_the_others_live() -> None:
    """The cap is what keeps one client from taking all that the daemon can remember."""

    async def talk() -> None:
        async with service(max_contexts=2) as cartesia, cartesia.client() as client:
            for name in "abc":
                await client.say(name, "Hello there")
            heard = await client.hear("c")
            assert heard.messages[0]["status_code"] == 429
            for name in "ab":
                await client.say(name, "", more=False)
            assert (await client.hear("a")).audio == (await client.hear("b")).audio != b""

    run(talk())


def test_no_free_slot_is_an_error_of_its_context() -> None:
    """An agent that is told of busy can try elsewhere; one that is told nothing waits."""

    async def talk() -> None:
        def one_slot() -> RecordingEngine:
            return RecordingEngine(num_slots=1, samples_per_step=240, cost_s=0.05)

        async with (
            service(build=one_slot, num_slots=1, max_wait_ms=100) as cartesia,
            cartesia.daemon.wire() as wire,
        ):
            await wire.send("open", "a", format="pcm_s16le")
            await wire.send("text", "a", text="A long sentence that holds the only slot. ")
            await cartesia.daemon.until(lambda: bool(cartesia.daemon.engine.diary.busy))
            async with cartesia.client() as client:
                await client.say("b", TEXT)
                heard = await client.hear("b")
                assert heard.order == ["error", "done"]
                assert heard.messages[0]["error_code"] == "busy"
                assert heard.messages[0]["status_code"] == 503

    run(talk())


def test_a_lost_sentence_does_not_pass_for_the_whole() -> None:
    """The rest is spoken, but a transcript that says that all was said would be a lie."""

    async def talk() -> None:
        async with service(build=FragileEngine) as cartesia, cartesia.client() as client:
            await client.say("a", "This is fine. FAIL this one. And so is this.", more=False)
            heard = await client.hear("a")
            assert heard.order[-2:] == ["error", "done"]
            assert heard.messages[-1]["status_code"] == 500
            assert len(heard.audio) > 24_000

    run(talk())


def test_running_contexts_finish_when_the_daemon_is_told_to_stop() -> None:
    """A restart must not cut a sentence that somebody is listening to."""

    async def talk() -> None:
        async with service(build=slow) as cartesia:
            expected = await native_pcm(cartesia.daemon, TEXT)
            async with cartesia.client() as client:
                await client.say("a", TEXT)
                await client.until("chunk", "a")
                cartesia.daemon.daemon.stop()
                await client.say("b", TEXT)
                assert (await client.hear("b")).messages[0]["error_code"] == "draining"
                await client.say("a", "", more=False)
                assert (await client.hear("a")).audio == expected
                assert await client.closed() == 1001
            assert await cartesia.daemon.task == 0

    run(talk())


def test_a_client_that_does_not_read_is_closed() -> None:
    """Whoever opens a stream and sleeps must not hold a slot until the daemon is restarted."""

    async def talk() -> None:
        async with (
            service(stall_s=0.3, max_lead_ms=120_000, max_text_chars=500_000) as cartesia,
            cartesia.client(max_queue=1, close_timeout=0.1) as client,
        ):
            for name in "abcd":
                await client.say(name, LONG * 5)
            daemon = cartesia.daemon
            await daemon.until(lambda: 'outcome="gone"' in daemon.daemon.metrics.page().decode())
            await daemon.until(lambda: not daemon.engine.diary.busy)

    run(talk())


def test_whatever_is_sent_the_daemon_goes_on() -> None:
    """No order of messages may break the connection, leave a slot, or stop the next context."""
    random_ = random.Random(10)
    values: list[object] = [None, True, False, -1, 0, 1.5, "", "Hi. ", "\ud800", [], {}, "low"]

    def nonsense() -> Body:
        body: Body = {
            "context_id": random_.choice(["a", "b", "c", "d"]),
            "transcript": random_.choice(["Hi. ", "And so on, ", "x" * 90, "", " "]),
            "continue": random_.random() < 0.7,
            "flush": random_.random() < 0.2,
            "cancel": random_.random() < 0.1,
            "max_buffer_delay_ms": random_.choice([0, 100]),
            **USUAL,
        }
        if random_.random() < 0.3:
            body[random_.choice(list(body))] = random_.choice(values)
        if body["context_id"] is None:
            body["context_id"] = []  # one without a name could not be cancelled at the end
        return body

    async def talk() -> None:
        async with service(max_text_chars=200, max_contexts=3) as cartesia:
            num_tasks = len(asyncio.all_tasks())
            for _ in range(8):
                async with cartesia.client() as client:
                    for _ in range(80):
                        await client.connection.send(json.dumps(nonsense()))
                        if random_.random() < 0.1:
                            await asyncio.sleep(0.002)
                    for name in ("a", "b", "c", "d", "low", "Hi. "):
                        await client.cancel(name)
                    await client.say("last", "Hi.", more=False)
                    assert (await client.hear("last")).audio
                    for context, heard in client.heard.items():
                        is_over = heard.messages[-1]["done"]
                        assert context is None or is_over, (context, heard.order)
            await cartesia.daemon.until(lambda: not cartesia.daemon.engine.diary.busy)
            await cartesia.daemon.until(lambda: len(asyncio.all_tasks()) <= num_tasks)

    run(talk())
