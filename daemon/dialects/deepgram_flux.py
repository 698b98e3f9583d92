"""Deepgram Flux (`/v2/speak`): turns that say when they begin and end, and an interruption that
tells what was heard.

All of a turn's audio comes between its SpeechStarted and its SpeechMetadata or SpeechInterrupted.
Playback offsets count from the start of the session, over what the client kept: an interruption
takes back what was sent and not heard.
"""

import secrets
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from daemon.config import SERVER_VERSION
from daemon.dialects.deepgram_query import FLUX_SPEEDS, SpeakQuery
from daemon.dialects.deepgram_turn import Turn
from daemon.dialects.deepgram_turns import Turns
from daemon.dialects.deepgram_wire import (
    Close,
    Configure,
    DeepgramError,
    Flush,
    Interrupt,
    Speak,
    parse_flux,
)
from daemon.dialects.line import Line
from daemon.formats.choice import FormatMissing, new_stream_encoder
from daemon.studio import Studio

_NUM_REMEMBERED = 8
"""Turns that an interruption can tell of."""
_CONTROLS = {"pronunciations_applied": 0, "breaks_applied": 0, "pronunciation_warnings": 0}


@dataclass(slots=True)
class _Begun:
    """A turn whose SpeechStarted was sent."""

    turn: Turn
    speech_id: str
    start_ms: int
    """Where its audio begins in the session."""
    is_flush_told: bool = False
    is_over: bool = False
    """Its SpeechMetadata or SpeechInterrupted was sent."""

    @property
    def end_ms(self) -> int:
        """Of what was sent so far."""
        return self.start_ms + self.turn.sent_ms

    def was_heard(self, played_ms: int | None) -> bool:
        """To its end; what was sent whole counts as heard unless the client says otherwise."""
        return self.is_over and (played_ms is None or self.end_ms <= played_ms)

    def metadata(self) -> dict[str, object]:
        return {
            "speech_id": self.speech_id,
            "audio_duration_ms": self.turn.sent_ms,
            "input_character_count": self.turn.num_chars,
            "billable_character_count": self.turn.num_chars,
            "controls_applied": _CONTROLS,
        }


