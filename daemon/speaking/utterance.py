"""Text deltas and engine events in, segments to speak and ordered outputs out. No I/O and no clock.

One utterance is what the wire calls a context. It cuts its text, puts the audio of its segments in
order (a later segment may be generated early), inserts the pauses, and knows which text was spoken.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from chatterbox.api import (
    EngineEvent,
    Lexicon,
    PcmChunk,
    Segment,
    SegmentFailed,
    SegmentId,
    SegmentWarning,
    WordsTimed,
    WordTimes,
)
from daemon.speaking.markup import Break, Markup
from daemon.speaking.outputs import (
    FlushReached,
    Samples,
    SegmentBegun,
    SegmentTrouble,
    UtteranceEnded,
    UtteranceOutput,
)
from daemon.speaking.part import TAIL_MS, Part, samples_of
from daemon.speaking.segmenter import Piece, Segmenter
from daemon.speaking.word_estimate import Paces, WordEstimate
from daemon.wire.errors import TextAfterEnd, TextTooLong

_NUM_SEEDS = 2**31
_LONGEST_BREAK_MS = 10_000
_MOST_WARNINGS = 10
"""About the text of one utterance; who gets so many has stopped reading them."""
_BREAK_STEP_MS = 200
"""A long silence leaves in pieces, so that a short lead stays short."""


class IllegalTransition(Exception):
    """A move that the life of an utterance does not have."""


class UtteranceState(Enum):
    OPEN = auto()  # text may still arrive
    DRAINING = auto()  # text is complete, audio is still being made
    DONE = auto()  # all audio was given out; it may still be on its way to the listener
    CANCELLED = auto()


_NEXT: Mapping[UtteranceState, frozenset[UtteranceState]] = {
    UtteranceState.OPEN: frozenset({UtteranceState.DRAINING, UtteranceState.CANCELLED}),
    UtteranceState.DRAINING: frozenset({UtteranceState.DONE, UtteranceState.CANCELLED}),
    UtteranceState.DONE: frozenset({UtteranceState.CANCELLED}),
    UtteranceState.CANCELLED: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSettings:
    """What holds for every segment of an utterance."""

    voice: str
    seed: int
    options: Mapping[str, float]
    language: str | None = None
    watermark: bool = False
    lexicons: tuple[Lexicon, ...] = ()


@dataclass(slots=True)
class _Mark:
    """What lies between two segments: a flush, or a pause that the text asks for."""

    num_parts: int
    """So many segments come before it."""
    end: int
    """Its character position in the text."""
    break_samples: int | None = None
    """None: it is a flush."""
    end_sample: int | None = None
    """Of a pause that was given out."""


class Utterance:
    """The life of one context. Methods are named after what happens to it."""

    def __init__(
        self,
        *,
        settings: SpeechSettings,
        segmenter: Segmenter,
        next_segment_id: Callable[[], SegmentId],
        max_text_chars: int,
        word_times: WordTimes = "estimated",
        paces: Paces | None = None,
        max_break_ms: int = _LONGEST_BREAK_MS,
    ) -> None:
        """`max_break_ms`: the most silence that the text may ask for in one place."""
        self.state = UtteranceState.OPEN
        self._settings = settings
        self._segmenter = segmenter
        self._next_segment_id = next_segment_id
        self._max_text_chars = max_text_chars
        self._word_times = word_times
        self._paces = paces or Paces()
        self._text: list[str] = []
        self._num_chars = 0
        self._parts: list[Part] = []
        self._part_of_segment: dict[SegmentId, Part] = {}
        self._head = 0  # the part whose audio may leave now
        self._num_samples = 0
        self._is_complete = False
        self._markup = Markup()
        self._max_break_ms = max_break_ms
        self._break_ms_here = 0  # asked for since the last segment
        self._marks: list[_Mark] = []
        self._num_marks_passed = 0
        self._num_flushes_reached = 0
        self._gap_asked = 0  # samples of silence since the last sound, and of them given out
        self._gap_given = 0
        self._troubles: list[SegmentTrouble] = []
        self._num_warnings = 0

    # --- text in ----------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def has_pending_text(self) -> bool:
        """Whether text waits for more text before it is spoken."""
        return bool(self._segmenter.pending)

    def add_text(self, delta: str) -> list[Segment]:
        self._require_open()
        if self._num_chars + len(delta) > self._max_text_chars:
            raise TextTooLong(
                f"{self._num_chars} + {len(delta)} characters are more than {self._max_text_chars}"
            )
        self._text.append(delta)
        self._num_chars += len(delta)
        return self._read(self._markup.push(delta))

    def flush(self) -> list[Segment]:
        """Speak all text so far; `FlushReached` will say when its audio has left."""
        self._require_open()
        segments = self._add_pieces(self._segmenter.flush())
        self._marks.append(_Mark(num_parts=len(self._parts), end=self._num_chars))
        return segments

    def flush_complete_words(self) -> list[Segment]:
        """The writer stalls: speak what is there, but for a word that may go on."""
        if self.state is not UtteranceState.OPEN:
            return []
        return self._add_pieces(self._segmenter.flush(complete_words_only=True))

    def end(self) -> list[Segment]:
        """No more text follows. Call `advance` afterwards: there may be nothing to wait for."""
        self._require_open()
        segments = self._read(self._markup.finish())
        segments += self._add_pieces(self._segmenter.flush())
        self._move_to(UtteranceState.DRAINING)
        return segments

    def cancel(self) -> None:
        self._move_to(UtteranceState.CANCELLED)
        for part in self._parts:
            part.held_back.clear()

    def _require_open(self) -> None:
        if self.state is not UtteranceState.OPEN:
            raise TextAfterEnd("the context has had its end")

    def _move_to(self, state: UtteranceState) -> None:
        if state not in _NEXT[self.state]:
            raise IllegalTransition(f"{self.state.name} -> {state.name}")
        self.state = state

    def _read(self, found: list[str | Break]) -> list[Segment]:
        segments = []
        for item in found:
            if isinstance(item, str):
                segments += self._add_pieces(self._segmenter.push(item))
            else:
                segments += self._add_pieces(self._segmenter.pass_over(item.num_chars))
                self._add_break(item)
        return segments

    def _add_break(self, wanted: Break) -> None:
        if wanted.duration_ms is None:
            self._warn("bad_break", f"left out, as it is not understood: {wanted.tag!r}")
            return
        duration_ms = min(wanted.duration_ms, self._max_break_ms - self._break_ms_here)
        if duration_ms < wanted.duration_ms and self._break_ms_here < self._max_break_ms:
            self._warn(
                "break_shortened",
                f"a pause is at most {self._max_break_ms} ms: {wanted.tag!r}",
            )
        self._break_ms_here += duration_ms
        if self._parts:
            self._parts[-1].is_before_break = True
        self._marks.append(
            _Mark(
                num_parts=len(self._parts),
                end=self._segmenter.num_chars,
                break_samples=samples_of(duration_ms),
            )
        )

    def _warn(self, code: str, message: str) -> None:
        self._num_warnings += 1
        if self._num_warnings > _MOST_WARNINGS:
            return
        self._troubles.append(
            SegmentTrouble(index=None, code=code, message=message, is_failure=False)
        )

    def _add_pieces(self, pieces: list[Piece]) -> list[Segment]:
        segments = []
        if any(char.isalnum() for piece in pieces for char in piece.text):
            self._break_ms_here = 0
        for piece in pieces:
            estimate = WordEstimate(piece.text) if self._word_times == "estimated" else None
            part = Part(index=len(self._parts), piece=piece, estimate=estimate)
            segment = Segment(
                id=self._next_segment_id(),
                text=piece.text,
                voice=self._settings.voice,
                seed=(self._settings.seed + part.index) % _NUM_SEEDS,
                language=self._settings.language,
                options=self._settings.options,
                watermark=self._settings.watermark,
                lexicons=self._settings.lexicons,
            )
            self._parts.append(part)
            self._part_of_segment[segment.id] = part
            segments.append(segment)
        return segments

    # --- audio out -----------------------------------------------------------------------------

    def take(self, event: EngineEvent) -> list[UtteranceOutput]:
        """News of one of this utterance's segments → what can leave now, in order."""
        part = self._part_of_segment[event.segment_id]
        outputs: list[UtteranceOutput] = []
        match event:
            case PcmChunk():
                if event.samples.size:
                    part.held_back.append(event.samples)
                part.is_ended = event.is_last
            case WordsTimed():
                part.waiting_words += event.words
            case SegmentWarning():
                outputs.append(
                    SegmentTrouble(
                        index=part.index, code=event.code, message=event.message, is_failure=False
                    )
                )
            case SegmentFailed():
                part.fail()
                outputs.append(
                    SegmentTrouble(
                        index=part.index, code="failed", message=event.message, is_failure=True
                    )
                )
        return outputs + self.advance()

    def advance(self) -> list[UtteranceOutput]:
        """What can leave now, in order; also after text, flush or end, which may allow a pause."""
        if self.state not in (UtteranceState.OPEN, UtteranceState.DRAINING):
            return []
        outputs: list[UtteranceOutput] = [*self._troubles]
        self._troubles.clear()
        outputs += self._pass_marks(num_parts=0)
        while self._head < len(self._parts):
            part = self._parts[self._head]
            outputs += self._release(part)
            if not part.is_ended:
                break
            if not part.has_tail:
                part.has_tail = True
                if part.estimate is not None and part.num_samples:
                    settings, text = self._settings, part.piece.text
                    self._paces.note(settings.voice, settings.language, text, part.num_samples)
                if part.num_samples:  # what has no sound does not end the silence before it
                    self._gap_asked, self._gap_given = 0, samples_of(TAIL_MS)
                    outputs += self._silence(self._gap_given)
            outputs += self._pass_marks(num_parts=self._head + 1)
            if self._head + 1 == len(self._parts):
                break
            outputs += self._silence(part.later_pause_samples)
            self._gap_given += part.later_pause_samples
            self._head += 1
        return outputs + self._end_if_all_left()

    def _release(self, part: Part) -> list[UtteranceOutput]:
        outputs: list[UtteranceOutput] = []
        if part.held_back and part.start_sample is None:
            part.start_sample = self._num_samples
            outputs.append(
                SegmentBegun(index=part.index, piece=part.piece, sample=self._num_samples)
            )
        pace = self._paces.of(self._settings.voice, self._settings.language)
        while part.held_back:
            samples = part.held_back[0]
            outputs += part.take_words(part.num_samples + samples.size, pace=pace)
            outputs.append(Samples(samples=samples))
            del part.held_back[0]
            part.num_samples += samples.size
            self._num_samples += samples.size
        if part.is_ended and part.start_sample is not None:
            outputs += part.take_words(part.num_samples, pace=pace)
        return outputs

    def _silence(self, num_samples: int) -> list[UtteranceOutput]:
        if not num_samples:
            return []
        self._num_samples += num_samples
        return [Samples(samples=np.zeros(num_samples, dtype=np.float32), is_pause=True)]

    def _pass_marks(self, *, num_parts: int) -> list[UtteranceOutput]:
        """The flushes that are reached and the pauses that are due after so many segments."""
        outputs: list[UtteranceOutput] = []
        for mark in self._marks[self._num_marks_passed :]:
            if mark.num_parts > num_parts:
                break
            self._num_marks_passed += 1
            if mark.break_samples is None:
                self._num_flushes_reached += 1
                number = self._num_flushes_reached
                outputs.append(FlushReached(number=number, end=mark.end, sample=self._num_samples))
            else:
                outputs += self._keep_silent(mark.break_samples)
                mark.end_sample = self._num_samples
        return outputs

    def _keep_silent(self, num_samples: int) -> list[UtteranceOutput]:
        """A pause that the text asks for; the tail that was given is part of it."""
        most = samples_of(self._max_break_ms)
        self._gap_asked = min(self._gap_asked + num_samples, most)
        missing = max(0, self._gap_asked - self._gap_given)
        self._gap_given += missing
        step = samples_of(_BREAK_STEP_MS)
        sizes = [step] * (missing // step) + [missing % step]
        return [output for size in sizes for output in self._silence(size)]

    def _end_if_all_left(self) -> list[UtteranceOutput]:
        outputs: list[UtteranceOutput] = []
        if self.state is UtteranceState.DRAINING and all(
            part.is_ended for part in self._parts[self._head :]
        ):
            self._move_to(UtteranceState.DONE)
            self._is_complete = True
            num_segments = sum(part.start_sample is not None for part in self._parts)
            outputs.append(
                UtteranceEnded(
                    num_samples=self._num_samples,
                    num_segments=num_segments,
                    num_chars=self._num_chars,
                )
            )
        return outputs

    # --- what was spoken --------------------------------------------------------------------------

    def num_chars_spoken(self, played_samples: float) -> int:
        """How much of the text is in the first `played_samples` samples, in whole words."""
        if self._is_complete and played_samples >= self._num_samples:
            return self._num_chars
        pauses = [
            mark.end
            for mark in self._marks[: self._num_marks_passed]
            if mark.end_sample is not None and mark.end_sample <= played_samples
        ]
        return max([self._num_chars_in_words(played_samples), *pauses[-1:]])

    def _num_chars_in_words(self, played_samples: float) -> int:
        begun = [
            part
            for part in self._parts
            if part.start_sample is not None and part.start_sample < played_samples
        ]
        if not begun:
            return 0
        last = begun[-1]
        assert last.start_sample is not None
        is_whole = last.is_ended and not last.has_failed
        if is_whole and played_samples >= last.start_sample + last.num_samples:
            return last.piece.end
        heard = [word.end for word in last.words if word.end_sample <= played_samples]
        return heard[-1] if heard else last.piece.start
