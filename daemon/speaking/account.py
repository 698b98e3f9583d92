"""What happened to one context in, the summary that an operator wants of it out. Pure: times are
the caller's.
"""

from bisect import bisect_right
from dataclasses import dataclass
from enum import StrEnum

from daemon.speaking.playback import PlaybackClock

AUDIBLE_GAP_S = 0.02
"""A shorter wait for the next packet is hidden by any player's buffer."""
FAIR_NOTICE_S = 0.5
"""Text that comes later than this before the listener runs dry is late text, not a slow engine."""


class Outcome(StrEnum):
    COMPLETE = "complete"
    CANCELLED = "cancelled"
    BUSY = "busy"
    FAILED = "failed"
    GONE = "gone"
    """The session ended first: the client left or was closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceSummary:
    """One line of the log, and what the metrics count."""

    outcome: Outcome
    voice: str
    format: str
    num_chars: int
    num_segments: int
    num_failed_segments: int
    audio_s: float
    first_audio_s: float | None
    """From the first text to the first packet handed to the socket; None if there was none."""
    num_underruns: int
    """Times that the listener ran dry while the engine owed audio."""
    underrun_s: float
    num_late_texts: int
    """Times that the listener ran dry because the text was late."""

    def fields(self) -> dict[str, object]:
        """For a log line; whole milliseconds, and nothing of what is empty or zero."""
        values = {
            "voice": self.voice,
            "format": self.format,
            "chars": self.num_chars,
            "segments": self.num_segments,
            "failed_segments": self.num_failed_segments,
            "audio_ms": round(1000 * self.audio_s),
            "first_audio_ms": (
                None if self.first_audio_s is None else round(1000 * self.first_audio_s)
            ),
            "underruns": self.num_underruns,
            "underrun_ms": round(1000 * self.underrun_s),
            "late_texts": self.num_late_texts,
        }
        return {name: value for name, value in values.items() if value}


class Account:
    """One context's. `note_…` is called as things happen; `close` once."""

    def __init__(self, *, voice: str, audio_format: str) -> None:
        self._voice = voice
        self._format = audio_format
        self._num_chars = 0
        self._num_failed_segments = 0
        self._first_text_s: float | None = None
        self._first_audio_s: float | None = None
        self._posted_s: list[float] = []
        self._starts: list[int] = []
        """Where each segment that has begun starts, in samples."""
        self._begun: list[int] = []
        """Their indices: a segment that failed never begins."""
        self._num_sent = 0
        self._num_dry = 0
        self._num_underruns = 0
        self._underrun_s = 0.0
        self._num_late_texts = 0

    def note_text(self, num_chars: int, *, now_s: float) -> None:
        if self._first_text_s is None and num_chars:
            self._first_text_s = now_s
        self._num_chars += num_chars

    def note_segments(self, num_segments: int, *, now_s: float) -> None:
        """So many more segments went to the engine."""
        self._posted_s += [now_s] * num_segments

    def note_failed_segment(self) -> None:
        self._num_failed_segments += 1

    def note_begun(self, *, segment: int, sample: int) -> None:
        self._starts.append(sample)
        self._begun.append(segment)

    def note_sent(self, clock: PlaybackClock, *, now_s: float) -> None:
        """Something left for the listener whose clock this is."""
        if self._first_audio_s is None and clock.num_sent:
            self._first_audio_s = now_s
        if clock.num_dry > self._num_dry:
            self._num_dry = clock.num_dry
            self._note_gap(clock, now_s=now_s)
        self._num_sent = clock.num_sent

    def _note_gap(self, clock: PlaybackClock, *, now_s: float) -> None:
        gap_s = clock.last_gap_s
        if gap_s < AUDIBLE_GAP_S:
            return
        position = bisect_right(self._starts, clock.num_sent - 1) - 1
        begins = self._starts[position] >= self._num_sent if self._starts else False
        if begins and self._posted_s[self._begun[position]] > now_s - gap_s - FAIR_NOTICE_S:
            self._num_late_texts += 1
        else:
            self._num_underruns += 1
            self._underrun_s += gap_s

    def close(self, outcome: Outcome, *, audio_s: float) -> UtteranceSummary:
        first_audio_s = None
        if self._first_audio_s is not None and self._first_text_s is not None:
            first_audio_s = self._first_audio_s - self._first_text_s
        return UtteranceSummary(
            outcome=outcome,
            voice=self._voice,
            format=self._format,
            num_chars=self._num_chars,
            num_segments=len(self._posted_s),
            num_failed_segments=self._num_failed_segments,
            audio_s=audio_s,
            first_audio_s=first_audio_s,
            num_underruns=self._num_underruns,
            underrun_s=self._underrun_s,
            num_late_texts=self._num_late_texts,
        )
