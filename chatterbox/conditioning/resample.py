"""The rate of a file → 24 kHz → 16 kHz, the latter in the two ways that the models were trained
with.

These two differ by far more than rounding: the tokens of the flow's prompt come from one, the voice
encoder and T3's prompt from the other.
"""

import numpy as np
import soxr
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor

from chatterbox.api import SAMPLE_RATE
from chatterbox.conditioning.mel import LOW_RATE


def resample_for_flow(wave: Tensor) -> Tensor:
    """Windowed sinc: [batch, samples] at 24 kHz → 16 kHz."""
    resampled: Tensor = torchaudio.functional.resample(wave, SAMPLE_RATE, LOW_RATE)
    return resampled


def resample_for_tokens(wave: Tensor) -> Tensor:
    """soxr's high quality: [samples] at 24 kHz → 16 kHz, of ⌈2/3⌉ the length."""
    return torch.from_numpy(_soxr(wave.numpy(), SAMPLE_RATE, LOW_RATE))


def resample_clip(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """soxr's high quality: [samples] of a file → 24 kHz, as the reference reads a file."""
    return samples if rate == SAMPLE_RATE else _soxr(samples, rate, SAMPLE_RATE)


def _soxr(samples: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    resampled = soxr.resample(samples, rate, wanted, quality="HQ")
    length = -(-len(samples) * wanted // rate)
    fixed = np.zeros(length, np.float32)
    kept = min(length, len(resampled))
    fixed[:kept] = resampled[:kept]
    return fixed
