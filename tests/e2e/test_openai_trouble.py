"""OpenAI's speech API when something is wrong: requests, tokens, a full daemon, who goes away."""

import asyncio
import json
import os
import signal
from dataclasses import replace

import aiohttp
import pytest

from chatterboxd_client.spawn import own_daemon
from daemon.config import ConfigError
from daemon.dialects.doors import bound_doors
from tests.e2e.openai_api import TEXT, Api, all_of, api
from tests.e2e.slow import free_port, narrow_plug, read_slowly
from tests.e2e.wire import CONFIG, run
from tests.fakes import FragileEngine, HeldEngine, RecordingEngine

TOKEN = "a-token-of-some-length"
END_OF_BODY = b"\r\n0\r\n\r\n"


def request_for(text: str) -> bytes:
    body = json.dumps({"input": text, "voice": "alloy", "response_format": "pcm"}).encode()
    return (
        b"POST /v1/audio/speech HTTP/1.1\r\nHost: a\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )


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
                ({"speed": 10**400}, "speed"),
                ({"options": {"speed": 10**400}}, "speed"),
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
                (b"[" * 12_000, 400),
                (b"x" * 40_000, 413),
            ):
                async with openai.http.post(url, data=body) as response:
                    assert response.status == status
                    assert (await response.json())["error"]["message"]
            for headers, body in (
                ({"Content-Encoding": "gzip"}, b"this is no gzip"),
                ({"Content-Type": "application/json; charset=morse"}, b"{}"),
            ):
                async with openai.http.post(url, data=body, headers=headers) as response:
                    assert response.status == 400, "the client's fault, not a bug of the daemon"
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
        async with api() as openai:
            whole = len(await openai.speech())
        engine = HeldEngine(num_steps=2)
        async with api(build=lambda: engine) as openai:
            async with openai.post(input=TEXT, voice="alloy", response_format="pcm") as response:
                first = await response.content.readany()
                openai.daemon.daemon.stop()
                error = await openai.refusal(503, input=TEXT, voice="alloy")
                assert error["code"] == "draining"
                engine.go.set()
                assert len(first + await response.read()) == whole
            assert await openai.daemon.task == 0

    run(talk())


def test_a_body_that_never_comes_gives_its_place_back() -> None:
    """A request holds one of the daemon's places; a client that never finishes it would keep it."""

    async def talk() -> None:
        async with api(stall_s=0.3, max_sessions=1) as openai:
            reader, writer = await asyncio.open_connection("127.0.0.1", openai.port)
            writer.write(
                b"POST /v1/audio/speech HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"
            )
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
            writer.close()
            await openai.until_nobody_is_there()

    run(talk())


def test_a_client_that_does_not_read_is_let_go() -> None:
    """Whoever opens a stream and sleeps must not hold a slot until the daemon is restarted."""

    async def talk() -> None:
        async with api(stall_s=0.3) as openai:
            text = "On and on. " * 900
            async with openai.post(input=text, voice="alloy", response_format="pcm") as response:
                await openai.daemon.until(
                    lambda: openai.daemon.daemon.metrics.page().count(b'outcome="gone"') > 0
                )
                _data, is_whole = await all_of(response)
                assert not is_whole

    run(talk())


def test_a_client_that_does_not_take_the_last_bytes_is_let_go() -> None:
    """All was written, and the end of the body waited for room: without a limit, for as long as the
    client slept, with one of the daemon's places."""

    async def talk() -> None:
        async with api(stall_s=0.3) as openai:
            with narrow_plug(openai.port) as plug:
                # A little more than what buffers hold, and less than what is waited for on the way.
                plug.sendall(request_for("a" * 36))
                await openai.daemon.until(
                    lambda: b"chatterboxd_utterances_total{" in openai.daemon.daemon.metrics.page()
                )
                await openai.until_nobody_is_there()

    run(talk())


def test_who_listens_slowly_hears_the_end_before_the_daemon_goes() -> None:
    """The last seconds were still in the daemon's own buffers when it said that all was spoken, and
    ended: whoever played them as they came was cut off."""

    async def talk() -> None:
        port = free_port()
        async with own_daemon(["--engine", "sine", "--openai-port", str(port)]) as daemon:
            with narrow_plug(port) as plug:
                plug.sendall(request_for("a" * 36))
                begun = await read_slowly(plug, until=b"\r\n\r\n")
                os.kill(daemon.pid, signal.SIGTERM)
                rest = await read_slowly(plug, until=END_OF_BODY)
        assert rest.endswith(END_OF_BODY), f"{len(begun + rest)} bytes came"

    asyncio.run(talk())


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
