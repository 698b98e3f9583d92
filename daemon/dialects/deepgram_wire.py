"""Queries and JSON of Deepgram's speech sockets in, typed wishes out, and our failures in its form.

`/v1/speak` (Aura) and `/v2/speak` (Flux) differ in their messages, not in their queries. No I/O.
Fields that it does not know are ignored: clients send `mip_opt_out`, `tag`, `bit_rate` and more.
"""

import json
import math
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from websockets.http11 import Response

from daemon.dialects.line import parse_object
from daemon.dialects.sockets import json_response
from daemon.door.gate import Refusal
from daemon.wire.errors import (
    BadJson,
    BadMessage,
    ContextLost,
    Draining,
    TextTooLong,
    UnknownLanguage,
    UnknownVoice,
    WireError,
)
from daemon.wire.fields import is_text

FORMATS = {"linear16": "pcm", "mulaw": "ulaw", "alaw": "alaw"}
"""Deepgram's encodings, and what they are called here."""
_TELEPHONE_RATE = 8_000
_USUAL_RATE = 24_000
LOWEST_RATE, HIGHEST_RATE = 8_000, 48_000
_MODEL = re.compile(r"(?:aura|flux)(?:-\d+)?-(?P<speaker>[a-z]+)-(?P<language>[a-z]{2})", re.ASCII)
_SPEED_STEP = 0.05
_PRONOUNCED = re.compile(r'\\\{\s*"word"\s*:\s*("(?:[^"\\]|\\.)*")[^{}]*\\\}')


class DeepgramError(Exception):
    """Something of the client's that cannot be met; `code` is Deepgram's word for it."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code = code
        self.description = description


# --- the query ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakQuery:
    """What holds for a connection. `audio_format` is ours."""

    model: str
    voice: str
    language: str | None
    audio_format: str
    sample_rate: int
    speed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedRange:
    slowest: float
    fastest: float
    is_stepped: bool = False

    def check(self, speed: float) -> float:
        if not self.slowest <= speed <= self.fastest:
            raise DeepgramError(
                "SPEED_OUT_OF_RANGE",
                f"speed must lie between {self.slowest} and {self.fastest}, not {speed:g}",
            )
        steps = speed / _SPEED_STEP
        if self.is_stepped and abs(steps - round(steps)) > 1e-6:
            raise DeepgramError(
                "SPEED_INCREMENT_INVALID", f"speed must be a multiple of {_SPEED_STEP}: {speed:g}"
            )
        return speed


AURA_SPEEDS = SpeedRange(slowest=0.7, fastest=1.5)
FLUX_SPEEDS = SpeedRange(slowest=0.5, fastest=1.5, is_stepped=True)


def parse_query(
    query: Mapping[str, str],
    *,
    voice_of: Callable[[str], str | None],
    default_voice: str,
    speeds: SpeedRange,
) -> SpeakQuery:
    """`voice_of` as in `Studio`. Raises `DeepgramError`."""
    encoding = query.get("encoding", "linear16")
    if encoding not in FORMATS:
        raise DeepgramError("INVALID_ENCODING", f"encoding must be one of {', '.join(FORMATS)}")
    if query.get("container", "none") != "none":
        raise DeepgramError("INVALID_CONTAINER", "a socket sends raw audio: container=none")
    model = query.get("model", "")
    voice, language = resolve_model(model, voice_of=voice_of, default=default_voice)
    return SpeakQuery(
        model=model or voice,
        voice=voice,
        language=language,
        audio_format=FORMATS[encoding],
        sample_rate=_sample_rate(query.get("sample_rate"), encoding),
        speed=speeds.check(_number(query.get("speed", "1"))),
    )


def resolve_model(
    model: str, *, voice_of: Callable[[str], str | None], default: str
) -> tuple[str, str | None]:
    """A voice of ours by its name or alias; `aura-2-NAME-en` and `flux-NAME-en` are ours of that
    name, or the default. What is neither goes on as it is, to be refused by name."""
    if not model:
        return default, None
    known = voice_of(model)
    if known is not None:
        return known, None
    named = _MODEL.fullmatch(model)
    if named is None:
        return model, None
    return voice_of(named["speaker"]) or default, named["language"]


def _sample_rate(asked: str | None, encoding: str) -> int:
    if asked is None:
        return _USUAL_RATE if encoding == "linear16" else _TELEPHONE_RATE
    if not (asked.isascii() and asked.isdigit() and len(asked) <= 6):
        raise DeepgramError("INVALID_SAMPLE_RATE", "sample_rate must be a whole number")
    rate = int(asked)
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise DeepgramError(
            "INVALID_SAMPLE_RATE", f"sample_rate must lie between {LOWEST_RATE} and {HIGHEST_RATE}"
        )
    return rate


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DeepgramError("SPEED_OUT_OF_RANGE", "speed must be a number")
    return number


# --- messages -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Speak:
    text: str


@dataclass(frozen=True, slots=True)
class Flush:
    """Speak all of it; the turn is complete."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Aura's interruption."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Flux's. What was played counts from the start of the session."""

    played_ms: int | None


