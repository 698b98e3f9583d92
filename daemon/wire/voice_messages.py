"""Fields of a client's message about voices in, typed messages out; and the daemon's answers. Part
of `daemon/wire/protocol.py`, section 6 of docs/protocol.md. Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from daemon.wire.fields import FieldReader

_MAX_BYTES = 2**31 - 1
WAITING, MAKING = "waiting", "making"
"""The states of `voice_progress`."""


# --- client → daemon ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceUpload:
    """A clip of `bytes` bytes follows in binary messages, once it is accepted."""

    type: ClassVar[str] = "voice_upload"
    upload: str
    name: str
    bytes: int
    consent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceList:
    type: ClassVar[str] = "voice_list"


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceDelete:
    type: ClassVar[str] = "voice_delete"
    voice: str


VoiceRequest = VoiceUpload | VoiceList | VoiceDelete


# --- daemon → client ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CloningTerms:
    """In `begin`, of a session that may upload clips."""

    clip_bytes: int
    voices: int
    lifetime_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceAccepted:
    type: ClassVar[str] = "voice_accepted"
    upload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceProgress:
    type: ClassVar[str] = "voice_progress"
    upload: str
    state: str
    ahead: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceReady:
    type: ClassVar[str] = "voice_ready"
    upload: str
    voice: str
    name: str
    seconds: float
    warnings: Sequence[str]
    expires_in_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceFacts:
    """One entry of `voices`."""

    voice: str
    name: str
    seconds: float
    expires_in_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Voices:
    type: ClassVar[str] = "voices"
    voices: Sequence[VoiceFacts]


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceDeleted:
    type: ClassVar[str] = "voice_deleted"
    voice: str


VoiceAnswer = VoiceAccepted | VoiceProgress | VoiceReady | Voices | VoiceDeleted

VOICE_REQUESTS: tuple[type[VoiceRequest], ...] = (VoiceUpload, VoiceList, VoiceDelete)
VOICE_ANSWERS: tuple[type[VoiceAnswer], ...] = (
    VoiceAccepted,
    VoiceProgress,
    VoiceReady,
    Voices,
    VoiceDeleted,
)


# --- in -------------------------------------------------------------------------------------------


def _parse_upload(reader: FieldReader) -> VoiceUpload:
    return VoiceUpload(
        upload=reader.upload(),
        name=reader.name("name"),
        bytes=reader.integer("bytes", minimum=1, maximum=_MAX_BYTES),
        consent=reader.flag("consent"),
    )


def _parse_list(_reader: FieldReader) -> VoiceList:
    return VoiceList()


def _parse_delete(reader: FieldReader) -> VoiceDelete:
    return VoiceDelete(voice=reader.text("voice"))


VOICE_PARSERS: Mapping[str, Callable[[FieldReader], VoiceRequest]] = {
    VoiceUpload.type: _parse_upload,
    VoiceList.type: _parse_list,
    VoiceDelete.type: _parse_delete,
}
