"""24 kHz in, 16 kHz out, in the two ways that the models were trained with.

They differ by far more than rounding: the tokens of the flow's prompt come from one, the voice
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
    samples: NDArray[np.float32] = wave.numpy()
    resampled = soxr.resample(samples, SAMPLE_RATE, LOW_RATE, quality="HQ")
    length = -(-len(samples) * LOW_RATE // SAMPLE_RATE)
    fixed = np.zeros(length, np.float32)
    kept = min(length, len(resampled))
    fixed[:kept] = resampled[:kept]
    return torch.from_numpy(fixed)
