"""Wire messages: JSON text or bytes in, typed messages out, and back. Mirrors docs/protocol.md.

No I/O. Knows the shape of messages, not what this daemon offers: voices, ranges and live contexts
are checked by others.
"""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import IntEnum
from typing import Any, ClassVar, Self

from chatterbox.api import OptionSpec, WordTimes
from daemon.wire.errors import BadJson, BadMessage, UnknownType
from daemon.wire.fields import MAX_CONTEXT_NAME_CHARS, FieldReader, is_text
from daemon.wire.voice_messages import (
    VOICE_ANSWERS,
    VOICE_PARSERS,
    VOICE_REQUESTS,
    CloningTerms,
    VoiceAnswer,
    VoiceFacts,
    VoiceRequest,
    Voices,
)

PROTOCOL = "chatterboxd.v1"
PACKET_MS = 20
PRE_SKIP_48K = 312
"""Samples at 48 kHz that an Opus decoder drops at the start of each context."""
MAX_SEED = 2**31 - 1


# --- client → daemon ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    type: ClassVar[str] = "open"
    context: str
    voice: str | None = None
    format: str | None = None
    bitrate: int | None = None
    seed: int | None = None
    language: str | None = None
    options: Mapping[str, float] = field(default_factory=dict)
    max_buffer_delay_ms: int | None = None
    max_lead_ms: int | None = None
    lexicon: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    type: ClassVar[str] = "text"
    context: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Flush:
    type: ClassVar[str] = "flush"
    context: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    type: ClassVar[str] = "end"
    context: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    type: ClassVar[str] = "cancel"
    context: str
    played_ms: float | None = None


ContextMessage = Open | TextDelta | Flush | End | Cancel
ClientMessage = ContextMessage | VoiceRequest


