"""What an operator sees: metrics that move with what happens, health, and one line an utterance."""

import asyncio
import json
import logging
import re
import signal
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect

from daemon.wire.protocol import AudioMessage, Cancelled, Failed
from tests.e2e.processes import ROOT, daemon_process
from tests.e2e.test_security import get, refused
from tests.e2e.wire import Wire, run, running
from tests.fakes import FragileEngine, RecordingEngine

Samples = dict[tuple[str, str], float]


async def scrape(port: int) -> Samples:
    """(name, label value) → value; the parser is Prometheus's own."""
    status, body = await get(port, "/metrics")
    assert status == 200
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def test_metrics_move_with_what_happens(caplog: pytest.LogCaptureFixture) -> None:
    """A counter that nobody moves looks like a daemon without problems."""
    caplog.set_level(logging.INFO, logger="daemon.session")

    async def talk() -> None:
        def build() -> RecordingEngine:
            return FragileEngine(num_slots=3)

        async with running(build=build, num_slots=3, max_sessions=2) as daemon:
            async with daemon.wire() as wire:
                heard = await wire.speak("a", "Hello there, dear friend.")
                await wire.speak("f", "Hello there. Now FAIL please. And go on.")
                await wire.say("c", "All work and no play makes Jack a dull boy. " * 20)
                await wire.receive_until(AudioMessage)
                during = await scrape(daemon.port)
                while during["chatterboxd_lead_seconds_max", ""] == 0:
                    # What was sent has played by now; with the next packets there is a lead.
                    during = await scrape(daemon.port)
                await wire.send("cancel", "c")
                await wire.receive_until(Cancelled)
                await wire.connection.send("{")
                await wire.receive_until(Failed)
                async with daemon.wire():
                    assert (await get(daemon.port, "/readyz"))[0] == 503
                    assert await refused(daemon.url) == 503
            await daemon.until(lambda: daemon.daemon.num_sessions == 0)
            after = await scrape(daemon.port)
        check_during(during)
        check_after(after)
        assert after["chatterboxd_audio_seconds_total", ""] > heard.end.samples / 24_000
        assert after["chatterboxd_step_seconds_count", ""] == daemon.engine.diary.num_steps
        told = [record.fields for record in caplog.records if hasattr(record, "fields")]
        assert len(told) == 3
        # None on a quiet machine; on a busy one no more than the log says of each utterance.
        assert after["chatterboxd_underruns_total", ""] == sum(
            fields.get("underruns", 0) for fields in told
        )

    run(talk())


def check_during(samples: Samples) -> None:
    """One session speaks one context."""
    assert samples["chatterboxd_sessions", ""] == 1
    assert samples["chatterboxd_contexts", ""] == 1
    assert samples["chatterboxd_slots_in_use", ""] >= 1
    assert 0 < samples["chatterboxd_lead_seconds_max", ""] <= 11


def check_after(samples: Samples) -> None:
    """Two contexts were spoken, one of them but for a segment, and one was cancelled."""
    assert {
        name.removeprefix("chatterboxd_") + (f" {label}" * bool(label)): samples[name, label]
        for name, label in samples
        if name.removeprefix("chatterboxd_") in EXACTLY
    } == {
        "info sine": 1,
        "sessions": 0,
        "sessions_limit": 2,
        "contexts": 0,
        "slots": 3,
        "slots_in_use": 0,
        "waiting_contexts": 0,
        "draining": 0,
        "utterances_total complete": 2,
        "utterances_total cancelled": 1,
        "first_audio_seconds_count": 3,
        "errors_total bad_json": 1,
        "errors_total segment_failed": 1,
        "failed_segments_total": 1,
        "refusals_total full": 1,
        "session_closes_total 1000": 2,
    }
    assert samples["chatterboxd_sent_bytes_total", "audio"] > 1000
    assert samples["chatterboxd_sent_bytes_total", "control"] > 500
    assert samples["chatterboxd_received_bytes_total", ""] > 500


