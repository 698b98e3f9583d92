"""Segments in, one tone each out: the engine contract without a model and without torch.

It ships: it lets clients be written, and the daemon be tested and measured, on any machine. The
pitch is a hash of voice and seed, the length follows the text, and nothing depends on load.
"""

import re
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chatterbox.api import (
    SAMPLE_RATE,
    EngineEvent,
    EngineInfo,
    OptionSpec,
    PcmChunk,
    Segment,
    SlotIndex,
    SpokenWord,
    UnspeakableText,
    WordsTimed,
)

SAMPLES_PER_CHAR = SAMPLE_RATE // 15
"""Fifteen characters a second, a usual speaking rate."""
_AMPLITUDE = 0.25
_FADE_SAMPLES = SAMPLE_RATE // 200
_LOWEST_HZ = 110.0
_NUM_PITCHES = 37
_WORD = re.compile(r"\S*\w\S*")

_SPEED = OptionSpec(
    name="speed",
    default=1.0,
    minimum=0.5,
    maximum=2.0,
    description="How fast a tone passes; 2 makes it half as long.",
)


@dataclass(slots=True)
class _Tone:
    segment: Segment
    pitch_hz: float
    num_samples: int
    position: int = 0

    def take(self, num_samples: int) -> NDArray[np.float32]:
        """The next samples; a function of their position alone, so steps may have any size."""
        stop = min(self.position + num_samples, self.num_samples)
        index = np.arange(self.position, stop, dtype=np.float64)
        self.position = stop
        tone = np.sin(2 * np.pi * self.pitch_hz / SAMPLE_RATE * index)
        from_edge = np.minimum(index + 1, self.num_samples - index)
        faded = _AMPLITUDE * tone * np.minimum(1.0, from_edge / _FADE_SAMPLES)
        return faded.astype(np.float32)

    @property
    def is_finished(self) -> bool:
        return self.position >= self.num_samples

    def words(self) -> WordsTimed:
        """Every character sounds equally long."""
        text = self.segment.text
        return WordsTimed(
            segment_id=self.segment.id,
            words=tuple(
                SpokenWord(
                    start=found.start(),
                    end=found.end(),
                    start_sample=found.start() * self.num_samples // len(text),
                    end_sample=found.end() * self.num_samples // len(text),
                )
                for found in _WORD.finditer(text)
            ),
        )


class SineEngine:
    """`cost_s` is how long each step pretends to compute, whatever the number of slots."""

    def __init__(
        self,
        *,
        num_slots: int = 8,
        samples_per_step: int = SAMPLE_RATE // 5,
        cost_s: float = 0.0,
        samples_per_char: int = SAMPLES_PER_CHAR,
    ) -> None:
        if num_slots < 1 or samples_per_step < 1 or cost_s < 0 or samples_per_char < 1:
            raise ValueError("the engine needs slots, samples in a step and in a character")
        self._samples_per_step = samples_per_step
        self._samples_per_char = samples_per_char
        self._cost_s = cost_s
        self._tones: dict[SlotIndex, _Tone] = {}
        self._info = EngineInfo(
            model="sine",
            num_slots=num_slots,
            voices=("sine", "low"),
            default_voice="sine",
            languages=("en",),
            options=(_SPEED,),
            max_segment_chars=200,
            tags=("[laugh]", "[clear throat]"),
            word_times="exact",
        )

    @property
    def info(self) -> EngineInfo:
        return self._info

    def warm_up(self) -> None:
        """Nothing is lazy here."""

    def start(self, slot: SlotIndex, segment: Segment) -> list[EngineEvent]:
        assert 0 <= slot < self._info.num_slots, f"slot {slot} does not exist"
        assert slot not in self._tones, f"slot {slot} is busy"
        if not any(char.isalnum() for char in segment.text):
            raise UnspeakableText(f"nothing to say in {segment.text!r}")
        speed = segment.options.get(_SPEED.name, _SPEED.default)
        octave = 0.5 if segment.voice == "low" else 1.0
        step = zlib.crc32(f"{segment.voice}/{segment.seed}".encode()) % _NUM_PITCHES
        tone = self._tones[slot] = _Tone(
            segment=segment,
            pitch_hz=octave * _LOWEST_HZ * 2 ** (step / 12),
            num_samples=max(1, round(len(segment.text) * self._samples_per_char / speed)),
        )
        return [tone.words()]

    def step(self, slots: Sequence[SlotIndex]) -> list[EngineEvent]:
        if self._cost_s:
            time.sleep(self._cost_s)
        events: list[EngineEvent] = []
        for slot in slots:
            tone = self._tones[slot]
            assert not tone.is_finished, f"slot {slot} has finished and waits for release"
            samples = tone.take(self._samples_per_step)
            events.append(
                PcmChunk(segment_id=tone.segment.id, samples=samples, is_last=tone.is_finished)
            )
        return events

    def release(self, slot: SlotIndex) -> None:
        del self._tones[slot]