@dataclass(frozen=True, slots=True)
class Configure:
    speed: float | None


@dataclass(frozen=True, slots=True)
class Close:
    pass


AuraMessage = Speak | Flush | Clear | Close
FluxMessage = Speak | Flush | Interrupt | Configure | Close


def parse_aura(raw: str | bytes) -> AuraMessage:
    """Raises `DeepgramError`."""
    body = _object(raw)
    match body.get("type"):
        case "Speak":
            return Speak(_spoken(body))
        case "Flush":
            return Flush()
        case "Clear":
            return Clear()
        case "Close":
            return Close()
    raise _bad("type must be one of Speak, Flush, Clear, Close")


def parse_flux(raw: str | bytes) -> FluxMessage:
    """Raises `DeepgramError`."""
    body = _object(raw)
    match body.get("type"):
        case "Speak":
            return Speak(_spoken(body))
        case "Flush":
            return Flush()
        case "Interrupt":
            return Interrupt(_played_ms(body.get("playback_offset")))
        case "Configure":
            return Configure(_wished_speed(body.get("speed")))
        case "Close":
            return Close()
    raise _bad("type must be one of Speak, Flush, Interrupt, Configure, Close")


def _object(raw: str | bytes) -> dict[str, Any]:
    try:
        return parse_object(raw)
    except BadJson as error:
        raise _bad(error.message) from error


def _spoken(body: Mapping[str, Any]) -> str:
    """Of words with a pronunciation, the words: this model takes no IPA."""
    text = body.get("text")
    if not isinstance(text, str) or not is_text(text):
        raise DeepgramError("DATA-0000", "text must be a string of whole characters")
    return _PRONOUNCED.sub(_word_alone, text) if "\\{" in text else text


def _word_alone(found: re.Match[str]) -> str:
    try:
        word = json.loads(found[1])
    except ValueError:
        return found[0]
    return word if is_text(word) else ""


def _played_ms(offset: object) -> int | None:
    if offset is None:
        return None
    if not isinstance(offset, dict) or offset.get("type", "time_ms") != "time_ms":
        raise _bad('playback_offset must be {"type": "time_ms", "value": milliseconds}')
    value = offset.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise _bad("playback_offset.value must be a number of milliseconds")
    return round(value)


def _wished_speed(speed: object) -> float | None:
    if speed is None:
        return None
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not -1e9 < speed < 1e9:
        raise _bad("Configure: speed must be a number")
    return float(speed)


def _bad(description: str) -> DeepgramError:
    return DeepgramError("MESSAGE-0000", description)


# --- answers --------------------------------------------------------------------------------------


def of_wire_error(error: WireError) -> DeepgramError:
    code = {
        BadMessage: "MESSAGE-0000",
        TextTooLong: "DATA-0000",
        UnknownVoice: "MODEL_NOT_FOUND",
        UnknownLanguage: "LANGUAGE_NOT_FOUND",
    }.get(type(error), error.code.upper())
    # The hints of other errors speak of our own protocol.
    is_passing = isinstance(error, ContextLost | Draining)
    return DeepgramError(code, f"{error.message}. {error.hint}" if is_passing else error.message)


def error_message(error: DeepgramError) -> dict[str, object]:
    """Aura's clients read other fields of it than Flux's."""
    return {
        "type": "Error",
        "code": error.code,
        "description": error.description,
        "variant": error.code,
        "message": error.description,
    }


def warning_message(code: str, description: str) -> dict[str, object]:
    return {
        "type": "Warning",
        "code": code,
        "description": description,
        "warn_code": code,
        "warn_msg": description,
    }


def refusal_response(status: int, error: DeepgramError) -> Response:
    """Before the upgrade: most clients show the header `dg-error`, and have no way to the body."""
    request_id = str(uuid.uuid4())
    response = json_response(
        status,
        {"err_code": error.code, "err_msg": error.description, "request_id": request_id},
    )
    response.headers["dg-error"] = _header_text(error.description)
    response.headers["dg-request-id"] = request_id
    return response


def of_refusal(refusal: Refusal) -> DeepgramError:
    """The gate's no."""
    code, description = {
        401: ("INVALID_AUTH", "Invalid credentials: the API key is missing or not one of ours."),
        403: ("FORBIDDEN", "Pages of this origin may not use this daemon."),
        429: ("TOO_MANY_REQUESTS", "Too many requests at a time or a minute."),
    }.get(refusal.status, (refusal.reason.upper(), f"The daemon is {refusal.reason}."))
    return DeepgramError(code, description)


def _header_text(text: str) -> str:
    """Printable ASCII: the text may quote what the client sent."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:300]
