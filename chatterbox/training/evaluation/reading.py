"""Samples in; what a phonetician would plot of them out: mel, F0, level and silences. The same
tracker (Praat's autocorrelation) for whoever speaks.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from chatterbox.training.mel import HOP, SAMPLE_RATE, log_mel
from chatterbox.training.recogniser import Samples

STEP_S = 0.01
F0_RANGE_HZ = (75.0, 500.0)
SILENCE_DB = 35.0
"""This far below the loudest tenth of the speech, nobody speaks."""
_MIN_SAMPLES = SAMPLE_RATE // 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """One text as one voice read it."""

    samples: Samples

    @property
    def length_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    @cached_property
    def mel(self) -> NDArray[np.float32]:
        """[frames of 20 ms, 80], log."""
        enough = max(len(self.samples), _MIN_SAMPLES)
        padded = np.zeros(-(-enough // HOP) * HOP, np.float32)
        padded[: len(self.samples)] = self.samples
        return log_mel(padded)

    @cached_property
    def level_db(self) -> Floats:
        """RMS of every 10 ms."""
        block = round(STEP_S * SAMPLE_RATE)
        usable = self.samples[: len(self.samples) // block * block].reshape(-1, block)
        return 10 * np.log10(np.mean(usable.astype(np.float64) ** 2, axis=1) + 1e-12)

    @cached_property
    def silent(self) -> NDArray[np.bool_]:
        """Which 10 ms hold no speech."""
        level = self.level_db
        return level < np.percentile(level, 90) - SILENCE_DB

    @cached_property
    def semitones(self) -> Floats:
        """F0 of every 10 ms in semitones above 100 Hz; NaN where the voice does not vibrate."""
        import parselmouth

        f0 = np.full(len(self.level_db), np.nan)
        if len(self.samples) < _MIN_SAMPLES:
            return f0
        low, high = F0_RANGE_HZ
        sound = parselmouth.Sound(self.samples.astype(np.float64), SAMPLE_RATE)
        pitch = sound.to_pitch_ac(time_step=STEP_S, pitch_floor=low, pitch_ceiling=high)
        hz = np.asarray(pitch.selected_array["frequency"], np.float64)
        centres = (np.arange(len(f0)) + 0.5) * STEP_S
        nearest = np.round((centres - pitch.x1) / pitch.dx).astype(int)
        inside = (nearest >= 0) & (nearest < len(hz))
        taken = hz[np.clip(nearest, 0, len(hz) - 1)]
        voiced = inside & (taken > 0)
        f0[voiced] = 12 * np.log2(taken[voiced] / 100.0)
        return f0

    def at(self, track: Floats, times_s: Floats) -> Floats:
        """Values of a 10 ms track at these times; NaN outside."""
        index = np.floor(times_s / STEP_S).astype(int)
        inside = (index >= 0) & (index < len(track))
        return np.where(inside, track[np.clip(index, 0, len(track) - 1)], np.nan)

    def longest_silence_s(self, start_s: float, end_s: float) -> float:
        """Within a span of time."""
        first = max(0, round(start_s / STEP_S))
        part = self.silent[first : max(first, round(end_s / STEP_S))]
        edges = np.flatnonzero(np.diff(np.concatenate([[False], part, [False]]).astype(np.int8)))
        return STEP_S * float(max(edges[1::2] - edges[::2], default=0))
