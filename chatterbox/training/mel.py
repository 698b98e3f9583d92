"""24 kHz waveform in, 80-band log mel at 50 frames per second out: the definition that S3Gen was
made with. numpy only.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 24_000
HOP = 480
N_FFT = 1920
NUM_MELS = 80
MAX_HZ = 8000.0
_LINEAR_HZ = 200.0 / 3.0
_LOG_START_HZ = 1000.0
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's scale: linear below 1 kHz, logarithmic above."""
    log_part = _LOG_START_HZ / _LINEAR_HZ + np.log(np.maximum(hz, 1e-9) / _LOG_START_HZ) / _LOG_STEP
    return np.where(hz < _LOG_START_HZ, hz / _LINEAR_HZ, log_part)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    start = _LOG_START_HZ / _LINEAR_HZ
    return np.where(
        mel < start, mel * _LINEAR_HZ, _LOG_START_HZ * np.exp(_LOG_STEP * (mel - start))
    )


@cache
def filterbank() -> NDArray[np.float32]:
    """[80, 961] triangles of equal area (Slaney's normalisation), 0 to 8 kHz."""
    top = _hz_to_mel(np.array([MAX_HZ]))[0]
    edges = _mel_to_hz(np.linspace(0.0, top, NUM_MELS + 2))
    bins = np.linspace(0.0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    rising = (bins[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins[None]) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


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
