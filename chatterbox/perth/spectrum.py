"""Samples in, the part of their spectrum that carries the mark out, and back.

The networks were trained at 32 kHz with 64 ms windows every 10 ms, and look at the lowest 2 kHz.
Windows of the same length in time have the same frequencies at 24 kHz, where the samples are: so
nothing is resampled, and what lies above 2 kHz is left alone.
"""

import math

import torch
from torch import Tensor, nn

from chatterbox.api import SAMPLE_RATE

WINDOW = SAMPLE_RATE * 64 // 1000
HOP = SAMPLE_RATE // 100
HALF_WINDOW = WINDOW // 2
BINS = 128
"""Frequencies from 0 in steps of 15.625 Hz."""
_TRAINED_WINDOW = 2048
_FLOOR = 1e-9
_FLOOR_DB = -180.0
_HEADROOM_DB = 15.0
LEVEL_SPAN_DB = _HEADROOM_DB - _FLOOR_DB
"""Decibels in one unit of level."""
_AUDIBLE_LEVEL = 0.035
"""A frame below this mean level is digital silence; nothing else comes near."""


class Spectrum(nn.Module):
    """Windowed Fourier transforms of `BINS` frequencies, as products with constant matrices."""

    forwards: Tensor  # [WINDOW, 2 * BINS]
    backwards: Tensor  # [2 * BINS, WINDOW]
    square: Tensor  # [WINDOW]

    def __init__(self) -> None:
        super().__init__()
        window = torch.hann_window(WINDOW, dtype=torch.float64)
        time = torch.arange(WINDOW, dtype=torch.float64)
        angle = 2 * math.pi / WINDOW * time[:, None] * torch.arange(BINS, dtype=torch.float64)
        forwards = torch.cat([angle.cos(), -angle.sin()], dim=1) * window[:, None]
        weight = torch.full((BINS,), 2 / WINDOW, dtype=torch.float64)
        weight[0] /= 2  # its mirror image is itself
        backwards = (
            torch.cat([angle.cos(), -angle.sin()], dim=1) * weight.repeat(2) * window[:, None]
        )
        self.register_buffer("forwards", forwards.float(), persistent=False)
        self.register_buffer("backwards", backwards.T.contiguous().float(), persistent=False)
        self.register_buffer("square", window.square().float(), persistent=False)

    def analyse(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """[rows, HOP * (frames - 1) + WINDOW] → the complex spectrum as [rows, frames, 2 * BINS],
        and its level [rows, frames, BINS] as the networks know it.
        """
        spectrum = samples.unfold(1, WINDOW, HOP) @ self.forwards
        power = spectrum[:, :, :BINS].square() + spectrum[:, :, BINS:].square()
        magnitude = power.sqrt() * (_TRAINED_WINDOW / WINDOW)
        decibels = 20 * magnitude.clamp(min=_FLOOR).log10()
        return spectrum, (decibels - _FLOOR_DB) / LEVEL_SPAN_DB

    def synthesise(self, spectrum: Tensor, present: Tensor) -> Tensor:
        """The samples of `analyse`'s inverse; only frames count that are `present` [rows, frames],
        0 or 1. What no frame reaches is 0.
        """
        pieces = spectrum @ self.backwards * present[:, :, None]
        envelope = present[:, :, None] * self.square
        return _overlapped(pieces) / _overlapped(envelope).clamp(min=_FLOOR)


def is_audible(level: Tensor) -> Tensor:
    """[rows, frames, BINS] → [rows, frames], 1 where there is any sound."""
    return (level.mean(dim=2) > _AUDIBLE_LEVEL).float()


def _overlapped(pieces: Tensor) -> Tensor:
    """[rows, frames, WINDOW] → [rows, HOP * (frames - 1) + WINDOW], added where they overlap."""
    length = HOP * (pieces.shape[1] - 1) + WINDOW
    folded = nn.functional.fold(
        pieces.transpose(1, 2), output_size=(1, length), kernel_size=(1, WINDOW), stride=(1, HOP)
    )
    return folded[:, 0, 0]