EXACTLY = {
    *("info", "sessions", "sessions_limit", "contexts", "slots", "slots_in_use"),
    *("waiting_contexts", "draining", "utterances_total", "first_audio_seconds_count"),
    *("errors_total", "failed_segments_total", "refusals_total", "session_closes_total"),
}


def test_an_engine_that_is_too_slow_shows_as_underruns() -> None:
    """The metric that pages an operator must move when listeners hear gaps."""

    async def talk() -> None:
        def build() -> RecordingEngine:  # half of real time
            return RecordingEngine(num_slots=1, samples_per_step=2400, cost_s=0.2)

        async with running(build=build, num_slots=1) as daemon:
            async with daemon.wire() as wire:
                await wire.speak("a", "Hello there.", max_lead_ms=200)
            await daemon.until(lambda: daemon.daemon.num_sessions == 0)
            samples = await scrape(daemon.port)
        assert samples["chatterboxd_underruns_total", ""] >= 3
        assert samples["chatterboxd_underrun_seconds_total", ""] > 0.2
        assert samples["chatterboxd_late_texts_total", ""] == 0

    run(talk())


def test_a_crowd_is_refused_at_once() -> None:
    """A queue without an end gives everybody the worst answer; its length is a metric."""

    async def talk() -> None:
        def build() -> RecordingEngine:
            return RecordingEngine(num_slots=1, samples_per_step=240, cost_s=0.01)

        async with (
            running(build=build, num_slots=1, max_waiting=2, max_wait_ms=60_000) as daemon,
            daemon.wire() as wire,
        ):
            await wire.say("first", "All work and no play makes Jack a dull boy, they say.")
            await wire.receive_until(AudioMessage)
            for name in ("b", "c", "d", "e"):
                await wire.say(name, "Hello.")
            for name in ("d", "e"):
                error = (await wire.hear(name)).messages[-1]
                assert isinstance(error, Failed)
                assert (error.code, error.final) == ("busy", True)
                assert "2 contexts wait" in error.message
            samples = await scrape(daemon.port)
            assert samples["chatterboxd_waiting_contexts", ""] == 2
            assert samples["chatterboxd_utterances_total", "busy"] == 2
            await wire.send("cancel", "first")
            for name in ("b", "c"):
                assert (await wire.hear(name)).end.samples

    run(talk())


def test_one_line_an_utterance(tmp_path: Path) -> None:
    """Every complaint of a client ends in these lines: session, context, how it ended, how fast."""
    with daemon_process(tmp_path, "--log-format", "json") as daemon:

        async def talk() -> None:
            async with connect(daemon.url, compression=None) as connection:
                wire = Wire(connection)
                await wire.speak("a", "Hello there.")
                await wire.say("b", "All work and no play makes Jack a dull boy. " * 20)
                await wire.receive_until(AudioMessage)
                await wire.send("cancel", "b")
                await wire.receive_until(Cancelled)

        asyncio.run(talk())
        status, errors = daemon.finish(signal.SIGTERM)
    assert status == 0
    lines = [json.loads(line) for line in errors.splitlines()[1:]]
    lines = [line for line in lines if line["logger"] == "daemon.session" and "context" in line]
    assert [(line["context"], line["message"]) for line in lines] == [
        ("a", "complete"),
        ("b", "cancelled"),
    ]
    assert lines[0]["session"] == lines[1]["session"]
    assert (lines[0]["chars"], lines[0]["voice"], lines[0]["format"]) == (12, "sine", "opus")
    assert lines[0]["audio_ms"] > 500
    assert lines[0]["first_audio_ms"] >= 0


def test_every_metric_is_in_the_operators_guide() -> None:
    """A number that nobody explains is watched by nobody."""

    async def talk() -> None:
        guide = (ROOT / "docs" / "operating.md").read_text()
        async with running() as daemon:
            page = (await get(daemon.port, "/metrics"))[1]
        named = set(re.findall(r"# HELP (chatterboxd_\w+)", page))
        named = {name for name in named if not name.endswith("_created")}
        assert len(named) > 20
        explained = set(re.findall(r"`(chatterboxd_\w+)[`{]", guide))
        assert not sorted(named - explained)

    run(talk())
