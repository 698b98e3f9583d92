"""The wire of ElevenLabs' text-to-speech sockets: a query and JSON messages in, what is wanted out,
and our failures in its form. No I/O.

Lenient, as the service is: what is unknown is ignored, `model_id` among it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatterbox.api import EngineInfo
from daemon.door.gate import Refusal
from daemon.wire.errors import (
    BadMessage,
    Busy,
    Draining,
    EngineFailed,
    TextTooLong,
    TooManyContexts,
    WireError,
)
from daemon.wire.fields import is_text
from daemon.wire.protocol import MAX_SEED

DEFAULT_CONTEXT = "default"
"""What a context is called whose messages name none."""
SLOWEST, FASTEST = 0.7, 1.2
_INACTIVITY_S, _LONGEST_INACTIVITY_S = 20.0, 180.0
_MOST_ID_CHARS = 256
POLICY_VIOLATION = 1008
_RATES = (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_KBPS = (32, 64, 96, 128, 192)


class ElevenLabsError(Exception):
    """Told before the upgrade, as an HTTP answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"detail": {"status": code, "code": code, "message": message}}


# --- the query ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """`encoding` is a name of `daemon/formats`."""

    encoding: str
    sample_rate: int
    bitrate: int | None = None


OUTPUT_FORMATS: Mapping[str, OutputFormat] = {
    **{f"pcm_{rate}": OutputFormat("pcm", rate) for rate in _RATES},
    "ulaw_8000": OutputFormat("ulaw", 8_000),
    "alaw_8000": OutputFormat("alaw", 8_000),
    "mp3_22050_32": OutputFormat("mp3", 22_050, 32_000),
    "mp3_24000_48": OutputFormat("mp3", 24_000, 48_000),
    **{f"mp3_44100_{kbps}": OutputFormat("mp3", 44_100, 1000 * kbps) for kbps in _KBPS},
    **{f"opus_48000_{kbps}": OutputFormat("opus", 48_000, 1000 * kbps) for kbps in _KBPS},
}
_DEFAULT_FORMAT = "mp3_44100_128"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What holds for all contexts of a socket."""

    output: str
    format: OutputFormat
    language: str | None
    seed: int | None
    inactivity_s: float
    is_auto: bool
    """Each message is a phrase, to be spoken at once."""
    absolute: frozenset[str]
    """The tables whose times count from the start of the context. ElevenLabs documents them as
    relative to the message, and its clients disagree: Pipecat adds `alignment` up, LiveKit takes
    the one that it reads as absolute, and it alone asks for `sync_alignment`."""


def parse_query(query: Mapping[str, str], info: EngineInfo) -> Wanted:
    """Raises `ElevenLabsError`."""
    output = query.get("output_format") or _DEFAULT_FORMAT
    found = OUTPUT_FORMATS.get(output)
    if found is None:
        known = ", ".join(OUTPUT_FORMATS)
        raise ElevenLabsError(
            400, "invalid_output_format", f"there is no output_format {output[:40]!r}; use {known}"
        )
    language = _language(query.get("language_code"), info)
    return Wanted(
        output=output,
        format=found,
        language=language,
        seed=_seed(query.get("seed")),
        inactivity_s=_inactivity_s(query.get("inactivity_timeout")),
        is_auto=_is_true(query.get("auto_mode")),
        absolute=_absolute(language) if _is_true(query.get("sync_alignment")) else frozenset(),
    )


def _absolute(language: str | None) -> frozenset[str]:
    """What LiveKit reads: in Chinese, Japanese and Korean the other table."""
    return frozenset({"alignment" if language in ("zh", "ja", "ko") else "normalizedAlignment"})


def _is_true(text: str | None) -> bool:
    return (text or "").lower() in ("true", "1")


def _language(asked: str | None, info: EngineInfo) -> str | None:
    if not asked or asked in info.languages:
        return asked or None
    primary = re.split("[-_]", asked)[0].lower()
    if primary not in info.languages:
        known = ", ".join(info.languages)
        raise ElevenLabsError(
            400, "unsupported_language", f"there is no language {asked[:40]!r}; use {known}"
        )
    return primary


def _seed(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise ElevenLabsError(400, "invalid_seed", "seed must be a whole number")
    return int(text) % (MAX_SEED + 1)


def _inactivity_s(text: str | None) -> float:
    """Clients ask for more than there is, and mean as long as possible."""
    try:
        asked_s = float(text or _INACTIVITY_S)
    except ValueError:
        return _INACTIVITY_S
    if not math.isfinite(asked_s):
        return _INACTIVITY_S
    return min(max(1.0, asked_s), _LONGEST_INACTIVITY_S)


# --- messages of the client -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientMessage:
    context: str = DEFAULT_CONTEXT
    text: str = ""
    has_text: bool = False
    """An empty text is not none."""
    flush: bool = False
    close_context: bool = False
    close_socket: bool = False
    immediate: bool = False
    """Ours: with `close_context`, what is not out yet is dropped."""
    speed: float = 1.0


def parse_message(body: Mapping[str, Any]) -> ClientMessage:
    """Raises `BadMessage`."""
    context = _text(body, "context_id") or _text(body, "contextId") or DEFAULT_CONTEXT
    if len(context) > _MOST_ID_CHARS:
        raise BadMessage(f"context_id has more than {_MOST_ID_CHARS} characters")
    text = _text(body, "text")
    return ClientMessage(
        context=context,
        text=text or "",
        has_text=text is not None,
        flush=_flag(body, "flush"),
        close_context=_flag(body, "close_context"),
        close_socket=_flag(body, "close_socket"),
        immediate=_flag(body, "immediate"),
        speed=_speed(body),
    )


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not is_text(value):
        raise BadMessage(f"{name} must be a string of whole characters")
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadMessage(f"{name} must be true or false")
    return bool(value)


def _speed(body: Mapping[str, Any]) -> float:
    """Of all voice settings the only one that means something to any of our voices."""
    settings = body.get("voice_settings")
    if settings is None:
        return 1.0
    if not isinstance(settings, dict):
        raise BadMessage("voice_settings must be an object")
    speed = settings.get("speed")
    if speed is None:
        return 1.0
    if isinstance(speed, bool) or not isinstance(speed, int | float):
        raise BadMessage("voice_settings.speed must be a number")
    if not SLOWEST <= speed <= FASTEST:
        raise BadMessage(f"voice_settings.speed must lie between {SLOWEST} and {FASTEST}")
    return float(speed)


# --- messages of ours -----------------------------------------------------------------------------


def error_message(error: WireError, *, context: str | None) -> dict[str, object]:
    """`context` None for what concerns none. Our hints are left out: they speak of our protocol."""
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), error.code)
    body: dict[str, object] = {
        "error": code,
        "message": error.message,
        "code": POLICY_VIOLATION,
    }
    return body if context is None else body | {"contextId": context}


_CODES: Mapping[type[WireError], str] = {
    TooManyContexts: "max_active_conversations",
    TextTooLong: "max_character_limit_exceeded",
    Busy: "system_busy",
    Draining: "system_busy",
    EngineFailed: "internal_error",
}


def refusal_error(refusal: Refusal) -> ElevenLabsError:
    """The gate's no."""
    if refusal.status == 401:
        message = "Invalid API key: send a token of this daemon in the header xi-api-key"
        return ElevenLabsError(401, "invalid_api_key", message)
    if refusal.status == 403:
        message = "pages of this origin may not use this daemon"
        return ElevenLabsError(403, "missing_permissions", message)
    if refusal.status == 429:
        message = "too many connections at a time or a minute"
        return ElevenLabsError(429, "too_many_concurrent_requests", message)
    return ElevenLabsError(refusal.status, "system_busy", f"the daemon is {refusal.reason}")


# --- answers --------------------------------------------------------------------------------------


def voice_object(name: str) -> dict[str, object]:
    return {"voice_id": name, "name": name, "category": "premade", "labels": {}, "description": ""}


def voice_list(names: Sequence[str], *, is_paged: bool) -> dict[str, object]:
    voices = [voice_object(name) for name in names]
    if not is_paged:
        return {"voices": voices}
    return {
        "voices": voices,
        "has_more": False,
        "total_count": len(voices),
        "next_page_token": None,
    }


def model_list(info: EngineInfo) -> list[dict[str, object]]:
    languages = [{"language_id": name, "name": name} for name in info.languages]
    return [
        {
            "model_id": info.model,
            "name": info.model,
            "can_do_text_to_speech": True,
            "can_do_voice_conversion": False,
            "languages": languages,
        }
    ]
