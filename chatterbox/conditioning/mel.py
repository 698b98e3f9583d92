"""Waveforms in, the three mel spectrograms that a voice is computed from out.

Each model was trained on its own kind; they differ in rate, edges, scale and floor, not in the
filters: Slaney's triangles, of equal area.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from chatterbox.api import SAMPLE_RATE
from chatterbox.config import SAMPLES_PER_MEL_FRAME

LOW_RATE = 16_000
"""Hz; what the tokenizer and both speaker models hear."""
TOKENIZER_HOP = 160
TOKENIZER_MELS = 128
VOICE_ENCODER_HOP = 160
VOICE_ENCODER_MELS = 40
_LOW_N_FFT = 400
_PROMPT_N_FFT = 1920
_PROMPT_MELS = 80
_SPEECH_HZ = 8000.0
_LINEAR_HZ = 200.0 / 3.0
_LOG_START_HZ = 1000.0
_LOG_STEP = np.log(6.4) / 27.0


def prompt_log_mel(wave: Tensor) -> Tensor:
    """What the flow continues: 24 kHz wave [batch, samples] → [batch, 80, samples // 480]."""
    pad = (_PROMPT_N_FFT - SAMPLES_PER_MEL_FRAME) // 2
    padded = functional.pad(wave[:, None], (pad, pad), mode="reflect")[:, 0]
    spectrum = torch.stft(
        padded,
        _PROMPT_N_FFT,
        SAMPLES_PER_MEL_FRAME,
        window=torch.hann_window(_PROMPT_N_FFT, device=wave.device),
        center=False,
        return_complex=True,
    )
    magnitude = (torch.view_as_real(spectrum).square().sum(dim=-1) + 1e-9).sqrt()
    mel = _filters(SAMPLE_RATE, _PROMPT_N_FFT, _PROMPT_MELS, wave.device) @ magnitude
    return mel.clamp_min(1e-5).log()


def tokenizer_log_mel(wave: Tensor) -> Tensor:
    """What the speech tokenizer hears: 16 kHz wave [batch, samples] → [batch, 128, samples // 160].

    The floor lies 80 dB below the loudest bin of each clip, so a cut clip has another one.
    """
    power = _low_rate_power(wave, TOKENIZER_HOP)[:, :, :-1]
    mel = _filters(LOW_RATE, _LOW_N_FFT, TOKENIZER_MELS, wave.device) @ power
    log = mel.clamp_min(1e-10).log10()
    return (log.maximum(log.amax(dim=(1, 2), keepdim=True) - 8) + 4) / 4


def voice_encoder_mel(wave: Tensor) -> Tensor:
    """What the voice encoder hears, as power: 16 kHz wave [batch, samples] → [batch, 40, samples //
    160 + 1].
    """
    power = _low_rate_power(wave, VOICE_ENCODER_HOP)
    return _filters(LOW_RATE, _LOW_N_FFT, VOICE_ENCODER_MELS, wave.device) @ power


def _low_rate_power(wave: Tensor, hop: int) -> Tensor:
    spectrum = torch.stft(
        wave,
        _LOW_N_FFT,
        hop,
        window=torch.hann_window(_LOW_N_FFT, device=wave.device),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    return torch.view_as_real(spectrum).square().sum(dim=-1)


def _filters(rate: int, n_fft: int, num_mels: int, device: torch.device) -> Tensor:
    return torch.from_numpy(slaney_filters(rate, n_fft, num_mels)).to(device)


@cache
def slaney_filters(rate: int, n_fft: int, num_mels: int) -> NDArray[np.float32]:
    """[num_mels, n_fft // 2 + 1] triangles of equal area, 0 to 8 kHz."""
    top = _hz_to_mel(np.array([_SPEECH_HZ]))[0]
    edges = _mel_to_hz(np.linspace(0.0, top, num_mels + 2))
    bins = np.linspace(0.0, rate / 2, n_fft // 2 + 1)
    rising = (bins[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins[None]) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


def _hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's scale: linear below 1 kHz, logarithmic above."""
    log_part = _LOG_START_HZ / _LINEAR_HZ + np.log(np.maximum(hz, 1e-9) / _LOG_START_HZ) / _LOG_STEP
    return np.where(hz < _LOG_START_HZ, hz / _LINEAR_HZ, log_part)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    start = _LOG_START_HZ / _LINEAR_HZ
    return np.where(
        mel < start, mel * _LINEAR_HZ, _LOG_START_HZ * np.exp(_LOG_STEP * (mel - start))
    )