class FluxTurns(Turns):
    def __init__(self, line: Line, studio: Studio, query: SpeakQuery) -> None:
        super().__init__(line, studio, query)
        self._begun: deque[_Begun] = deque(maxlen=_NUM_REMEMBERED)
        """The turns that were sent last, and the one that is being sent: they may not be heard."""
        self._total_ms = 0
        """The session's audio before the turn that is being sent."""
        self._interrupted_ms = 0
        """Where the latest interruption was."""
        self._num_chars = 0

    async def greet(self) -> None:
        model = self.query.model
        await self.line.send_json(
            {
                "type": "Connected",
                "request_id": str(uuid.uuid4()),
                "model_name": model,
                "model_version": SERVER_VERSION,
                "model_uuids": [str(uuid.uuid5(uuid.NAMESPACE_OID, model))],
            }
        )

    async def obey(self, raw: str | bytes) -> None:
        match parse_flux(raw):
            case Interrupt(played_ms):
                await self._interrupt(played_ms)
            case Configure(speed):
                await self._configure(speed)
            case _ if self.is_closing:
                pass
            case Speak(text):
                self.add_text(text)
                self._num_chars += len(text)
            case Flush():
                await self._flush()
            case Close():
                self.flush()
                self.close_when_spoken()

    # --- ends -------------------------------------------------------------------------------------

    async def _flush(self) -> None:
        if self.growing is None:
            await self.warn("NO_ACTIVE_SPEECH", "there is no text that was not flushed")
            return
        self.flush()
        await self._tell_flush()

    async def _tell_flush(self) -> None:
        """An acknowledgement only; inside the brackets of its turn."""
        begun = self._begun[-1] if self._begun else None
        if begun is None or begun.turn is not self.active or begun.is_flush_told:
            return
        if begun.turn.is_flushed.is_set():
            begun.is_flush_told = True
            await self.line.send_json({"type": "Flushed", "speech_id": begun.speech_id})

    async def bid_farewell(self) -> None:
        await self.line.send_json(
            {
                "type": "SessionMetadata",
                "total_audio_duration_ms": self._total_ms,
                "total_input_character_count": self._num_chars,
                "total_billable_character_count": self._num_chars,
            }
        )

    # --- turns ------------------------------------------------------------------------------------

    async def note_begin(self, turn: Turn) -> None:
        speech_id = f"dg_sp_{secrets.token_hex(6)}"
        self._begun.append(_Begun(turn, speech_id, self._total_ms))
        await self.line.send_json({"type": "SpeechStarted", "speech_id": speech_id})
        await self._tell_flush()

    async def note_end(self, turn: Turn) -> None:
        begun = self._begun[-1]
        await self._tell_flush()
        if not turn.sent_ms and not turn.has_failed:
            await self.warn("NO_SYNTHESIZABLE_TEXT", "there is nothing in it that can be spoken")
        self._total_ms += turn.sent_ms
        begun.is_over = True
        await self.line.send_json({"type": "SpeechMetadata", **begun.metadata()})

    # --- interruption -----------------------------------------------------------------------------

    async def _interrupt(self, played_ms: int | None) -> None:
        if played_ms is not None and played_ms < self._interrupted_ms:
            await self.warn(
                "INVALID_INTERRUPT_OFFSET",
                f"{played_ms} ms is before the interruption at {self._interrupted_ms} ms;"
                " offsets count from the start of the session",
            )
            return
        stopped = await self.stop()
        cut = [begun for begun in self._begun if not begun.was_heard(played_ms)]
        # One that has begun may have ended as well, but for the socket's making room behind it.
        is_begun = bool(stopped) and any(begun.turn is stopped[0] for begun in self._begun)
        if stopped and not cut and not is_begun:
            await self.note_begin(stopped[0])  # the interruption was faster than its first audio
            cut = [self._begun[-1]]
        if cut:
            await self._tell_interruption(cut, played_ms)
        elif self._total_ms:
            await self.warn("NO_ACTIVE_SPEECH", "there is no turn to interrupt")
        else:
            await self.warn("NO_AUDIO_GENERATED", "there has been no audio yet")
        for turn in stopped:
            turn.cancel()
            turn.close()

    async def _tell_interruption(self, cut: Sequence[_Begun], played_ms: int | None) -> None:
        """Of each turn that was not heard to its end: Deepgram itself tells of one that it still
        sends. Without an offset nobody knows what was heard."""
        end_ms = cut[-1].end_ms
        self._total_ms = self._interrupted_ms = (
            end_ms if played_ms is None else min(end_ms, played_ms)
        )
        self._begun.clear()
        for begun in cut:
            begun.is_over = True
            answer: dict[str, object] = {"type": "SpeechInterrupted"}
            if played_ms is None:
                begun.turn.cancel()
                answer["audio_played_ms"] = end_ms
            else:
                in_turn_ms = max(0, played_ms - begun.start_ms)
                spoken, remaining = begun.turn.cancel(played_ms=in_turn_ms)
                answer["audio_played_ms"] = played_ms
                answer["text_spoken"] = spoken
                answer["text_remaining"] = remaining
            await self.line.send_json(answer | {"metadata": begun.metadata()})

    # --- speed ------------------------------------------------------------------------------------

    async def _configure(self, speed: float | None) -> None:
        """It holds for the turns that begin after it."""
        failure: dict[str, object] | None = None
        if speed is not None:
            try:
                _, tempo = self.studio.at_speed(FLUX_SPEEDS.check(speed))
                new_stream_encoder("pcm", tempo=tempo)
                self.speed = speed
            except DeepgramError as error:
                failure = {"code": error.code, "value": speed, "description": error.description}
            except FormatMissing as error:
                failure = {"code": "SPEED_NOT_SUPPORTED", "description": str(error)}
        if failure is None:
            await self.line.send_json(
                {"type": "ConfigureSuccess", "applied": {"speed": self.speed}}
            )
        else:
            await self.line.send_json({"type": "ConfigureFailure", "field": "speed", **failure})
