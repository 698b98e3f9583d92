"""SpeechClient against a real daemon: what the scripted connection cannot show."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from chatterboxd_client.context import ClientContext, ConnectionLost, DaemonError
from chatterboxd_client.listening import Audio
from chatterboxd_client.session import SpeechClient
from chatterboxd_client.spawn import own_daemon
from daemon.wire.protocol import AudioEnd, Cancelled


def with_daemon(scenario: Callable[[SpeechClient], Awaitable[None]], *arguments: str) -> None:
    async def run() -> None:
        async with (
            own_daemon(["--engine", "sine", *arguments]) as daemon,
            await SpeechClient.connect(daemon.url) as client,
        ):
            await asyncio.wait_for(scenario(client), timeout=20)

    asyncio.run(run())


async def num_samples_heard(context: ClientContext) -> int:
    return sum([len(audio.samples) async for audio in context.audio()])


async def exhaust(audio: AsyncIterator[Audio]) -> None:
    async for _audio in audio:
        pass


@pytest.mark.parametrize("audio_format", ["opus", "pcm_s16le"])
def test_contexts_side_by_side_are_complete(audio_format: str) -> None:
    """Totals are checked by the client against audio_end: no sample is lost or counted twice."""

    async def scenario(client: SpeechClient) -> None:
        contexts = []
        for text in ("One.", "Two, and a half.", "Three. Four."):
            context = await client.open(format=audio_format, max_lead_ms=60_000)
            await context.send_text(text)
            await context.end()
            contexts.append(context)
        heard = await asyncio.gather(*(num_samples_heard(context) for context in contexts))
        endings = [context.ending for context in contexts]
        assert [ending.samples for ending in endings if isinstance(ending, AudioEnd)] == heard
        assert min(heard) > 2_400

    with_daemon(scenario)


def test_cancel_silences_the_task_that_listens() -> None:
    """The usual barge-in: one task plays, another cancels. The first must just come to its end."""

    async def scenario(client: SpeechClient) -> None:
        context = await client.open("talk", max_lead_ms=300)
        audio = context.audio()
        text = "This goes on and on, for quite a while. " * 20
        await context.send_text(text)
        await context.end()
        for _packet in range(5):
            await anext(audio)
        listening = asyncio.create_task(exhaust(audio))
        cancelled = await context.cancel(played_ms=100)
        await listening
        assert context.ending == cancelled
        assert cancelled.text_spoken + cancelled.text_remaining == text
        assert cancelled.text_remaining
        again = await client.open("talk")
        await again.send_text("Yes?")
        await again.end()
        assert await num_samples_heard(again) > 0

    with_daemon(scenario)


def test_cancel_after_the_end_still_says_what_was_heard() -> None:
    """The listener may still be hearing what was sent long ago; see docs/protocol.md section 2."""

    async def scenario(client: SpeechClient) -> None:
        context = await client.open(max_lead_ms=60_000)
        await context.send_text("Some words that were sent at once.")
        await context.end()
        await num_samples_heard(context)
        cancelled = await context.cancel(played_ms=200)
        assert isinstance(cancelled, Cancelled)
        assert cancelled.text_remaining

    with_daemon(scenario)


def test_a_refusal_leaves_the_other_contexts_alone() -> None:
    """A wrong voice for one context must not disturb the one that is speaking."""

    async def scenario(client: SpeechClient) -> None:
        context = await client.open()
        await context.send_text("Still here.")
        with pytest.raises(DaemonError, match="unknown_voice"):
            await client.open(voice="nobody")
        await context.end()
        assert await num_samples_heard(context) > 0

    with_daemon(scenario)


def test_a_context_that_waits_too_long_for_a_slot_is_busy() -> None:
    """`busy` ends the context with an error that the reader of its audio sees."""

    async def scenario(client: SpeechClient) -> None:
        first = await client.open()
        await first.send_text("A long story that keeps the only slot. " * 10)
        await first.end()
        second = await client.open()
        await second.send_text("Me too!")
        await second.end()
        with pytest.raises(DaemonError) as caught:
            await num_samples_heard(second)
        assert caught.value.failed.code == "busy"

    slow = ("--slots=1", "--max-wait-ms=200", "--sine-step-ms=20", "--sine-cost-ms=20")
    with_daemon(scenario, *slow)


def test_a_daemon_that_dies_is_noticed() -> None:
    """SIGKILL, a crash, a pulled cable: the listener must not wait for ever."""

    async def run() -> None:
        async with own_daemon(["--engine", "sine"]) as daemon:
            client = await SpeechClient.connect(daemon.url)
            context = await client.open(max_lead_ms=300)
            await context.send_text("Words without end. " * 50)
            audio = context.audio()
            await anext(audio)
            daemon.kill()
            with pytest.raises(ConnectionLost):
                await asyncio.wait_for(exhaust(audio), timeout=10)
            await client.close()

    asyncio.run(run())
