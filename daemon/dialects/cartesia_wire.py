"""JSON of Cartesia's speech socket in, typed requests out, and our answers and failures as JSON.

No I/O. Fields that it does not know are ignored, as are emotions and phonemes: there is no model
here that takes them. Tags in the text are the business of `daemon/dialects/cartesia_tags.py`.
"""

import base64
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from websockets.http11 import Response

from chatterbox.api import SAMPLE_RATE
from daemon.dialects.line import parse_object
from daemon.dialects.sockets import json_response
from daemon.door.gate import Refusal
from daemon.speaking.outputs import TimedWord
from daemon.wire.errors import (
    BadJson,
    Busy,
    ContextLost,
    Draining,
    EngineFailed,
    TextTooLong,
    TooManyContexts,
    UnknownVoice,
    WireError,
)
from daemon.wire.fields import is_text

FORMATS = {"pcm_s16le": "pcm", "pcm_f32le": "pcm_f32", "pcm_mulaw": "ulaw", "pcm_alaw": "alaw"}
"""Cartesia's encodings, and what they are called here."""
LOWEST_RATE, HIGHEST_RATE = 8_000, 48_000
SLOWEST, FASTEST = 0.5, 2.0
QUIETEST, LOUDEST = 0.5, 2.0
BUFFER_DELAY_MS, LONGEST_BUFFER_DELAY_MS = 3_000, 5_000
_MAX_NAME_CHARS = 200


class CartesiaError(Exception):
    """`context` is None where the message did not say which one it is about."""

    def __init__(self, status: int, code: str, message: str, *, context: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.context = context

    @property
    def body(self) -> dict[str, object]:
        return {
            "error_code": self.code,
            "title": self.code.replace("_", " ").capitalize(),
            "message": self.message,
            "status_code": self.status,
        }


# --- requests -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextWish:
    """What holds from the start of a context to its end. `audio_format` is ours."""

    voice: str
    language: str | None
    audio_format: str
    sample_rate: int
    speed: float
    volume: float

    def may_continue(self, first: "ContextWish") -> bool:
        """Pipecat may ask for another speed or volume in the middle: it comes with the next
        context. Another voice or format would be noise."""
        return replace(self, speed=first.speed, volume=first.volume) == first


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    context: str
    transcript: str
    is_continued: bool
    is_flush: bool
    max_buffer_delay_ms: int
    has_timestamps: bool
    wish: ContextWish


@dataclass(frozen=True, slots=True)
class Cancel:
    context: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """What there is to choose from. `voice_of` as in `Studio`."""

    voice_of: Callable[[str], str | None]
    default_voice: str
    languages: Sequence[str]


def parse_request(raw: str | bytes, shelf: Shelf) -> Generate | Cancel:
    """Raises `CartesiaError`."""
    try:
        body = parse_object(raw)
    except BadJson as error:
        raise CartesiaError(400, "invalid_json", error.message) from error
    name = body.get("context_id")
    if name is None:
        name = str(uuid.uuid4())
    if not isinstance(name, str) or not is_text(name) or not 1 <= len(name) <= _MAX_NAME_CHARS:
        message = f"context_id must be a string of 1 to {_MAX_NAME_CHARS} characters"
        raise CartesiaError(400, "invalid_context_id", message)
    try:
        return Cancel(name) if _flag(body, "cancel") else _generate(name, body, shelf)
    except CartesiaError as error:
        error.context = name
        raise


def _generate(name: str, body: Mapping[str, Any], shelf: Shelf) -> Generate:
    transcript = body.get("transcript")
    if not isinstance(transcript, str) or not is_text(transcript):
        raise _bad("transcript must be a string of whole characters")
    return Generate(
        context=name,
        transcript=transcript,
        is_continued=_flag(body, "continue"),
        is_flush=_flag(body, "flush"),
        max_buffer_delay_ms=round(
            _number(body, "max_buffer_delay_ms", BUFFER_DELAY_MS, 0, LONGEST_BUFFER_DELAY_MS)
        ),
        has_timestamps=_flag(body, "add_timestamps"),
        wish=_wish(body, shelf),
    )


def _wish(body: Mapping[str, Any], shelf: Shelf) -> ContextWish:
    sound = body.get("output_format")
    if not isinstance(sound, dict):
        raise _bad("output_format must be an object")
    if sound.get("container", "raw") != "raw":
        raise _bad("output_format.container must be raw")
    encoding = sound.get("encoding")
    if not isinstance(encoding, str) or encoding not in FORMATS:
        raise _bad(f"output_format.encoding must be one of {', '.join(FORMATS)}")
    controls = body.get("generation_config")
    if controls is None:
        controls = {}
    if not isinstance(controls, dict):
        raise _bad("generation_config must be an object")
    return ContextWish(
        voice=_voice(body.get("voice"), shelf),
        language=_language(body.get("language"), shelf),
        audio_format=FORMATS[encoding],
        sample_rate=round(_number(sound, "sample_rate", SAMPLE_RATE, LOWEST_RATE, HIGHEST_RATE)),
        speed=_number(controls, "speed", 1.0, SLOWEST, FASTEST),
        volume=_number(controls, "volume", 1.0, QUIETEST, LOUDEST),
    )


def _voice(asked: object, shelf: Shelf) -> str:
    """A voice of ours by its name or alias. Cartesia's own, named by UUIDs or given as numbers that
    only its models understand, stand for the default."""
    if isinstance(asked, dict):
        asked = asked.get("id") if asked.get("embedding") is None else None
    if asked is None:
        return shelf.default_voice
    if not isinstance(asked, str):
        raise _bad("voice must be a name, or an object with an id")
    return shelf.voice_of(asked) or (shelf.default_voice if _is_uuid(asked) else asked)


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _language(asked: object, shelf: Shelf) -> str | None:
    """`en-US` is `en` here; what matches nothing goes on as it is, to be refused by name."""
    if asked is None:
        return None
    if not isinstance(asked, str) or not is_text(asked):
        raise _bad("language must be a string")
    primary = asked.replace("_", "-").partition("-")[0].lower()
    return primary if asked not in shelf.languages and primary in shelf.languages else asked


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool | None):
        raise _bad(f"{name} must be true or false")
    return bool(value)


