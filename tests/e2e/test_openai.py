"""OpenAI's speech API over real sockets: every format, both streams, errors, who goes away."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import numpy as np
import pytest

from daemon.config import ConfigError
from daemon.dialects.doors import bound_doors
from daemon.dialects.openai_wire import AUDIO_FORMATS, MODEL_NAMES, VOICE_NAMES
from daemon.formats.choice import CONTENT_TYPES
from tests.e2e.wire import CONFIG, Running, run, running
from tests.fakes import FragileEngine, RecordingEngine

TEXT = "Hello there. How are you today?"
TOKEN = "a-token-of-some-length"


@dataclass(slots=True)
class Api:
    daemon: Running
    http: aiohttp.ClientSession

    @property
    def base(self) -> str:
        assert self.daemon.daemon.doors is not None
        return f"http://127.0.0.1:{self.daemon.daemon.doors.openai_port}/v1"

    def post(self, **body: object) -> "aiohttp.client._RequestContextManager":
        return self.http.post(f"{self.base}/audio/speech", json=body)

    async def speech(self, **body: object) -> bytes:
        wanted = {"model": "tts-1", "voice": "alloy", "input": TEXT, "response_format": "pcm"}
        async with self.post(**(wanted | body)) as response:
            assert response.status == 200, await response.text()
            return await response.read()

    async def refusal(self, status: int, **body: object) -> dict[str, Any]:
        async with self.post(**body) as response:
            answer = await response.json()
            assert response.status == status, answer
            error: dict[str, Any] = answer["error"]
            assert set(error) == {"message", "type", "param", "code"}
            return error


@contextlib.asynccontextmanager
async def api(token: str | None = None, **changes: Any) -> AsyncIterator[Api]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        running(openai_port=0, **changes) as daemon,
        aiohttp.ClientSession(headers=headers) as http,
    ):
        yield Api(daemon, http)


async def all_of(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """What came, and whether the body was ended as it should be."""
    received = b""
    try:
        while data := await response.content.readany():
            received += data
    except aiohttp.ClientPayloadError:
        return received, False
    return received, True


def samples_of(data: bytes) -> "np.ndarray[Any, np.dtype[np.int16]]":
    return np.frombuffer(data, dtype="<i2")


def test_pcm_is_the_speech_that_the_native_protocol_gives() -> None:
    """The same utterance through another door must not lose its tail, nor be another one."""

    async def talk() -> None:
        async with api() as openai, openai.daemon.wire() as wire:
            heard = await wire.speak("a", TEXT, format="pcm_s16le")
            expected = np.concatenate(
                [np.frombuffer(packet.payload, dtype="<i2") for packet in heard.packets]
            )
            np.testing.assert_array_equal(samples_of(await openai.speech()), expected)
            other = await openai.speech(seed=7)
            assert len(other) > 0

    run(talk())


@pytest.mark.parametrize("name", AUDIO_FORMATS)
def test_each_format_comes_with_its_type(name: str) -> None:
    """A client picks its decoder by Content-Type; mp3 is what it gets if it asks for nothing."""

    async def talk() -> None:
        async with api() as openai:
            async with openai.post(input=TEXT, voice="alloy", response_format=name) as response:
                assert response.status == 200
                assert response.content_type == CONTENT_TYPES[name]
                data = await response.read()
            begins = {"opus": b"OggS", "flac": b"fLaC", "wav": b"RIFF"}.get(name, b"")
            assert data.startswith(begins)
            assert len(data) > 2000
            async with openai.post(input="Hi.", voice="alloy") as response:
                assert response.content_type == "audio/mpeg"

    run(talk())


def test_audio_comes_while_it_is_made() -> None:
    """A whole file at the end would be no stream; the first bytes must not wait for the last."""

    async def talk() -> None:
        def slow() -> RecordingEngine:
            return RecordingEngine(samples_per_step=2400, cost_s=0.03)

        async with api(build=slow) as openai:
            async with openai.post(input=TEXT, voice="alloy", response_format="pcm") as response:
                await response.content.readany()
                made = openai.daemon.engine.diary.num_samples
                rest = await response.content.read()
            assert made < openai.daemon.engine.diary.num_samples / 2
            assert len(rest) > made

    run(talk())


def test_events_hold_the_same_audio_and_say_when_it_is_over() -> None:
    """LiveKit asks for events; a missing `done` leaves it waiting."""

    async def talk() -> None:
        async with api() as openai:
            whole = await openai.speech()
            text = (await openai.speech(stream_format="sse")).decode()
            events = [json.loads(line[6:]) for line in text.split("\n\n") if line]
            kinds = [event["type"] for event in events]
            assert set(kinds[:-1]) == {"speech.audio.delta"}
            assert kinds[-1] == "speech.audio.done"
            audio = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
            assert audio == whole
            usage = events[-1]["usage"]
            assert usage["input_tokens"] == len(TEXT)
            assert usage["output_tokens"] == round(len(whole) / 2 / 24_000 * 25)
            assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]

    run(talk())


def test_speed_changes_the_length() -> None:
    """A client that asks for 2 and gets 1 hears no difference and files a bug."""

    async def talk() -> None:
        async with api() as openai:
            normal = len(await openai.speech())
            fast = len(await openai.speech(speed=2.0))
            assert fast == pytest.approx(normal / 2, rel=0.05)

    run(talk())


def test_models_and_voices_are_listed() -> None:
    """User interfaces fill their menus from these, and check a model before they use it."""

    async def talk() -> None:
        async with api() as openai:
            async with openai.http.get(f"{openai.base}/models") as response:
                listed = await response.json()
            assert listed["object"] == "list"
            names = [item["id"] for item in listed["data"]]
            assert set(MODEL_NAMES) < set(names)
            for name in names:
                async with openai.http.get(f"{openai.base}/models/{name}") as response:
                    assert (await response.json())["id"] == name
            async with openai.http.get(f"{openai.base}/models/davinci") as response:
                assert response.status == 404
                assert (await response.json())["error"]["code"] == "model_not_found"
            async with openai.http.get(f"{openai.base}/audio/voices") as response:
                voices = await response.json()
            assert set(voices["aliases"]) == set(VOICE_NAMES)
            assert set(voices["aliases"].values()) <= set(voices["voices"])

    run(talk())


def test_each_wrong_request_is_told_what_is_wrong() -> None:
    """OpenAI's clients raise by status and show `message`; anything else is an unreadable crash."""

    async def talk() -> None:
        async with api(max_text_chars=1000) as openai:
            good = {"input": TEXT, "voice": "alloy", "response_format": "pcm"}
            for wrong, param in (
                ({"input": ""}, "input"),
                ({"input": None}, "input"),
                ({"input": 5}, "input"),
                ({"input": "\ud800"}, "input"),
                ({"input": "long " * 500}, "input"),
                ({"voice": "nobody"}, "voice"),
                ({"voice": 3}, "voice"),
                ({"voice": {"id": "nobody"}}, "voice"),
                ({"response_format": "vorbis"}, "response_format"),
                ({"stream_format": "tape"}, "stream_format"),
                ({"speed": 5}, "speed"),
                ({"speed": "fast"}, "speed"),
                ({"seed": -1}, "seed"),
                ({"language": "xx"}, "language"),
                ({"options": {"warmth": 1}}, None),
                ({"options": []}, "options"),
            ):
                error = await openai.refusal(400, **(good | wrong))
                assert error["param"] == param, (wrong, error)
                assert error["type"] == "invalid_request_error"
                assert error["message"]
            url = f"{openai.base}/audio/speech"
            for body, status in (
                (b"{", 400),
                (b"[]", 400),
                (b'"\\ud800', 400),
                (b"x" * 40_000, 413),
            ):
                async with openai.http.post(url, data=body) as response:
                    assert response.status == status
                    assert (await response.json())["error"]["message"]
            async with openai.http.get(url) as response:
                assert response.status == 405
                assert "error" in await response.json()
            async with openai.http.get(f"{openai.base}/nothing") as response:
                assert response.status == 404
            assert await openai.speech()
            assert not openai.daemon.engine.diary.busy

    run(talk())


