"""ElevenLabs' text-to-speech sockets on the main port: `multi-stream-input` and `stream-input` with
their paths, tokens and refusals, and the lists that its clients ask for.

Its HTTP requests with a body (`POST /v1/text-to-speech/…`) are not here: the main port reads none.
"""

from websockets.http11 import Response

from daemon.dialects.elevenlabs_talk import Talk
from daemon.dialects.elevenlabs_wire import (
    ElevenLabsError,
    Wanted,
    model_list,
    parse_query,
    refusal_error,
    voice_list,
    voice_object,
)
from daemon.dialects.line import Call, Line
from daemon.dialects.sockets import SocketDialect, Wants, json_response
from daemon.door.gate import Refusal
from daemon.formats.choice import FormatMissing, new_stream_encoder


class ElevenLabsDialect(SocketDialect):
    name = "elevenlabs"

    def wants(self, call: Call) -> Wants | None:
        match call.parts:
            case ("v1", "text-to-speech", _, "multi-stream-input" | "stream-input"):
                return Wants.CONVERSATION
            case ("v1" | "v2", "voices") | ("v1", "voices", _) | ("v1", "models"):
                return Wants.ANSWER
        return None

    def token(self, call: Call) -> str | None:
        return call.header("xi-api-key")

    def refused(self, refusal: Refusal) -> Response:
        return _of_error(refusal_error(refusal))

    # --- questions --------------------------------------------------------------------------------

    def answer(self, call: Call) -> Response:
        match call.parts:
            case (version, "voices"):
                voices = self.studio.offer.to(call.bearer).voices
                return json_response(200, voice_list(voices, is_paged=version == "v2"))
            case ("v1", "models"):
                return json_response(200, model_list(self.studio.offer.info))
            case _:
                return self._voice(call.parts[-1], call)

    def _voice(self, name: str, call: Call) -> Response:
        ours = self.studio.voice_of(name, call.bearer)
        if ours is None:
            return _of_error(_unknown_voice(name))
        return json_response(200, voice_object(ours) | {"voice_id": name})

    # --- conversations ----------------------------------------------------------------------------

    def turn_away(self, call: Call) -> Response | None:
        try:
            self._parse(call)
        except ElevenLabsError as error:
            return _of_error(error)
        return None

    async def converse(self, line: Line) -> None:
        wanted, voice = self._parse(line.call)
        is_multi = line.call.parts[-1] == "multi-stream-input"
        await Talk(line, wanted, voice=voice, is_multi=is_multi, studio=self.studio).run()

    def _parse(self, call: Call) -> tuple[Wanted, str]:
        """What the client wants, and the voice of ours that it means. Raises `ElevenLabsError`."""
        voice = self.studio.voice_of(call.parts[2], call.bearer)
        if voice is None:
            raise _unknown_voice(call.parts[2])
        wanted = parse_query(call.query, self.studio.offer.info)
        try:
            new_stream_encoder(wanted.format.encoding, sample_rate=wanted.format.sample_rate)
        except FormatMissing as error:
            raise ElevenLabsError(400, "output_format_not_allowed", str(error)) from error
        return wanted, voice


def _unknown_voice(name: str) -> ElevenLabsError:
    message = f"A voice for the voice_id {name[:80]} was not found."
    return ElevenLabsError(404, "voice_not_found", message)


def _of_error(error: ElevenLabsError) -> Response:
    return json_response(error.status, error.body)
