"""What a text and its lexicon ask for, over real sockets: pauses, tags, how words are said."""
# ruff: noqa: RUF001 (phonemes look like other letters)

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import numpy as np

from chatterboxd_client.session import SpeechClient
from chatterboxd_client.spawn import own_daemon
from chatterboxd_client.speaking import say
from daemon.wire.protocol import Failed, Opened, SegmentStart, Warned, Words
from tests.e2e.wire import Wire, run, running

MS = 24
"""Samples in a millisecond."""
LONGEST_TEST_S = 120.0


async def spoken_in_pieces(wire: Wire, text: str, num_chars: int) -> list[tuple[str, int]]:
    """Speech and silence, one after the other, in ms, of a text that comes in pieces."""
    name = f"by{num_chars}"
    # On a busy machine a piece may come late; what a pause in the writing does is no question here.
    limits = {"max_lead_ms": 120_000, "max_buffer_delay_ms": 60_000}
    await wire.send("open", name, format="pcm_s16le", **limits)
    for start in range(0, len(text), num_chars):
        await wire.send("text", name, text=text[start : start + num_chars])
    await wire.send("end", name)
    samples = (await wire.hear(name)).samples()
    # A tone passes zero too, but never for 2 ms.
    is_loud = np.convolve(np.abs(samples) > 0, np.ones(2 * MS), "same") > 0
    edges = np.flatnonzero(np.diff(is_loud)) + 1
    runs = np.split(is_loud, edges)
    return [("speech" if run[0] else "silence", round(run.size / MS)) for run in runs]


def test_a_break_is_silence_of_its_length_however_the_text_comes() -> None:
    """Lost or spoken when a delta ends inside the tag, or as long as the punctuation says."""
    text = 'One two.<break time="1.5s"/>Three four, <break time="250ms"/> five.'

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            whole = await spoken_in_pieces(wire, text, len(text))
            assert [kind for kind, _ in whole[::2]] == ["speech"] * 3
            assert abs(whole[1][1] - 1500) <= 4
            assert abs(whole[3][1] - 250) <= 4
            for num_chars in (1, 5, 20):
                assert await spoken_in_pieces(wire, text, num_chars) == whole

    run(talk())


def test_words_and_segments_after_a_break_are_of_the_text_as_written() -> None:
    """A page that marks words would be off by the length of the tag, and of the pause."""
    text = 'One <break time="1s"/> two [clear throat] three.'

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            heard = await wire.speak("a", text)
            segments = heard.of(SegmentStart)
            assert [item.text for item in segments] == ["One", "two [clear throat] three."]
            words = [word for item in heard.of(Words) for word in item.words]
            assert all(text[word.start : word.end] == word.text for word in words)
            assert words[1].sample - words[0].end_sample == 1000 * MS
            assert heard.end.text_chars == len(text)

    run(talk())


def test_a_wrong_break_is_a_warning_not_speech() -> None:
    """The daemon's answer to a pause that it does not understand, or not so long."""

    async def talk() -> None:
        async with running(max_break_ms=300) as daemon, daemon.wire() as wire:
            assert wire.begin is not None
            assert wire.begin.limits.break_ms == 300
            heard = await wire.speak("a", 'One<break time="5"/> two<break time="9s"/> three.')
            warnings = [(item.code, item.segment) for item in heard.of(Warned)]
            assert warnings == [("bad_break", None), ("break_shortened", None)]
            said = [segment.text for segment in daemon.engine.diary.started]
            assert said == ["One", "two", "three."]

    run(talk())


def test_what_was_heard_of_a_text_with_pauses() -> None:
    """An assistant's memory: the tag is part of its text, and of what remains of it."""
    text = 'One.<break time="5s"/> Two.'

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as wire:
            for played_ms, spoken in [(300, "One."), (5500, 'One.<break time="5s"/> ')]:
                name = f"at{played_ms}"
                heard = await wire.speak(name, text, max_lead_ms=60_000)
                assert heard.end.duration_ms > 5500
                await wire.send("cancel", name, played_ms=played_ms)
                heard.messages.clear()
                await wire.hear(name)
                cancelled = heard.messages[-1]
                assert getattr(cancelled, "text_spoken", None) == spoken
                assert getattr(cancelled, "text_remaining", None) == text[len(spoken) :]

    run(talk())


