"""The JSON of OpenAI's speech API: a request body in, what is wanted out, and our failures as its
error objects. No I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chatterbox.api import EngineInfo
from daemon.door.gate import Refusal
from daemon.wire.errors import (
    Busy,
    ContextLost,
    Draining,
    EngineFailed,
    TextTooLong,
    UnknownLanguage,
    UnknownVoice,
    WireError,
)
from daemon.wire.protocol import MAX_SEED

VOICE_NAMES = (
    *("alloy", "ash", "ballad", "coral", "echo", "fable", "onyx", "nova", "sage", "shimmer"),
    *("verse", "marin", "cedar"),
)
"""OpenAI's own; some clients let nothing else pass."""
MODEL_NAMES = ("gpt-4o-mini-tts", "tts-1", "tts-1-hd")
SLOWEST, FASTEST = 0.25, 4.0
AUDIO_FORMATS = ("pcm", "wav", "opus", "mp3", "flac", "aac")
_STREAM_FORMATS = ("audio", "sse")


class OpenAIError(Exception):
    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None,
        kind: str = "invalid_request_error",
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s
        self.body: dict[str, object] = {
            "error": {"message": message, "type": kind, "param": param, "code": code},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechRequest:
    """What of the request body matters to us. `seed`, `language` and `options` are our own."""

    text: str
    voice: str
    audio_format: str = "mp3"
    is_sse: bool = False
    speed: float = 1.0
    seed: int | None = None
    language: str | None = None
    options: Mapping[str, float] = field(default_factory=dict)


def parse_request(body: object, info: EngineInfo) -> SpeechRequest:
    """Raises `OpenAIError`. Fields that it does not know are ignored, `model` and `instructions`
    among them: there is one model, and it takes no directions."""
    if not isinstance(body, dict):
        raise _bad("the body must be a JSON object", None)
    text = _text(body, "input")
    if not text:
        raise _bad("input must not be empty", "input")
    audio_format = _text(body, "response_format", "mp3")
    if audio_format not in AUDIO_FORMATS:
        raise _bad(f"response_format must be one of {', '.join(AUDIO_FORMATS)}", "response_format")
    stream_format = _text(body, "stream_format", "audio")
    if stream_format not in _STREAM_FORMATS:
        raise _bad("stream_format must be audio or sse", "stream_format")
    speed = _number(body, "speed", 1.0)
    if not SLOWEST <= speed <= FASTEST:
        raise _bad(f"speed must lie between {SLOWEST} and {FASTEST:g}", "speed")
    return SpeechRequest(
        text=text,
        voice=_voice(body, info),
        audio_format=audio_format,
        is_sse=stream_format == "sse",
        speed=speed,
        seed=_seed(body),
        language=_text(body, "language", "") or None,
        options=_options(body),
    )


def resolve_voice(name: str, info: EngineInfo) -> str:
    """OpenAI's names stand for ours, the first for the default; a voice of ours is itself."""
    if name in info.voices or name not in VOICE_NAMES:
        return name
    ours = [info.default_voice, *(voice for voice in info.voices if voice != info.default_voice)]
    return ours[VOICE_NAMES.index(name) % len(ours)]


def model_names(info: EngineInfo) -> tuple[str, ...]:
    return (info.model, *MODEL_NAMES)


# --- errors ---------------------------------------------------------------------------------------


def of_refusal(refusal: Refusal) -> OpenAIError:
    """The gate's no."""
    code, kind, message = {
        401: ("invalid_api_key", "invalid_request_error", "the API key is missing or wrong"),
        403: ("origin", "permission_error", "pages of this origin may not use this daemon"),
        429: ("rate_limit_exceeded", "rate_limit_error", "too many requests at a time or a minute"),
    }.get(refusal.status, (refusal.reason, "server_error", f"the daemon is {refusal.reason}"))
    return OpenAIError(
        refusal.status, message, code=code, kind=kind, retry_after_s=refusal.retry_after_s
    )


def of_wire_error(error: WireError, *, retry_after_s: int) -> OpenAIError:
    message = f"{error.message}. {error.hint}"
    if isinstance(error, Busy | Draining):
        return OpenAIError(
            503, message, code=error.code, kind="server_error", retry_after_s=retry_after_s
        )
    if isinstance(error, EngineFailed | ContextLost):
        return OpenAIError(500, message, code=error.code, kind="server_error")
    param = {UnknownVoice: "voice", TextTooLong: "input", UnknownLanguage: "language"}
    return OpenAIError(400, error.message, code=error.code, param=param.get(type(error)))


def _bad(message: str, param: str | None) -> OpenAIError:
    return OpenAIError(400, message, code="invalid_value", param=param)


# --- fields ---------------------------------------------------------------------------------------


def _text(body: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A field that is null counts as left out; without a default it must be there."""
    value = body.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise _bad(f"{name} must be a string", name)
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise _bad(f"{name} holds half a character", name)
    return value


def _number(body: Mapping[str, Any], name: str, default: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _bad(f"{name} must be a number", name)
    try:
        return float(value)
    except OverflowError as error:
        raise _bad(f"{name} is too large", name) from error


def _voice(body: Mapping[str, Any], info: EngineInfo) -> str:
    """A name, or an object with an `id`; if there is none, the default."""
    voice = body.get("voice")
    if isinstance(voice, dict):
        return resolve_voice(_text({"voice": voice.get("id")}, "voice"), info)
    return resolve_voice(_text(body, "voice", info.default_voice), info)


def _seed(body: Mapping[str, Any]) -> int | None:
    seed = body.get("seed")
    if seed is None:
        return None
    if type(seed) is not int or not 0 <= seed <= MAX_SEED:
        raise _bad(f"seed must be a whole number from 0 to {MAX_SEED}", "seed")
    return seed


def _options(body: Mapping[str, Any]) -> dict[str, float]:
    options = body.get("options")
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise _bad("options must be an object", "options")
    return {name: _number(options, name, 0.0) for name in options}
