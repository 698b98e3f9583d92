"""The contract between the daemon and a speech engine: segments in, PCM out. Standard library and
numpy only.

Knows nothing of sockets, sessions, torch or any particular model. Everybody may import this file;
it imports nobody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NewType, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 24_000
"""Samples per second of every `PcmChunk`."""

_TAG_NAMES: Final = (
    "angry, fear, surprised, whispering, advertisement, dramatic, narration, crying, happy,"
    " sarcastic, clear throat, sigh, shush, cough, groan, sniff, gasp, chuckle, laugh"
)
TAGS: Final = tuple(f"[{name}]" for name in _TAG_NAMES.split(", "))
"""What a text may ask of models of this family in brackets. A model lists those that it knows in
`EngineInfo.tags`, and leaves the others out.
"""

SlotIndex = NewType("SlotIndex", int)
"""One row of the engine's batch, 0 ≤ index < `EngineInfo.num_slots`."""

SegmentId = NewType("SegmentId", int)
"""Names one generation. Slots are reused; segment ids never are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpec:
    """One generation option that the loaded model honours, with the range a client may ask for."""

    name: str
    default: float
    minimum: float
    maximum: float
    description: str


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Lexicon:
    """How some words are said. Compared by identity, so that a front end can keep what it made of
    one.
    """

    entries: Mapping[str, str]
    """Words as written → other words to read instead, or /phonemes/ of `EngineInfo.phonemes`."""


def phonemes_of(said: str) -> str | None:
    """What an entry of a lexicon has between slashes; None if it says how else to write a word."""
    is_spelled = len(said) > 2 and said.startswith("/") and said.endswith("/")
    return said[1:-1] if is_spelled else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The text of one generation, cut where a speaker could pause."""

    id: SegmentId
    text: str
    voice: str
    seed: int = 0
    language: str | None = None
    """One of `EngineInfo.languages`; None is the first."""
    options: Mapping[str, float] = field(default_factory=dict)
    """Values for names in `EngineInfo.options`; what is absent takes its default."""
    watermark: bool = False
    """Mark its audio as synthetic, if the engine was built to."""
    lexicons: tuple[Lexicon, ...] = ()
    """Of two that know a word, the first one counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PcmChunk:
    """Consecutive samples of one segment, silence around the speech already trimmed."""

    segment_id: SegmentId
    samples: NDArray[np.float32]
    """[num_samples] in [-1, 1]; may be empty, notably when only `is_last` is news."""
    is_last: bool
    """No more audio of this segment follows; its slot waits for `release`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentWarning:
    """The segment goes on, but a client should know: words were skipped, a runaway was cut, …"""

    segment_id: SegmentId
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFailed:
    """The segment ended without (all of) its audio; its slot waits for `release`. Others are
    untouched.
    """

    segment_id: SegmentId
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenWord:
    """Characters `start` up to `end` of `Segment.text`, heard from `start_sample` to `end_sample`
    of the segment's audio as emitted: after trimming, before any pause.
    """

    start: int
    end: int
    start_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WordsTimed:
    """The next words of a segment, in the order of the text; times never go backwards. A word comes
    before the chunk that goes past its end, the last one at the latest before the last chunk.
    """

    segment_id: SegmentId
    words: tuple[SpokenWord, ...]


EngineEvent = PcmChunk | SegmentWarning | SegmentFailed | WordsTimed

WordTimes = Literal["exact", "estimated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What the daemon tells clients about the loaded model."""

    model: str
    num_slots: int
    voices: Sequence[str]
    default_voice: str
    languages: Sequence[str]
    options: Sequence[OptionSpec]
    max_segment_chars: int
    """Longest text of one segment; the segmenter cuts below it."""
    max_segment_chars_of: Mapping[str, int] = field(default_factory=dict)
    """Languages whose characters take longer to say than letters, with their lower limit."""
    tags: Sequence[str] = ()
    """Those of `TAGS` that this model knows; the others are left out."""
    phonemes: str = ""
    """The characters of /phonemes/ in a `Lexicon`; empty: this model takes words alone."""
    word_times: WordTimes = "estimated"
    """Exact: the engine sends `WordsTimed` for every segment. Estimated: it sends none."""
    can_clone: bool = False
    """The checkpoint holds the models that listen to a clip, so voices can be made for it; the
    engine is then a `CloningEngine`.
    """
    can_mark: bool = False
    """Segments may ask for the watermark."""
    gpu: str | None = None
    """The name that NVIDIA's tools know the GPU by (GPU-…); None on a processor."""

    def longest_segment(self, language: str) -> int:
        """Characters of a segment whose speech one generation is sure to hold."""
        return min(
            self.max_segment_chars,
            self.max_segment_chars_of.get(language, self.max_segment_chars),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStats:
    """What one stage of an engine has done since it was last asked."""

    name: str
    seconds: Sequence[float]
    """How long each run took on the device; of the last few thousand."""
    replays: Mapping[tuple[int, int], int]
    """(rows, size) of each captured shape → how often it was replayed."""
    eager_runs: int
    """Runs that were not captured: all of them on a processor, none on a GPU that is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """What an engine has done since it was last asked, and what it holds."""

    speech_tokens: int
    stages: Sequence[StageStats]
    device_bytes: int
    """Memory of the GPU that this process holds; 0 on a processor."""


class SpeechEngine(Protocol):
    """Advances every active slot by one step. Owned by one thread; no method may be called from
    another.

    A slot is free, or busy from `start` until `release`. `release` is legal at any time on a busy
    slot and frees it at once, finished or not. An exception out of `start` concerns that segment
    alone and leaves the slot free; an exception out of `step` means that the engine as a whole is
    broken.
    """

    @property
    def info(self) -> EngineInfo: ...

    def warm_up(self) -> None:
        """Do everything that the first request should not wait for. Called once, before any
        `start`.
        """

    def start(self, slot: SlotIndex, segment: Segment) -> list[EngineEvent]:
        """Occupy a free slot. Returns warnings about the text, and times of words that are known
        so early; raises `UnspeakableText` if nothing can be said.
        """

    def step(self, slots: Sequence[SlotIndex]) -> list[EngineEvent]:
        """Advance these busy, unfinished slots by one step; the others are left bit for bit alone
        (paused).
        """

    def release(self, slot: SlotIndex) -> None:
        """Free a busy slot."""


@runtime_checkable
class MeasuredEngine(Protocol):
    """An engine that can say what it has done. Not every one can."""

    def take_stats(self) -> EngineStats | None:
        """Since the last call; on the engine's thread."""


@runtime_checkable
class CloningEngine(Protocol):
    """An engine that takes over voices, and gives them up, while it speaks. Owned by the engine's
    thread, as everything of it.
    """

    def add_voice(self, name: str, path: Path) -> None:
        """From now on segments may ask for this voice, made of a clip for this model. Raises
        `VoiceUnfit`, and then nothing has changed.
        """

    def remove_voice(self, name: str) -> None:
        """Forget a voice that was added, and that no busy slot speaks with."""


class VoiceUnfit(ValueError):
    """The file holds no voice that this model can speak with; the text says why."""


class UnspeakableText(ValueError):
    """The segment holds nothing that this model can say (only emoji, say). The text of the error
    is for the client.
    """
