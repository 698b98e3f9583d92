"""Samples of one segment in, the same without silence at its ends out, starting and ending at
level zero. numpy only.

What counts is the first audible sample: leading silence goes, but for a short pre-roll. Silence
inside the speech stays; it is held until sound follows, because only then is it known to be inside.
"""

import numpy as np
from numpy.typing import NDArray

from chatterbox.api import SAMPLE_RATE

BLOCK = SAMPLE_RATE // 200
"""Samples of the 5 ms blocks whose level decides."""
THRESHOLD = 10 ** (-50 / 20)
"""RMS below which a block is silent: −50 dB of full scale."""
PRE_ROLL_BLOCKS = 3
TAIL_BLOCKS = 8

Samples = NDArray[np.float32]
_NOTHING: Samples = np.zeros(0, dtype=np.float32)


class SilenceTrimmer:
    """Push the samples of one segment, multiples of 5 ms; `finish` once at the end."""

    def __init__(self) -> None:
        self._started = False
        self._held = _NOTHING
        self.num_dropped = 0
        """Samples before the first that was given; 0 until there is one."""
        self.num_given = 0

    @property
    def held_s(self) -> float:
        """Silence since the last sound, or since the beginning."""
        return len(self._held) / SAMPLE_RATE

    def push(self, samples: Samples) -> Samples:
        """Everything up to the last audible block; later silence is held."""
        if len(samples) % BLOCK:
            raise ValueError(f"{len(samples)} samples are not a multiple of {BLOCK}")
        level = np.sqrt(np.mean(np.square(samples.reshape(-1, BLOCK)), axis=1))
        audible = np.flatnonzero(level > THRESHOLD)
        if not audible.size:
            self._held = np.concatenate([self._held, samples])
            return _NOTHING
        end = (int(audible[-1]) + 1) * BLOCK
        spoken = samples[:end]
        if self._started:
            spoken = np.concatenate([self._held, spoken])
        else:
            before = np.concatenate([self._held, samples[: int(audible[0]) * BLOCK]])
            pre_roll = before[max(0, len(before) - PRE_ROLL_BLOCKS * BLOCK) :]
            self.num_dropped = len(before) - len(pre_roll)
            spoken = np.concatenate([_faded_in(pre_roll), samples[int(audible[0]) * BLOCK : end]])
        self._started = True
        self._held = samples[end:]
        self.num_given += len(spoken)
        return spoken

    def finish(self) -> Samples:
        """A short faded tail; nothing if there was no sound at all."""
        tail = self._held[: TAIL_BLOCKS * BLOCK] if self._started else _NOTHING
        self._held = _NOTHING
        self.num_given += len(tail)
        return _faded_in(tail[::-1])[::-1] if len(tail) else _NOTHING


def _faded_in(samples: Samples) -> Samples:
    """Raised cosine from 0 to 1 over all of the samples."""
    ramp = 0.5 - 0.5 * np.cos(
        np.pi * np.arange(len(samples), dtype=np.float32) / max(1, len(samples))
    )
    return (samples * ramp).astype(np.float32)
