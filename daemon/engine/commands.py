"""What the event loop tells the engine's side: frozen values, because they cross to its thread."""

from dataclasses import dataclass

from chatterbox.api import Segment
from daemon.engine.scheduler import UtteranceId


@dataclass(frozen=True, slots=True)
class OpenUtterance:
    utterance_id: UtteranceId
    max_lead_s: float
    client: int | None = None
    """Who asked for it, so that one client with many utterances cannot delay others'."""
    voice: str | None = None
    """What it speaks with: not given up before it is closed."""


@dataclass(frozen=True, slots=True)
class Speak:
    """The next segment of an utterance."""

    utterance_id: UtteranceId
    segment: Segment


@dataclass(frozen=True, slots=True)
class SetOrigin:
    """When the utterance's first sample would have played, had it no pauses and never been dry."""

    utterance_id: UtteranceId
    origin_s: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Begin no more segments, or go on, for an utterance whose packets do not get out; what has
    begun is finished."""

    utterance_id: UtteranceId
    is_held: bool


@dataclass(frozen=True, slots=True)
class CloseUtterance:
    """Cancelled or complete: forget it, and free its slots before the next step."""

    utterance_id: UtteranceId


@dataclass(frozen=True, slots=True)
class RemoveVoice:
    """Give up a voice that was added, once nobody speaks with it."""

    name: str


Command = OpenUtterance | Speak | SetOrigin | Hold | CloseUtterance | RemoveVoice
