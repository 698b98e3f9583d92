"""The bundled voice through the real daemon and the real engine: text in, Opus speech out."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from chatterboxd_client.context import ContextEvent
from chatterboxd_client.listening import Audio
from chatterboxd_client.session import SpeechClient
from chatterboxd_client.spawn import own_daemon
from daemon.wire.protocol import AudioEnd, SegmentStart, Warned, Words

TEXT = "The train leaves at nine. Please be at the station early."
LONGEST_TEST_S = 120.0


def with_daemon(scenario: Callable[[SpeechClient], Awaitable[None]]) -> None:
    async def run() -> None:
        async with (
            own_daemon(["--slots", "2"]) as daemon,
            await SpeechClient.connect(daemon.url) as client,
        ):
            await asyncio.wait_for(scenario(client), LONGEST_TEST_S)

    asyncio.run(run())


async def spoken(
    client: SpeechClient, text: str, *, format: str = "opus", seed: int = 0
) -> tuple[NDArray[np.int16], list[ContextEvent], AudioEnd]:
    """Samples, everything else that was told, and the totals."""
    context = await client.open(format=format, seed=seed, max_lead_ms=60_000)
    await context.send_text(text)
    await context.end()
    events = [event async for event in context.events()]
    parts = [event.samples for event in events if isinstance(event, Audio)]
    samples: NDArray[np.int16] = np.concatenate([np.zeros(0, np.int16), *parts])
    others: list[ContextEvent] = [event for event in events if not isinstance(event, Audio)]
    assert isinstance(context.ending, AudioEnd)
    return samples, others, context.ending


def loudness_dbfs(samples: NDArray[np.int16]) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(np.square(samples / 32768.0))) + 1e-9))


def test_it_speaks_at_a_human_pace_and_loudness() -> None:
    """Silence, noise at full scale, a voice that rushes or never ends: all would pass as audio."""

    async def scenario(client: SpeechClient) -> None:
        assert client.begin.model == "tiny"
        samples, others, ending = await spoken(client, TEXT)
        assert 8 < len(TEXT) / (len(samples) / client.begin.sample_rate) < 30
        assert -40 < loudness_dbfs(samples) < -10
        assert np.abs(samples.astype(int)).max() < 32767
        segments = [event for event in others if isinstance(event, SegmentStart)]
        assert "".join(segment.text for segment in segments).replace(" ", "") == TEXT.replace(
            " ", ""
        )
        assert ending.text_chars == len(TEXT)

    with_daemon(scenario)


def test_same_text_voice_and_seed_give_the_same_samples() -> None:
    """A seed names one reading: it must come again in a slot that was used before."""

    async def scenario(client: SpeechClient) -> None:
        first, _, _ = await spoken(client, "Good morning.", format="pcm_s16le", seed=3)
        again, _, _ = await spoken(client, "Good morning.", format="pcm_s16le", seed=3)
        other, _, _ = await spoken(client, "Good morning.", format="pcm_s16le", seed=4)
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)

    with_daemon(scenario)


def test_words_come_with_the_audio_that_they_are_in() -> None:
    """By the wire's own rules: in order, within the audio, each before the audio it ends in; and a
    transcript that stops where the listener did."""

    async def scenario(client: SpeechClient) -> None:
        assert client.begin.word_times == "exact"
        context = await client.open(format="pcm_s16le", max_lead_ms=60_000)
        await context.send_text(TEXT)
        await context.end()
        received = 0
        async for event in context.events():
            if isinstance(event, Audio):
                received += len(event.samples)
            elif isinstance(event, Words):
                assert all(word.end_sample >= received for word in event.words)
        words = context.words
        assert [word.text for word in words] == TEXT.split()
        assert all(TEXT[word.start : word.end] == word.text for word in words)
        assert all(left.end_sample <= right.sample for left, right in pairwise(words))
        assert words[-1].end_sample <= received
        third = words[2]
        for played_ms, heard in (
            (third.end_sample / 24 - 1, TEXT[: words[1].end]),
            (third.end_sample / 24 + 1, TEXT[: third.end]),
        ):
            context = await client.open(max_lead_ms=60_000)
            await context.send_text(TEXT)
            await context.end()
            assert [event async for event in context.events()]
            assert (await context.cancel(played_ms=played_ms)).text_spoken == heard

    with_daemon(scenario)


def test_two_contexts_at_once_are_both_complete() -> None:
    """Batched slots: both come to their end, with all of their text."""

    async def scenario(client: SpeechClient) -> None:
        results = await asyncio.gather(
            spoken(client, TEXT), spoken(client, "Short and sweet, that is all.", seed=1)
        )
        for samples, others, _ in results:
            assert loudness_dbfs(samples) > -40
            assert not [event for event in others if isinstance(event, Warned)]

    with_daemon(scenario)


def test_what_cannot_be_spoken_is_skipped_with_a_warning() -> None:
    """Emoji and other scripts are part of every LLM's text; none of them may end the context."""

    async def scenario(client: SpeechClient) -> None:
        samples, others, _ = await spoken(client, "Hello 😀 there, 你好, friend.")
        assert len(samples) > 12_000
        assert {event.code for event in others if isinstance(event, Warned)} & {
            "skipped_emoji",
            "skipped_script",
        }
        silent, others, ending = await spoken(client, "😀 😀")
        assert len(silent) == 0
        assert ending.samples == 0
        assert [event for event in others if isinstance(event, Warned)]

    with_daemon(scenario)