def test_a_token_is_asked_for() -> None:
    """The second port must not be the way around the first one's lock."""

    async def talk() -> None:
        async with api(token=TOKEN, tokens=(f"me={TOKEN}",)) as openai:
            assert await openai.speech()
            for token in (None, "a-wrong-token-of-length"):
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                async with aiohttp.ClientSession(headers=headers) as http:
                    stranger = Api(openai.daemon, http)
                    error = await stranger.refusal(401, input=TEXT, voice="alloy")
                    assert error["code"] == "invalid_api_key"
                    for path in ("models", "models/tts-1", "audio/voices"):
                        async with http.get(f"{openai.base}/{path}") as response:
                            assert response.status == 401

    run(talk())


def test_a_full_daemon_says_when_to_come_back() -> None:
    """Clients wait as long as Retry-After says; without it they hammer a full daemon."""

    async def talk() -> None:
        async with (
            api(max_sessions=1, retry_after_s=3) as openai,
            openai.daemon.wire(),
            openai.post(input=TEXT, voice="alloy") as response,
        ):
            assert response.status == 503
            assert response.headers["Retry-After"] == "3"
            assert (await response.json())["error"]["code"] == "full"
        async with (
            api(max_sessions_per_peer=1) as openai,
            openai.daemon.wire(),
            openai.post(input=TEXT, voice="alloy") as response,
        ):
            assert response.status == 429
            assert response.headers["Retry-After"]
            assert (await response.json())["error"]["type"] == "rate_limit_error"

    run(talk())