def test_lexicons_reach_the_engine_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    """The client's before the operator's; a refusal names the entry and opens nothing."""
    path = tmp_path / "lexicon.toml"
    path.write_text('nginx = "engine x"\n[de]\nnginx = "endschin"\n')

    async def talk() -> None:
        async with running(lexicon=path, max_lexicon=2) as daemon, daemon.wire() as wire:
            assert wire.begin is not None
            assert wire.begin.limits.lexicon_entries == 2
            await wire.speak("a", "nginx.", lexicon={"nginx": "mine", "b": "/x/"})
            entries = [lexicon.entries for lexicon in daemon.engine.diary.started[0].lexicons]
            assert entries == [{"nginx": "mine", "b": "/x/"}, {"nginx": "engine x"}]
            for wrong in ({"b": ""}, {"b": 1}, ["b"], {"b" * 65: "c"}, dict.fromkeys("abc", "d")):
                await wire.send("open", "wrong", lexicon=wrong)
                refused = await wire.receive_until(Failed)
                assert (refused.code, refused.final) == ("bad_message", False)
                assert "lexicon" in refused.message
            await wire.send("open", "wrong", lexicon={})
            assert (await wire.receive_until(Opened)).context == "wrong"

    run(talk())


def test_openais_clients_have_pauses_too() -> None:
    """All dialects take the same way: half a second of silence is half a second more of samples."""

    async def talk() -> None:
        async with running(openai_port=0) as daemon, aiohttp.ClientSession() as http:
            assert daemon.daemon.doors is not None
            url = f"http://127.0.0.1:{daemon.daemon.doors.openai_port}/v1/audio/speech"
            sizes = []
            for text in ("One. Two.", 'One. <break time="800ms"/> Two.'):
                body = {"model": "tts-1", "voice": "alloy", "input": text, "response_format": "pcm"}
                async with http.post(url, json=body) as response:
                    assert response.status == 200
                    sizes.append(len(await response.read()))
            assert sizes[1] - sizes[0] == 2 * (800 - 300) * MS

    run(talk())


@contextlib.asynccontextmanager
async def bundled_voice() -> AsyncIterator[SpeechClient]:
    async with own_daemon(["--slots", "1"]) as own, await SpeechClient.connect(own.url) as client:
        yield client


def test_the_bundled_voice_says_what_the_lexicon_says() -> None:
    """The whole way: the same samples as if the other words had been written; words as written."""

    async def scenario() -> None:
        async with asyncio.timeout(LONGEST_TEST_S), bundled_voice() as client:
            assert "ʃ" in client.begin.phonemes
            written = await (await say(client, "Try a ship.", max_lead_ms=60_000)).collect()
            for entries in ({"zqx1": "a ship"}, {"zqx1": "/ɐʃˈɪp/"}):
                text = "Try zqx1."
                context = await client.open(lexicon=entries, max_lead_ms=60_000)
                await context.send_text(text)
                await context.end()
                events = [event async for event in context.events()]
                assert [word.text for word in context.words] == ["Try", "zqx1."]
                assert not [event for event in events if isinstance(event, Warned)]
            respelled = await (
                await say(client, "Try zqx1.", lexicon={"zqx1": "a ship"}, max_lead_ms=60_000)
            ).collect()
            assert np.array_equal(respelled.samples, written.samples)

    asyncio.run(scenario())


def test_the_bundled_voice_speaks_faster_and_slower() -> None:
    """As `options.speed` asks, with words that end where the audio does."""

    async def scenario() -> None:
        async with asyncio.timeout(LONGEST_TEST_S), bundled_voice() as client:
            text = "The train leaves at nine."
            lengths = {}
            for speed in (0.6, 1.0, 1.8):
                speaking = await say(client, text, options={"speed": speed}, max_lead_ms=60_000)
                spoken = await speaking.collect()
                lengths[speed] = spoken.samples.size * speed
                assert [word.text for word in spoken.words] == text.split()
                assert 0 < spoken.samples.size - spoken.words[-1].end_sample <= 30 * MS
            assert 0.85 < lengths[0.6] / lengths[1.0] < 1.1
            assert 0.9 < lengths[1.8] / lengths[1.0] < 1.25

    asyncio.run(scenario())


def test_the_bundled_voice_leaves_out_tags_with_a_warning() -> None:
    """It has none; "laugh" must not be heard."""

    async def scenario() -> None:
        async with asyncio.timeout(LONGEST_TEST_S), bundled_voice() as client:
            assert client.begin.tags == ()
            plain = await (await say(client, "Oh well.", max_lead_ms=60_000)).collect()
            context = await client.open(max_lead_ms=60_000)
            await context.send_text("Oh [laugh] well.")
            await context.end()
            events = [event async for event in context.events()]
            assert [e.code for e in events if isinstance(e, Warned)] == ["skipped_tag"]
            assert context.timings.num_samples == plain.samples.size

    asyncio.run(scenario())