def _number(body: Mapping[str, Any], name: str, default: float, least: float, most: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise _bad(f"{name} must be a number from {least:g} to {most:g}")
    return value


def _bad(message: str) -> CartesiaError:
    return CartesiaError(400, "invalid_request", message)


# --- answers --------------------------------------------------------------------------------------


def chunk(context: str, audio: bytes, *, flush_id: int, step_ms: float) -> dict[str, object]:
    return {
        "type": "chunk",
        "context_id": context,
        "data": base64.b64encode(audio).decode(),
        "done": False,
        "status_code": 206,
        "step_time": round(step_ms, 3),
        "flush_id": flush_id,
    }


def timestamps(
    context: str, words: Sequence[TimedWord], *, flush_id: int, tempo: float
) -> dict[str, object]:
    """Seconds from the start of the context."""
    samples_per_s = SAMPLE_RATE * tempo
    return {
        "type": "timestamps",
        "context_id": context,
        "word_timestamps": {
            "words": [word.text for word in words],
            "start": [round(word.start_sample / samples_per_s, 4) for word in words],
            "end": [round(word.end_sample / samples_per_s, 4) for word in words],
        },
        "done": False,
        "status_code": 206,
        "flush_id": flush_id,
    }


def flush_done(context: str, *, flush_id: int) -> dict[str, object]:
    return {
        "type": "flush_done",
        "context_id": context,
        "flush_done": True,
        "flush_id": flush_id,
        "done": False,
        "status_code": 206,
    }


def done(context: str, *, status: int = 200) -> dict[str, object]:
    return {"type": "done", "context_id": context, "done": True, "status_code": status}


def error_message(error: CartesiaError) -> dict[str, object]:
    """`done` comes in a message of its own: LiveKit's plugin would take this one for a good end."""
    return {"type": "error", "context_id": error.context, **error.body, "done": False}


def of_wire_error(error: WireError, *, context: str) -> CartesiaError:
    is_passing = isinstance(error, ContextLost | Draining)
    message = f"{error.message}. {error.hint}" if is_passing else error.message
    status = {
        Busy: 503,
        Draining: 503,
        EngineFailed: 500,
        TextTooLong: 413,
        TooManyContexts: 429,
        UnknownVoice: 404,
    }.get(type(error), 400)
    return CartesiaError(status, error.code, message, context=context)


def refusal_response(refusal: Refusal) -> Response:
    """The gate's no."""
    code, message = {
        401: ("unauthorized", "The API key is missing or not one of ours."),
        403: ("forbidden", "Pages of this origin may not use this daemon."),
        429: ("too_many_requests", "Too many requests at a time or a minute."),
    }.get(refusal.status, (refusal.reason, f"The daemon is {refusal.reason}."))
    error = CartesiaError(refusal.status, code, message)
    return json_response(refusal.status, error.body | {"request_id": str(uuid.uuid4())})