def test_no_free_slot_is_503_and_not_a_silent_stream() -> None:
    """The status goes out with the first audio: so busy can still be said as it should."""

    async def talk() -> None:
        def slow() -> RecordingEngine:
            return RecordingEngine(num_slots=1, samples_per_step=240, cost_s=0.05)

        async with (
            api(build=slow, num_slots=1, max_wait_ms=100) as openai,
            openai.daemon.wire() as wire,
        ):
            await wire.send("open", "a", format="pcm_s16le")
            await wire.send("text", "a", text="A long sentence that holds the only slot. ")
            await openai.daemon.until(lambda: bool(openai.daemon.engine.diary.busy))
            error = await openai.refusal(503, input=TEXT, voice="alloy")
            assert error["code"] == "busy"

    run(talk())


def test_a_client_that_goes_away_frees_its_slot() -> None:
    """Barge-in over HTTP is a closed connection; speech that goes on costs others theirs."""

    async def talk() -> None:
        def slow() -> RecordingEngine:
            return RecordingEngine(samples_per_step=2400, cost_s=0.02)

        async with api(build=slow) as openai:
            diary = openai.daemon.engine.diary
            response = await openai.post(
                input="One long sentence after the other. " * 20,
                voice="alloy",
                response_format="pcm",
            )
            await response.content.readany()
            assert diary.busy
            response.close()
            await openai.daemon.until(lambda: not diary.busy)
            num_steps = diary.num_steps
            await asyncio.sleep(0.2)
            assert diary.num_steps <= num_steps + 1
            assert 'outcome="gone"' in openai.daemon.daemon.metrics.page().decode()

    run(talk())


def test_a_failing_engine_is_an_error_before_audio_and_a_broken_body_after_it() -> None:
    """A body that ends as if complete would be cached, and replayed with half of its words."""

    async def talk() -> None:
        async with api(build=FragileEngine) as openai:
            error = await openai.refusal(500, input="FAIL", voice="alloy")
            assert error["type"] == "server_error"
            text = "This part is fine. FAIL this one. And so is this."
            for stream_format in ("audio", "sse"):
                wanted = {"input": text, "voice": "alloy", "stream_format": stream_format}
                async with openai.post(**wanted, response_format="pcm") as response:
                    assert response.status == 200
                    received, is_whole = await all_of(response)
                assert not is_whole
                assert len(received) > 24_000, "the other sentences are spoken"
                assert (b'"type": "error"' in received) == (stream_format == "sse")
                assert b"audio.done" not in received

    run(talk())


def test_running_speech_finishes_when_the_daemon_is_told_to_stop() -> None:
    """A restart must not cut a sentence that somebody is listening to."""

    async def talk() -> None:
        def slow() -> RecordingEngine:
            return RecordingEngine(samples_per_step=2400, cost_s=0.02)

        async with api(build=slow) as openai:
            whole = len(await openai.speech())
            async with openai.post(input=TEXT, voice="alloy", response_format="pcm") as response:
                first = await response.content.readany()
                openai.daemon.daemon.stop()
                error = await openai.refusal(503, input=TEXT, voice="alloy")
                assert error["code"] == "draining"
                assert len(first + await response.read()) == whole
            assert await openai.daemon.task == 0

    run(talk())


def test_text_without_anything_to_say_is_an_empty_file() -> None:
    """A reply of one smiley is not a failure; agents would retry it for ever."""

    async def talk() -> None:
        async with api() as openai:
            assert await openai.speech(input=" \n ") == b""
            assert len(await openai.speech(input=" \n ", response_format="wav")) == 44

    run(talk())


def test_a_body_that_never_comes_gives_its_place_back() -> None:
    """A request holds one of the daemon's places; a client that never finishes it would keep it."""

    async def talk() -> None:
        async with api(stall_s=0.3, max_sessions=1) as openai:
            assert openai.daemon.daemon.doors is not None
            port = openai.daemon.daemon.doors.openai_port
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                b"POST /v1/audio/speech HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"
            )
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
            writer.close()
            assert await openai.speech()

    run(talk())


def test_a_client_that_does_not_read_is_let_go() -> None:
    """Whoever opens a stream and sleeps must not hold a slot until the daemon is restarted."""

    async def talk() -> None:
        async with api(stall_s=0.3) as openai:
            text = "On and on. " * 900
            async with openai.post(input=text, voice="alloy", response_format="pcm") as response:
                await openai.daemon.until(
                    lambda: openai.daemon.daemon.metrics.page().count(b'outcome="gone"') > 0,
                    within_s=15,
                )
                _data, is_whole = await all_of(response)
                assert not is_whole

    run(talk())


def test_strangers_are_not_served_by_accident() -> None:
    """`--host 0.0.0.0 --openai-port` without tokens would speak for the whole network."""

    # The main port is on a Unix socket then, or passed by systemd: only this one is open.
    config = replace(CONFIG, host="0.0.0.0", openai_port=0)
    with (
        pytest.raises(ConfigError, match=r"openai_port.*public_without_token"),
        bound_doors(config, needs_token=False),
    ):
        pass
    with bound_doors(config, needs_token=True) as doors:
        assert doors.openai_port
