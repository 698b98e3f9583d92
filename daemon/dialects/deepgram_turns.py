"""The text of one Deepgram connection in, its speech out turn by turn: what Aura and Flux share.

A turn is what is said up to a flush. Audio has no name on the wire, so it leaves in one order, by
one task, which an interruption ends before anything else is said.
"""

import abc
import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from chatterbox.api import SAMPLE_RATE
from daemon.config import LONGEST_LEAD_MS
from daemon.dialects.deepgram_query import SpeakQuery
from daemon.dialects.deepgram_turn import Turn
from daemon.dialects.deepgram_wire import (
    DeepgramError,
    error_message,
    of_wire_error,
    warning_message,
)
from daemon.dialects.line import HangUp, Line
from daemon.formats.choice import new_stream_encoder
from daemon.formats.stream import StreamEncoder
from daemon.speaking.outputs import Samples, SegmentTrouble, UtteranceEnded
from daemon.speaking.speech_stream import SpeechStream
from daemon.studio import Studio
from daemon.wire.errors import TextTooLong, WireError
from daemon.wire.protocol import Open


class Turns(abc.ABC):
    """Everything that one connection is to say."""

    pause_ms: ClassVar[int] = 0
    """Silence between a turn and the next, if that follows while the first is still heard."""

    def __init__(self, line: Line, studio: Studio, query: SpeakQuery) -> None:
        self.line = line
        self.studio = studio
        self.query = query
        self.speed = query.speed
        self._max_lead_s = line.config.max_lead_ms / 1000
        self.is_closing = False
        """The client has said that it is done; what else it says comes too late."""
        self.active: Turn | None = None
        """What is being sent."""
        self.growing: Turn | None = None
        """What has not had its flush."""
        self._turns: deque[Turn] = deque()
        """The active one first."""
        self._num_chars_held = 0
        """Of all of them."""
        self._heard_at_s = 0.0
        """When all that was sent is heard, by the event loop's clock."""
        self._has_turns = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._speaker = line.spawn(self._speak_all())

    # --- the life of a connection -----------------------------------------------------------------

    async def run(self) -> None:
        """Until the client is gone; once it has said that it is done, `HangUp` is raised."""
        try:
            await self.greet()
            while True:
                await self._obey_next()
        finally:
            self._speaker.cancel()
            for turn in self._turns:
                turn.close()

    async def _obey_next(self) -> None:
        raw = await self.line.receive()
        try:
            await self.obey(raw)
        except DeepgramError as error:
            await self.complain(error)
        except WireError as error:
            await self.complain(of_wire_error(error))

    def close_when_spoken(self) -> None:
        """The client is done: what was flushed is said, then the socket is closed."""
        self.is_closing = True
        self.line.spawn(self._close())

    async def _close(self) -> None:
        await self._is_idle.wait()
        await self.bid_farewell()
        raise HangUp(1000)

    @abc.abstractmethod
    async def greet(self) -> None: ...

    @abc.abstractmethod
    async def obey(self, raw: str | bytes) -> None:
        """Raises `DeepgramError` or `WireError`."""

    @abc.abstractmethod
    async def bid_farewell(self) -> None:
        """All is said, and the socket will be closed."""

    # --- what the client wants --------------------------------------------------------------------

    def add_text(self, text: str) -> None:
        """Raises `TextTooLong`."""
        most = self.line.config.max_text_chars
        if self._num_chars_held + len(text) > most:
            raise TextTooLong(
                f"{self._num_chars_held} + {len(text)} characters to speak are more than {most}"
            )
        if text:
            turn = self.growing or self._add_turn()
            turn.add_text(text)
            self._num_chars_held += len(text)

    def flush(self) -> Turn | None:
        """The turn that it concerns; None if there is none."""
        turn = self.growing or (self._turns[-1] if self._turns else None)
        self.growing = None
        if turn is not None:
            turn.flush()
        return turn

    async def stop(self) -> list[Turn]:
        """When it returns, nothing more of any turn is sent. Returns them, the active one first;
        they are to be closed."""
        self._speaker.cancel()
        await asyncio.wait({self._speaker})
        stopped = list(self._turns)
        self._turns.clear()
        self._num_chars_held = 0
        self._heard_at_s = 0.0  # a client that interrupts drops what it has
        self.active = self.growing = None
        self._note_change()
        self._speaker = self.line.spawn(self._speak_all())
        return stopped

    async def drop_growing(self) -> None:
        """What has had no flush is not said, or no further."""
        turn = self.growing
        if turn is None:
            return
        if turn is self._turns[0]:
            await self.stop()
        else:
            self._turns.remove(turn)
            self._num_chars_held -= turn.num_chars
            self.growing = None
        turn.cancel()
        turn.close()

    def _add_turn(self) -> Turn:
        if not self._turns:
            self._expect_impatience()
        with contextlib.ExitStack() as owed:
            owed.enter_context(self.line.busy())
            self.growing = turn = Turn(owed=owed.pop_all())
        self._turns.append(turn)
        self._note_change()
        return turn

    def _note_change(self) -> None:
        if self._turns:
            self._has_turns.set()
            self._is_idle.clear()
        else:
            self._has_turns.clear()
            self._is_idle.set()

    # --- speaking ---------------------------------------------------------------------------------

    async def _speak_all(self) -> None:
        while True:
            await self._has_turns.wait()
            await self._wait_for_listener()
            self.active = turn = self._turns[0]
            await self.note_begin(turn)
            try:
                await self._speak(turn)
            except WireError as error:
                turn.has_failed = True
                await self.complain(of_wire_error(error))
            # A lost turn ends for the client where it would have: with its flush.
            await turn.is_flushed.wait()
            await self.note_end(turn)
            self._turns.popleft()
            self._num_chars_held -= turn.num_chars
            self.active = None
            self._note_change()
            turn.close()

    def _expect_impatience(self) -> None:
        """A turn that comes when all before it was sent does not wait: LiveKit's plugins say
        nothing of an interruption then, and play the next turn at once."""
        now_s = asyncio.get_running_loop().time()
        self._heard_at_s = min(self._heard_at_s, now_s + self._max_lead_s)

    async def _wait_for_listener(self) -> None:
        """The pacing of a stream does not know what of earlier turns is still to be heard."""
        too_far_s = self._unheard_s() - self._max_lead_s
        if too_far_s > 0:
            await asyncio.sleep(too_far_s)

    def _unheard_s(self) -> float:
        return max(0.0, self._heard_at_s - asyncio.get_running_loop().time())

    async def _speak(self, turn: Turn) -> None:
        """Raises `WireError`: there is no place to speak, or none any more."""
        options, tempo = self.studio.at_speed(self.speed)
        encoder = new_stream_encoder(
            self.query.audio_format, sample_rate=self.query.sample_rate, tempo=tempo
        )
        turn.begin(self._new_stream(options, tempo=tempo), tempo=tempo)
        assert turn.stream is not None
        if self.pause_ms and self._unheard_s():
            pause = np.zeros(self.pause_ms * SAMPLE_RATE // 1000, dtype=np.float32)
            await self._send_samples(pause, encoder, tempo=tempo)
        async with contextlib.aclosing(turn.stream.outputs()) as outputs:
            async for output in outputs:
                match output:
                    case Samples():
                        await self._send_samples(output.samples, encoder, tempo=tempo)
                    case SegmentTrouble(is_failure=True):
                        turn.has_failed = True
                        await self.warn("SYNTHESIS_FAILED", output.message)
                    case UtteranceEnded():
                        await self._send_audio(encoder.finish, encoder)

    def _new_stream(self, options: Mapping[str, float], *, tempo: float) -> SpeechStream:
        return self.studio.speak(
            Open(
                context="speech",
                voice=self.query.voice,
                language=self.query.language,
                options=options,
                # At another tempo the listener's clock is not ours.
                max_lead_ms=None if tempo == 1.0 else LONGEST_LEAD_MS,
            ),
            bearer=self.line.bearer,
            audio_format=f"deepgram_{self.query.audio_format}",
            session=self.line.name,
        )

    async def _send_samples(
        self, samples: NDArray[np.float32], encoder: StreamEncoder, *, tempo: float
    ) -> None:
        now_s = asyncio.get_running_loop().time()
        self._heard_at_s = max(now_s, self._heard_at_s) + samples.size / SAMPLE_RATE / tempo
        await self._send_audio(partial(encoder.encode, samples), encoder)

    async def _send_audio(self, encode: Callable[[], bytes], encoder: StreamEncoder) -> None:
        data = await self.studio.in_pool(encode) if encoder.is_costly else encode()
        if data:
            await self.line.send(data, is_audio=True)

    @abc.abstractmethod
    async def note_begin(self, turn: Turn) -> None:
        """Its audio follows."""

    @abc.abstractmethod
    async def note_end(self, turn: Turn) -> None:
        """All its audio is out, and it had its flush."""

    async def warn(self, code: str, description: str) -> None:
        await self.line.send_json(warning_message(code, description))

    async def complain(self, error: DeepgramError) -> None:
        self.studio.note_error(f"deepgram_{error.code}")
        await self.line.send_json(error_message(error))
