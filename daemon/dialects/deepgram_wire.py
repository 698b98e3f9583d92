"""JSON of Deepgram's speech sockets in, typed wishes out, and our failures in its form.

`/v1/speak` (Aura) and `/v2/speak` (Flux) differ in their messages. No I/O. Fields that it does not
know are ignored.
"""

import json
import re
import uuid
from collections.abc import Mapping
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

_PRONOUNCED = re.compile(r'\\\{\s*"word"\s*:\s*("(?:[^"\\]|\\.)*")[^{}]*\\\}')


class DeepgramError(Exception):
    """Something of the client's that cannot be met; `code` is Deepgram's word for it."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code = code
        self.description = description


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
