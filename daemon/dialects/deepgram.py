"""Clients of Deepgram's speech sockets in, speech in raw binary messages out: Aura and Flux.

`/v1/speak` is here, `/v2/speak` in `daemon/dialects/deepgram_flux.py`. A model's name chooses the
voice; encoding and sample rate hold for the connection.
"""

import uuid
from collections.abc import Mapping
from functools import partial

from websockets.http11 import Response

from daemon.config import SERVER_VERSION
from daemon.dialects.deepgram_flux import FluxTurns
from daemon.dialects.deepgram_query import (
    AURA_SPEEDS,
    FLUX_SPEEDS,
    SpeakQuery,
    SpeedRange,
    parse_query,
)
from daemon.dialects.deepgram_turn import Turn
from daemon.dialects.deepgram_turns import Turns
from daemon.dialects.deepgram_wire import (
    Clear,
    Close,
    DeepgramError,
    Flush,
    Speak,
    of_refusal,
    of_wire_error,
    parse_aura,
    refusal_response,
)
from daemon.dialects.line import Call, Line
from daemon.dialects.sockets import SocketDialect, Wants
from daemon.door.gate import Refusal
from daemon.formats.choice import FormatMissing, new_stream_encoder
from daemon.wire.errors import WireError
from daemon.wire.protocol import Open

_SPEEDS: Mapping[tuple[str, ...], SpeedRange] = {
    ("v1", "speak"): AURA_SPEEDS,
    ("v2", "speak"): FLUX_SPEEDS,
}
_TOKEN_WORDS = ("token", "bearer")


class DeepgramDialect(SocketDialect):
    name = "deepgram"
    subprotocols = _TOKEN_WORDS  # a browser's way to show one: the word, then the token

    def wants(self, call: Call) -> Wants | None:
        return Wants.CONVERSATION if call.parts in _SPEEDS else None

    def token(self, call: Call) -> str | None:
        shown = call.header("Authorization")
        if shown is not None:
            word, _, token = shown.strip().partition(" ")
            return token.strip() if word.lower() in _TOKEN_WORDS else None
        word, _, token = (call.header("Sec-WebSocket-Protocol") or "").partition(",")
        return token.strip() if word.strip().lower() in _TOKEN_WORDS else None

    def refused(self, refusal: Refusal) -> Response:
        return refusal_response(refusal.status, of_refusal(refusal))

    def turn_away(self, call: Call) -> Response | None:
        try:
            query = self._query(call)
            self.studio.offer.to(call.bearer).resolve(
                Open(context="speech", voice=query.voice, language=query.language)
            )
            _, tempo = self.studio.at_speed(query.speed)
            new_stream_encoder(query.audio_format, tempo=tempo)
        except DeepgramError as error:
            return self._turned_away(error)
        except WireError as error:
            return self._turned_away(of_wire_error(error))
        except FormatMissing as error:
            return self._turned_away(DeepgramError("SPEED_NOT_SUPPORTED", str(error)))
        return None

    def _turned_away(self, error: DeepgramError) -> Response:
        self.studio.note_error(f"deepgram_{error.code}")
        return refusal_response(400, error)

    def _query(self, call: Call) -> SpeakQuery:
        return parse_query(
            call.query,
            voice_of=partial(self.studio.voice_of, bearer=call.bearer),
            default_voice=self.studio.offer.info.default_voice,
            speeds=_SPEEDS[call.parts],
        )

    async def converse(self, line: Line) -> None:
        turns = AuraTurns if line.call.parts == ("v1", "speak") else FluxTurns
        await turns(line, self.studio, self._query(line.call)).run()


class AuraTurns(Turns):
    """`/v1/speak`. Some clients flush each sentence: the pause between two is made here."""

    pause_ms = 270  # with a turn's own silence at its end, what is between two sentences
    _num_answers = 0

    async def greet(self) -> None:
        model = self.query.model
        await self.line.send_json(
            {
                "type": "Metadata",
                "request_id": str(uuid.uuid4()),
                "model_name": model,
                "model_version": SERVER_VERSION,
                "model_uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, model)),
                "additional_model_uuids": [],
            }
        )

    async def obey(self, raw: str | bytes) -> None:
        match parse_aura(raw):
            case Clear():
                for turn in await self.stop():
                    turn.cancel()
                    turn.close()
                await self._answer("Cleared")
            case _ if self.is_closing:
                pass
            case Speak(text):
                self.add_text(text)
            case Flush():
                if self.flush() is None:
                    await self._answer("Flushed")
            case Close():
                await self.drop_growing()
                self.close_when_spoken()

    async def complain(self, error: DeepgramError) -> None:
        """Pipecat shows warnings on this wire, and knows no errors; LiveKit fails at an error."""
        await self.warn(error.code, error.description)
        await super().complain(error)

    async def bid_farewell(self) -> None:
        """The close itself is the farewell."""

    async def note_begin(self, turn: Turn) -> None:
        """Nothing marks it on this wire."""

    async def note_end(self, turn: Turn) -> None:
        """Both frameworks take it as the end of what they hear."""
        while turn.num_flushes:  # one more may come meanwhile
            turn.num_flushes -= 1
            await self._answer("Flushed")

    async def _answer(self, kind: str) -> None:
        number = self._num_answers
        self._num_answers += 1
        await self.line.send_json({"type": kind, "sequence_id": number})
