"""Ordered outputs of one utterance in, audio messages in its lane of the outbox out.

Encodes off the event loop, in order.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from chatterbox.api import SAMPLE_RATE
from daemon.engine.scheduler import UtteranceId
from daemon.engine.thread import EngineThread
from daemon.opus import PACKET_SAMPLES, EncodedPacket, PacketEncoder, new_encoder
from daemon.outbox import Outbox
from daemon.speaking.feedback import Feedback
from daemon.speaking.offer import ContextSettings
from daemon.speaking.outputs import (
    FlushReached,
    Samples,
    SegmentBegun,
    UtteranceEnded,
    UtteranceOutput,
    WordsSpoken,
)
from daemon.speaking.playback import PlaybackClock
from daemon.wire.protocol import (
    AudioEnd,
    AudioFormat,
    AudioMessage,
    Flushed,
    SegmentStart,
    ServerMessage,
    Words,
    WordTime,
    to_json,
)

Result = TypeVar("Result")

_JOB_SAMPLES = 10 * PACKET_SAMPLES
"""Longest stretch that one encoding job takes, so that contexts take turns in the pool."""


class Delivery:
    """One context's way out. `put` is called on the event loop; `run` is a task of its own."""

    def __init__(
        self,
        *,
        settings: ContextSettings,
        number: int,
        utterance_id: UtteranceId,
        engine: EngineThread,
        outbox: Outbox,
        executor: Executor,
        on_end: Callable[[], None],
        on_sent: Callable[[PlaybackClock], None] = lambda _clock: None,
    ) -> None:
        self._context = settings.context
        self._number = number
        self._outbox = outbox
        self._executor = executor
        self._on_end = on_end
        self._on_sent = on_sent
        self._format = settings.format
        self._bitrate = settings.bitrate
        self._lane = outbox.open_lane(
            max_lead_s=settings.max_lead_ms / 1000, on_sent=self._note_sent
        )
        self._feedback = Feedback(utterance_id, clock=self._lane.clock, engine=engine)
        self._outputs: deque[UtteranceOutput] = deque()
        self._has_outputs = asyncio.Event()
        self._num_packets = 0

    @property
    def num_samples_sent(self) -> int:
        return self._lane.clock.num_sent

    def lead_s(self, now_s: float) -> float | None:
        clock = self._lane.clock
        return None if clock.dry_at_s is None else clock.lead_s(now_s)

    def put(self, outputs: Sequence[UtteranceOutput]) -> None:
        """What the utterance gives out, in order."""
        self._outputs.extend(outputs)
        self._has_outputs.set()
        self._feedback.note_put(outputs)

    def close(self) -> None:
        """Nothing more leaves, not even what is encoded already."""
        self._outbox.close_lane(self._lane)
        self._outputs.clear()

    async def run(self) -> None:
        """Encode until the utterance has ended. The encoder lives no longer than this."""
        encoder = await self._in_pool(partial(new_encoder, self._format, bitrate=self._bitrate))
        while True:
            await self._has_outputs.wait()
            self._has_outputs.clear()
            while self._outputs:
                output = self._outputs.popleft()
                if isinstance(output, Samples):
                    await self._encode(encoder, output.samples)
                elif isinstance(output, UtteranceEnded):
                    await self._finish(encoder, output)
                    return
                else:
                    self._push_note(output)

    async def _encode(self, encoder: PacketEncoder, samples: NDArray[np.float32]) -> None:
        # The very first packet goes out alone: the rest of its chunk must not delay it.
        job_samples = PACKET_SAMPLES if self._num_packets == 0 else _JOB_SAMPLES
        while samples.size:
            job, samples = samples[:job_samples], samples[job_samples:]
            self._push_packets(await self._in_pool(partial(encoder.encode, job)))
            job_samples = _JOB_SAMPLES

    async def _in_pool(self, work: Callable[[], Result]) -> Result:
        if self._format is not AudioFormat.OPUS:
            return work()  # cheaper than the way to the pool and back
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def _finish(self, encoder: PacketEncoder, ended: UtteranceEnded) -> None:
        self._push_packets(await self._in_pool(encoder.finish))
        message = AudioEnd(
            context=self._context,
            samples=ended.num_samples,
            packets=self._num_packets,
            duration_ms=round(ended.num_samples * 1000 / SAMPLE_RATE, 3),
            segments=ended.num_segments,
            text_chars=ended.num_chars,
        )
        self._push_text(message, is_last=True)

    def _push_note(self, output: UtteranceOutput) -> None:
        match output:
            case SegmentBegun():
                self._push_text(
                    SegmentStart(
                        context=self._context,
                        segment=output.index,
                        text=output.piece.text,
                        start=output.piece.start,
                        end=output.piece.end,
                        sample=output.sample,
                    )
                )
            case WordsSpoken():
                words = tuple(
                    WordTime(
                        text=word.text,
                        start=word.start,
                        end=word.end,
                        sample=word.start_sample,
                        end_sample=word.end_sample,
                    )
                    for word in output.words
                )
                self._push_text(Words(context=self._context, words=words))
            case FlushReached():
                self._push_text(
                    Flushed(
                        context=self._context,
                        flush=output.number,
                        end=output.end,
                        samples=output.sample,
                    )
                )

    def _push_text(self, message: ServerMessage, *, is_last: bool = False) -> None:
        self._lane.push(to_json(message), is_last=is_last)
        self._outbox.lane_changed()

    def _push_packets(self, packets: list[EncodedPacket]) -> None:
        for packet in packets:
            message = AudioMessage(
                format=self._format,
                number=self._number,
                sequence=self._num_packets,
                num_samples=packet.num_samples,
                payload=packet.payload,
            )
            self._num_packets += 1
            self._lane.push(message.to_bytes(), num_samples=packet.num_samples)
        if packets:
            self._outbox.lane_changed()

    def _note_sent(self, is_last: bool) -> None:
        self._on_sent(self._lane.clock)
        self._feedback.note_sent()
        if is_last:
            self._on_end()