# --- daemon → client ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OpusFacts:
    packet_ms: int = PACKET_MS
    pre_skip: int = PRE_SKIP_48K
    bitrate_default: int
    bitrate_min: int
    bitrate_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    message_bytes: int
    text_chars: int
    contexts: int
    messages_per_s: int
    wait_ms: int
    stall_ms: int
    buffer_delay_ms_default: int
    buffer_delay_ms_max: int
    lead_ms_default: int
    lead_ms_min: int
    lead_ms_max: int
    lexicon_entries: int = 0
    break_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    type: ClassVar[str] = "begin"
    protocol: str = PROTOCOL
    server: str
    model: str
    sample_rate: int
    channels: int = 1
    formats: Sequence[str]
    opus: OpusFacts
    voices: Sequence[str]
    default_voice: str
    languages: Sequence[str]
    options: Sequence[OptionSpec]
    slots: int
    limits: Limits
    word_times: WordTimes = "estimated"
    tags: Sequence[str] = ()
    phonemes: str = ""
    cloning: CloningTerms | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    type: ClassVar[str] = "opened"
    context: str
    number: int
    voice: str
    format: str
    seed: int
    language: str
    options: Mapping[str, float]
    max_buffer_delay_ms: int
    max_lead_ms: int
    bitrate: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentStart:
    type: ClassVar[str] = "segment"
    context: str
    segment: int
    text: str
    start: int
    end: int
    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WordTime:
    text: str
    start: int
    end: int
    sample: int
    end_sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    type: ClassVar[str] = "words"
    context: str
    words: Sequence[WordTime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flushed:
    type: ClassVar[str] = "flushed"
    context: str
    flush: int
    end: int
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioEnd:
    type: ClassVar[str] = "audio_end"
    context: str
    samples: int
    packets: int
    duration_ms: float
    segments: int
    text_chars: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    type: ClassVar[str] = "cancelled"
    context: str
    text_spoken: str
    text_remaining: str
    played_ms: float
    samples_sent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    type: ClassVar[str] = "warning"
    context: str
    code: str
    message: str
    segment: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    type: ClassVar[str] = "error"
    code: str
    message: str
    hint: str
    final: bool
    context: str | None = None
    upload: str | None = None


ContextAnswer = Opened | SegmentStart | Words | Flushed | AudioEnd | Cancelled | Warned
ServerMessage = Begin | ContextAnswer | Failed | VoiceAnswer

CLIENT_MESSAGES: tuple[type[ClientMessage], ...] = (
    Open,
    TextDelta,
    Flush,
    End,
    Cancel,
    *VOICE_REQUESTS,
)
SERVER_MESSAGES: tuple[type[ServerMessage], ...] = (
    Begin,
    Opened,
    SegmentStart,
    Words,
    Flushed,
    AudioEnd,
    Cancelled,
    Warned,
    Failed,
    *VOICE_ANSWERS,
)


# --- audio ----------------------------------------------------------------------------------------


class AudioFormat(IntEnum):
    """The payload of an audio message; the value is the header's format byte."""

    OPUS = 1
    PCM_S16LE = 2

    @property
    def wire_name(self) -> str:
        return self.name.lower()


FORMATS: Mapping[str, AudioFormat] = {item.wire_name: item for item in AudioFormat}

_HEADER = struct.Struct("<BBHIII")
_HEADER_VERSION = 1
HEADER_BYTES = _HEADER.size


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioMessage:
    """20 ms of one context. `num_samples` is what remains without pre-skip and padding."""

    format: AudioFormat
    number: int
    sequence: int
    num_samples: int
    payload: bytes

    def to_bytes(self) -> bytes:
        header = _HEADER.pack(
            _HEADER_VERSION, self.format, 0, self.number, self.sequence, self.num_samples
        )
        return header + self.payload

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises `BadMessage` for anything that section 3 of docs/protocol.md does not describe."""
        if len(data) < HEADER_BYTES:
            raise BadMessage(f"an audio message has at least {HEADER_BYTES} bytes, not {len(data)}")
        version, format_byte, _reserved, number, sequence, num_samples = _HEADER.unpack_from(data)
        if version != _HEADER_VERSION or format_byte not in set(AudioFormat):
            raise BadMessage(f"audio header version {version}, format {format_byte} is not known")
        return cls(
            format=AudioFormat(format_byte),
            number=number,
            sequence=sequence,
            num_samples=num_samples,
            payload=data[HEADER_BYTES:],
        )


# --- text messages: out ---------------------------------------------------------------------------


def to_json(message: ClientMessage | ServerMessage) -> str:
    """One line of JSON. Fields that are None are left out."""
    body = {name: value for name, value in asdict(message).items() if value is not None}
    return json.dumps({"type": message.type, **body}, ensure_ascii=False, separators=(",", ":"))


# --- text messages: in ----------------------------------------------------------------------------


def parse_client_message(text: str) -> ClientMessage:
    """Strict: `BadJson`, `UnknownType` or `BadMessage` for what the document does not list."""
    body = _parse_object(text)
    message_type = body.pop("type", None)
    context = body.get("context")
    known_context = context if isinstance(context, str) and is_text(context) else None
    if not isinstance(message_type, str):
        raise BadMessage("the message has no type", context=known_context)
    parse = _CLIENT_PARSERS.get(message_type)
    if parse is None:
        shown = repr(message_type[:MAX_CONTEXT_NAME_CHARS])
        raise UnknownType(f"there is no message type {shown}", context=known_context)
    reader = FieldReader(message_type, body, context=known_context)
    message = parse(reader)
    reader.refuse_the_rest()
    return message


def parse_server_message(text: str) -> ServerMessage:
    """For clients: lenient about new fields. Raises `BadJson`, `UnknownType` or `BadMessage`."""
    body = _parse_object(text)
    message_type = body.pop("type", None)
    for cls in SERVER_MESSAGES:
        if cls.type == message_type:
            return _build(cls, body)
    raise UnknownType(f"there is no message type {message_type!r}")


def _build(cls: type[ServerMessage], body: dict[str, Any]) -> ServerMessage:
    known = {item.name for item in fields(cls)}
    values = {name: value for name, value in body.items() if name in known}
    try:
        if cls is Begin:
            for name in ("formats", "voices", "languages"):
                values[name] = tuple(values[name])
            values["tags"] = tuple(values.get("tags", ()))
            values["opus"] = OpusFacts(**_only(OpusFacts, values["opus"]))
            values["limits"] = Limits(**_only(Limits, values["limits"]))
            values["options"] = tuple(
                OptionSpec(**_only(OptionSpec, item)) for item in values["options"]
            )
            if values.get("cloning") is not None:
                values["cloning"] = CloningTerms(**_only(CloningTerms, values["cloning"]))
        if cls is Words:
            values["words"] = tuple(WordTime(**_only(WordTime, item)) for item in values["words"])
        if cls is Voices:
            values["voices"] = tuple(
                VoiceFacts(**_only(VoiceFacts, item)) for item in values["voices"]
            )
        return cls(**values)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadMessage(f"{cls.type}: {error}") from error


def _only(cls: type[Any], body: dict[str, Any]) -> dict[str, Any]:
    known = {item.name for item in fields(cls)}
    return {name: value for name, value in body.items() if name in known}


def _parse_object(text: str) -> dict[str, Any]:
    try:
        body = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadJson(f"not JSON: {str(error)[:200]}") from error
    if not isinstance(body, dict):
        raise BadJson("the message is JSON, but not an object")
    return body


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_INT32 = 2**31 - 1


def _parse_open(reader: FieldReader) -> Open:
    return Open(
        context=reader.context(),
        voice=reader.optional_text("voice"),
        format=reader.optional_text("format"),
        bitrate=reader.optional_integer("bitrate", minimum=1, maximum=_INT32),
        seed=reader.optional_integer("seed", minimum=0, maximum=MAX_SEED),
        language=reader.optional_text("language"),
        options=reader.numbers("options"),
        max_buffer_delay_ms=reader.optional_integer(
            "max_buffer_delay_ms", minimum=0, maximum=_INT32
        ),
        max_lead_ms=reader.optional_integer("max_lead_ms", minimum=0, maximum=_INT32),
        lexicon=reader.optional_texts("lexicon"),
    )


def _parse_text(reader: FieldReader) -> TextDelta:
    return TextDelta(context=reader.context(), text=reader.text("text"))


def _parse_flush(reader: FieldReader) -> Flush:
    return Flush(context=reader.context())


def _parse_end(reader: FieldReader) -> End:
    return End(context=reader.context())


def _parse_cancel(reader: FieldReader) -> Cancel:
    return Cancel(
        context=reader.context(), played_ms=reader.optional_number("played_ms", minimum=0)
    )


_CLIENT_PARSERS: Mapping[str, Callable[[FieldReader], ClientMessage]] = {
    Open.type: _parse_open,
    TextDelta.type: _parse_text,
    Flush.type: _parse_flush,
    End.type: _parse_end,
    Cancel.type: _parse_cancel,
    **VOICE_PARSERS,
}
