"""Delivery: outputs become messages in order, and the engine learns where the listener is."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest

from chatterbox.api import SAMPLE_RATE
from daemon.delivery import Delivery
from daemon.engine.commands import Hold, SetOrigin
from daemon.engine.scheduler import UtteranceId
from daemon.engine.thread import EngineThread
from daemon.outbox import Outbox
from daemon.speaking.offer import ContextSettings
from daemon.speaking.outputs import Samples, SegmentBegun, TimedWord, UtteranceEnded, WordsSpoken
from daemon.speaking.segmenter import Pause, Piece
from daemon.wire.protocol import (
    AudioEnd,
    AudioFormat,
    AudioMessage,
    Words,
    WordTime,
    parse_server_message,
)
from tests.fakes import FakeClock

SECOND = SAMPLE_RATE


class PostedCommands:
    """Stands for the engine thread: keeps what it is told."""

    def __init__(self) -> None:
        self.commands: list[object] = []

    def post(self, command: object) -> None:
        self.commands.append(command)

    @property
    def origins_s(self) -> list[float]:
        return [item.origin_s for item in self.commands if isinstance(item, SetOrigin)]

    @property
    def holds(self) -> list[bool]:
        return [item.is_held for item in self.commands if isinstance(item, Hold)]


class Stage:
    def __init__(self, executor: ThreadPoolExecutor, audio_format: AudioFormat) -> None:
        self.clock = FakeClock()
        self.engine = PostedCommands()
        self.outbox = Outbox(self.clock)
        self.num_ends = 0
        self.delivery = Delivery(
            settings=ContextSettings(
                context="a",
                voice="v",
                format=audio_format,
                bitrate=32_000,
                seed=0,
                language="en",
                options={},
                max_buffer_delay_ms=500,
                max_lead_ms=120_000,
            ),
            number=7,
            utterance_id=UtteranceId(1),
            engine=cast(EngineThread, self.engine),
            outbox=self.outbox,
            executor=executor,
            on_end=self._note_end,
        )
        self.task = asyncio.create_task(self.delivery.run())

    def _note_end(self) -> None:
        self.num_ends += 1

    async def take_ready(self) -> list[str | bytes]:
        taken: list[str | bytes] = []
        while True:
            try:
                async with asyncio.timeout(0.5):
                    taken.append(await self.outbox.get())
            except TimeoutError:
                return taken


def run(
    test: Callable[[Stage], Coroutine[Any, Any, None]],
    audio_format: AudioFormat = AudioFormat.PCM_S16LE,
) -> None:
    async def bounded() -> None:
        with ThreadPoolExecutor(1) as executor:
            stage = Stage(executor, audio_format)
            async with asyncio.timeout(30):
                await test(stage)
            stage.task.cancel()

    asyncio.run(bounded())


def speech(seconds: float, *, is_pause: bool = False) -> Samples:
    samples = np.full(round(seconds * SECOND), 0.0 if is_pause else 0.1, dtype=np.float32)
    return Samples(samples=samples, is_pause=is_pause)


BEGUN = SegmentBegun(index=0, piece=Piece("Hi.", 0, 3, Pause.SENTENCE), sample=0)


@pytest.mark.parametrize("audio_format", list(AudioFormat))
def test_messages_come_in_order_and_add_up(audio_format: AudioFormat) -> None:
    """Encoding happens elsewhere; the order of what the listener gets must not."""

    async def talk(stage: Stage) -> None:
        stage.delivery.put([BEGUN, speech(0.25), speech(0.3, is_pause=True)])
        stage.delivery.put([UtteranceEnded(num_samples=13_200, num_segments=1, num_chars=3)])
        first, *packets, last = await stage.take_ready()
        assert isinstance(first, str)
        assert '"segment"' in first
        audio = [AudioMessage.from_bytes(item) for item in packets if isinstance(item, bytes)]
        assert len(audio) == len(packets)
        assert [item.sequence for item in audio] == list(range(len(audio)))
        assert {item.number for item in audio} == {7}
        assert sum(item.num_samples for item in audio) == 13_200
        end = parse_server_message(str(last))
        assert isinstance(end, AudioEnd)
        assert (end.samples, end.packets, end.duration_ms) == (13_200, len(audio), 550.0)
        assert stage.num_ends == 1
        assert stage.delivery.num_samples_sent == 13_200
        await stage.task

    run(talk, audio_format)


def test_words_come_before_the_audio_that_they_end_in() -> None:
    """A player that learns of a word when it is over has nothing to mark."""
    word = TimedWord(text="Hi.", start=4, end=7, start_sample=480, end_sample=5_000)

    async def talk(stage: Stage) -> None:
        stage.delivery.put([BEGUN, speech(0.1), WordsSpoken(words=(word,)), speech(0.2)])
        taken = await stage.take_ready()
        place = next(k for k, item in enumerate(taken) if isinstance(item, str) and k)
        assert parse_server_message(str(taken[place])) == Words(
            context="a",
            words=(WordTime(text="Hi.", start=4, end=7, sample=480, end_sample=5_000),),
        )
        before = [
            AudioMessage.from_bytes(item) for item in taken[:place] if isinstance(item, bytes)
        ]
        assert 0 < sum(item.num_samples for item in before) <= 0.1 * SECOND

    run(talk)


def test_the_engine_learns_the_origin_without_the_pauses() -> None:
    """The engine counts speech alone; pauses unaccounted for would pile up as a false hunger."""

    async def talk(stage: Stage) -> None:
        start_s = stage.clock()
        stage.delivery.put([BEGUN, speech(1.0)])
        await stage.take_ready()
        assert stage.engine.origins_s == [start_s]
        stage.delivery.put([speech(0.5, is_pause=True), speech(1.0)])
        await stage.take_ready()
        assert stage.engine.origins_s[-1] == pytest.approx(start_s + 0.5)
        stage.clock.pass_s(4.0)  # dry since 2.5
        stage.delivery.put([speech(0.02)])
        await stage.take_ready()
        assert stage.engine.origins_s[-1] == pytest.approx(start_s + 0.5 + 1.5)

    run(talk)


def test_a_backlog_holds_the_engine_until_it_shrinks() -> None:
    """A client that does not read must not have its whole text spoken into memory."""

    async def talk(stage: Stage) -> None:
        stage.delivery.put([BEGUN, speech(19.0)])
        assert stage.engine.holds == []
        stage.delivery.put([speech(2.0)])
        assert stage.engine.holds == [True]
        await stage.take_ready()
        assert stage.engine.holds == [True, False]

    run(talk)


def test_after_close_nothing_leaves() -> None:
    """Not what waits, not what is being encoded at that moment."""

    async def talk(stage: Stage) -> None:
        stage.delivery.put([BEGUN, speech(1.0)])
        await asyncio.sleep(0)
        stage.delivery.close()
        assert await stage.take_ready() == []

    run(talk, AudioFormat.OPUS)
