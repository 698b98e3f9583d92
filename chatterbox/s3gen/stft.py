"""STFT and its inverse as convolutions with constant bases: no window on the host, no check that
synchronises.

Equal to `torch.stft` and `torch.istft` with a periodic Hann window and `center=True`;
`torch.istft` itself reads its window envelope on the host, which no captured step may do.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class ShortTimeFourier(nn.Module):
    """Both directions for one (n_fft, hop). Spectra are [batch, n_fft + 2, columns]: real parts,
    then imaginary.
    """

    analysis: Tensor
    synthesis: Tensor
    squared_window: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop = hop
        bins = n_fft // 2 + 1
        time = torch.arange(n_fft, dtype=torch.float64)
        window = 0.5 - 0.5 * torch.cos(2 * math.pi * time / n_fft)
        angle = (
            2 * math.pi * torch.arange(bins, dtype=torch.float64)[:, None] * time / n_fft
        )  # [bins, n_fft]
        weight = torch.full((bins, 1), 2.0, dtype=torch.float64)
        weight[0] = weight[-1] = 1.0
        analysis = torch.cat([torch.cos(angle), -torch.sin(angle)]) * window
        synthesis = (
            torch.cat([torch.cos(angle) * weight, -torch.sin(angle) * weight]) * window / n_fft
        )
        self.register_buffer("analysis", analysis[:, None].float(), persistent=False)
        self.register_buffer("synthesis", synthesis[:, None].float(), persistent=False)
        self.register_buffer(
            "squared_window", window.square()[None, None].float(), persistent=False
        )

    def forward(self, signal: Tensor, num_samples: Tensor | None = None) -> Tensor:
        """Spectrum of `signal` [batch, 1, samples], reflected at both ends: [batch, n_fft + 2,
        samples / hop + 1].

        With `num_samples` [batch], row r ends (and is reflected) at `num_samples[r]`, not at the
        end of the tensor.
        """
        half = self.n_fft // 2
        padded = functional.pad(signal, (half, half), mode="reflect")
        if num_samples is not None:
            position = torch.arange(padded.shape[-1], device=signal.device)[None, None, :]
            end = num_samples[:, None, None] + half  # of the valid part, in padded positions
            mirrored = torch.where(position < end, position, 2 * (end - 1) - position)
            padded = padded.gather(-1, mirrored.clamp_min(0).expand_as(padded))
        return functional.conv1d(padded, self.analysis, stride=self.hop)

    def inverse(self, spectrum: Tensor, columns: Tensor | None = None) -> Tensor:
        """Waveform [batch, samples] of `spectrum` [batch, n_fft + 2, samples / hop + 1].

        With the mask `columns` [batch, 1, columns] (1 where valid), masked columns count for
        nothing.
        """
        if columns is None:
            columns = torch.ones_like(spectrum[:1, :1])
        else:
            spectrum = spectrum * columns
        signal = functional.conv_transpose1d(spectrum, self.synthesis, stride=self.hop)
        envelope = functional.conv_transpose1d(columns, self.squared_window, stride=self.hop)
        half = self.n_fft // 2
        trimmed = signal[:, 0, half:-half]
        return trimmed / envelope[:, 0, half:-half].clamp_min(1e-8)
