"""What every dialect is built on: text in, outputs out, paced, cancelled, lost. No socket."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from chatterbox.api import SAMPLE_RATE
from daemon.config import Config
from daemon.engine.thread import EngineThread
from daemon.speaking.account import Outcome, UtteranceSummary
from daemon.speaking.offer import Offer
from daemon.speaking.outputs import (
    FlushReached,
    Samples,
    SegmentBegun,
    TimedWord,
    UtteranceEnded,
    UtteranceOutput,
    WordsSpoken,
)
from daemon.speaking.speech_stream import SpeechStream
from daemon.wire.errors import EngineFailed, TextAfterEnd, TextTooLong
from daemon.wire.protocol import Open
from tests.fakes import RecordingEngine

TEXT = "Hello there. How are you today?"


class Bench:
    """An engine thread, and streams on it."""

    def __init__(self, engine: EngineThread, recording: RecordingEngine) -> None:
        self._engine = engine
        self.recording = recording
        self.summaries: list[UtteranceSummary] = []

    def stream(self, *, max_lead_ms: int = 120_000, max_text_chars: int = 1000) -> SpeechStream:
        offer = Offer(self.recording.info, Config(max_text_chars=max_text_chars))
        return SpeechStream(
            offer.resolve(Open(context="a", max_lead_ms=max_lead_ms)),
            audio_format="pcm",
            session="test",
            offer=offer,
            engine=self._engine,
            on_close=lambda _stream, summary: self.summaries.append(summary),
        )


def on_bench(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        recording = RecordingEngine()
        engine = EngineThread(
            lambda: recording, max_wait_s=5.0, on_broken=lambda error: pytest.fail(str(error))
        )
        await engine.start()
        try:
            async with asyncio.timeout(30):
                await test(Bench(engine, recording))
        finally:
            await engine.stop()
        assert not recording.diary.busy, "a slot is still held"

    asyncio.run(main())


async def all_of(stream: SpeechStream) -> list[UtteranceOutput]:
    return [output async for output in stream.outputs()]


def audio_of(outputs: list[UtteranceOutput]) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.concatenate([item.samples for item in outputs if isinstance(item, Samples)])


def test_outputs_come_in_order_and_end() -> None:
    """A dialect counts on it: where a segment starts, its audio, the flush, the end, no more."""

    async def talk(bench: Bench) -> None:
        async with bench.stream() as stream:
            for piece in ("Hello the", "re. How a"):
                stream.add_text(piece)
            stream.flush()
            stream.add_text("re you today?")
            stream.end()
            outputs = await all_of(stream)
        begun = [item.piece.text for item in outputs if isinstance(item, SegmentBegun)]
        assert " ".join(begun) == "Hello there. How a re you today?"
        assert [item.number for item in outputs if isinstance(item, FlushReached)] == [1]
        assert isinstance(outputs[-1], UtteranceEnded)
        assert audio_of(outputs).size == outputs[-1].num_samples == stream.num_samples_sent
        (summary,) = bench.summaries
        assert summary.outcome is Outcome.COMPLETE
        assert summary.first_audio_s is not None
        assert await all_of(stream) == []

    on_bench(talk)


def test_words_come_before_the_sound_that_they_are_in() -> None:
    """Dialects that send characters with their audio cannot wait for the audio's end."""
    text = "Hello there. How are you today? <break time='200ms'/> Fine, thanks."

    async def talk(bench: Bench) -> None:
        async with bench.stream() as stream:
            stream.add_text(text)
            stream.end()
            outputs = await all_of(stream)
        num_given = 0
        words: list[TimedWord] = []
        for output in outputs:
            if isinstance(output, Samples):
                num_given += output.samples.size
            elif isinstance(output, WordsSpoken):
                words += output.words
                # The sine engine knows them from the start.
                assert all(word.start_sample >= num_given for word in output.words)
        said = "Hello there. How are you today? Fine, thanks."
        assert " ".join(word.text for word in words) == said
        assert all(text[word.start : word.end] == word.text for word in words)
        audio = audio_of(outputs)
        for word in words:
            assert np.abs(audio[word.start_sample : word.end_sample]).max() > 0.1
        pause = audio[words[5].end_sample + 1 : words[6].start_sample - 1]
        assert pause.size >= SAMPLE_RATE // 5 - 2
        assert not pause[480:].any(), "nobody speaks in the pause between two words"

    on_bench(talk)


def test_a_short_lead_is_kept() -> None:
    """Live dialects waste at an interruption what they were given too early."""

    async def talk(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        async with bench.stream(max_lead_ms=300) as stream:
            # Earlier than playing starts: however long this task rests, it sees no longer lead.
            started_s, num_samples = loop.time(), 0
            stream.add_text(TEXT)
            stream.end()
            async for output in stream.outputs():
                if isinstance(output, Samples):
                    played_s = loop.time() - started_s
                    num_samples += output.samples.size
                    assert num_samples / SAMPLE_RATE - played_s < 0.31
        assert num_samples > SAMPLE_RATE

    on_bench(talk)


def test_cancel_tells_what_was_heard_and_ends_the_outputs() -> None:
    """True barge-in: nothing follows, and the transcript is of what was played."""

    async def talk(bench: Bench) -> None:
        async with bench.stream(max_lead_ms=300) as stream:
            stream.add_text("One two three four. Five six seven eight.")
            outputs = stream.outputs()
            async for output in outputs:
                if isinstance(output, Samples):
                    break
            heard = stream.cancel(played_ms=0)
            assert heard.text_spoken == ""
            assert heard.text_remaining == "One two three four. Five six seven eight."
            assert [item async for item in outputs] == []
        assert [summary.outcome for summary in bench.summaries] == [Outcome.CANCELLED]

    on_bench(talk)


def test_a_loss_is_raised_once_what_waits_is_out() -> None:
    """The dialect's client must learn that it does not have the whole."""

    async def talk(bench: Bench) -> None:
        async with bench.stream() as stream:
            stream.add_text(TEXT)
            stream.lose(EngineFailed("the device is gone"))
            with pytest.raises(EngineFailed, match="the device is gone"):
                await all_of(stream)
            stream.cancel()
        assert [summary.outcome for summary in bench.summaries] == [Outcome.CANCELLED]
        async with bench.stream() as stream:
            stream.lose(EngineFailed("again"))
        assert bench.summaries[-1].outcome is Outcome.FAILED

    on_bench(talk)


def test_leaving_early_and_wrong_text() -> None:
    """A client that vanishes holds nothing; text beyond the limit or the end is refused."""

    async def talk(bench: Bench) -> None:
        async with bench.stream(max_text_chars=40) as stream:
            stream.add_text(TEXT)
            with pytest.raises(TextTooLong):
                stream.add_text(TEXT)
            stream.end()
            with pytest.raises(TextAfterEnd):
                stream.add_text("more")
        assert [summary.outcome for summary in bench.summaries] == [Outcome.GONE]

    on_bench(talk)
