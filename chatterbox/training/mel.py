"""24 kHz waveform in, 80-band log mel at 50 frames per second out: the definition that S3Gen was
made with, on numpy.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from chatterbox.conditioning.mel import slaney_filters

SAMPLE_RATE = 24_000
HOP = 480
N_FFT = 1920
NUM_MELS = 80


def filterbank() -> NDArray[np.float32]:
    """[80, 961], 0 to 8 kHz."""
    return slaney_filters(SAMPLE_RATE, N_FFT, NUM_MELS)


@cache
def _hann() -> NDArray[np.float32]:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)


def log_mel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """[num_samples], a multiple of 480 -> [num_samples / 480, 80]."""
    padded = np.pad(samples, (N_FFT - HOP) // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP] * _hann()
    spectrum = np.fft.rfft(windows, axis=1)
    magnitude = np.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-9).astype(np.float32)
    mel = magnitude @ filterbank().T
    return np.log(np.maximum(mel, 1e-5))
