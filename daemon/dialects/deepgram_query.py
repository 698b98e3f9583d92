"""The query that opens a Deepgram speech socket in; what holds for the connection out.

The same for `/v1/speak` (Aura) and `/v2/speak` (Flux) but for the speeds. No I/O. Fields that it
does not know are ignored: clients send `mip_opt_out`, `tag`, `bit_rate` and more.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from daemon.dialects.deepgram_wire import DeepgramError

FORMATS = {"linear16": "pcm", "mulaw": "ulaw", "alaw": "alaw"}
"""Deepgram's encodings, and what they are called here."""
_TELEPHONE_RATE = 8_000
_USUAL_RATE = 24_000
LOWEST_RATE, HIGHEST_RATE = 8_000, 48_000
_MODEL = re.compile(r"(?:aura|flux)(?:-\d+)?-(?P<speaker>[a-z]+)-(?P<language>[a-z]{2})", re.ASCII)
_SPEED_STEP = 0.05


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
