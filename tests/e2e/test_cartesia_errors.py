"""Cartesia's socket over real ones: refusals, wrong requests, a full or ending daemon, nonsense."""

import asyncio
import json
import random
from typing import Any

import pytest

from daemon.dialects.line import Line
from tests.e2e.cartesia import LONG, TEXT, TOKEN, USUAL, Body, service, slow
from tests.e2e.wire import native_pcm, run
from tests.fakes import FragileEngine, RecordingEngine


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
            await client.say("a", "Hello there")
            other = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 8000}
            await client.say("a", " again.", output_format=other)
            assert (await client.hear("a")).of("error")[0]["error_code"] == "context_changed"
            await client.say("b", TEXT, more=False)
            await client.say("b", "More.", more=False)
            heard = await client.hear("b")
            assert heard.of("error")[0]["error_code"] == "text_after_end"
            await client.expect_silence()
            assert not cartesia.daemon.engine.diary.busy

    run(talk())


def test_a_name_is_free_once_its_done_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that has read `done` may use the name again, also when a slow socket still makes
    room behind it."""
    send_json = Line.send_json
    may_go_on = asyncio.Event()

    async def send_slowly(line: Line, body: Body, **options: Any) -> None:
        await send_json(line, body, **options)
        if body["type"] == "done":
            await may_go_on.wait()

    async def talk() -> None:
        async with service() as cartesia, cartesia.client() as client:
            monkeypatch.setattr(Line, "send_json", send_slowly)
            await client.say("a", TEXT, more=False)
            first = await client.hear("a")
            await client.say("a", TEXT, more=False)
            await client.expect_silence()
            may_go_on.set()
            assert (await client.hear("a")).audio == first.audio

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
        async with service(build=slow, grace_s=15.0) as cartesia:
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
