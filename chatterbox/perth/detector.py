"""Samples in, how likely it is that they carry the mark out.

One number for all of them: what it heard at each of 100 frames a second is averaged, so a recording
that is marked in parts only is judged by how much of it is. Listens to a whole recording at once.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chatterbox.perth.spectrum import BINS, HALF_WINDOW, Spectrum, is_audible
from chatterbox.perth.weights import load_weights

SHORTEST = HALF_WINDOW + 1
"""Fewer samples do not hold half a window."""
_HIDDEN = 256
_KERNEL = 7
_DEPTH = 5
_TEMPOS = {"slow_layers": 1.25, "normal_layers": 1.0, "fast_layers": 0.75}
"""It listens at three tempos, because recordings get stretched; and believes the most confident."""


class _Ears(nn.Module):
    """One tempo: levels [1, BINS, frames] → confidence and likelihood [1, 2, frames]."""

    def __init__(self) -> None:
        super().__init__()
        middle = [nn.Conv1d(_HIDDEN, _HIDDEN, _KERNEL, padding="same") for _ in range(_DEPTH)]
        self.layers = nn.ModuleList(
            [nn.Conv1d(BINS, _HIDDEN, 1), *middle, nn.Conv1d(_HIDDEN, 2, 1)]
        )

    def forward(self, level: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            level = nn.functional.leaky_relu(layer(level))
        return last(level)


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spectrum = Spectrum()
        self.ears = nn.ModuleDict({name: _Ears() for name in _TEMPOS})

    @torch.inference_mode()
    def likelihood(self, samples: NDArray[np.float32]) -> float:
        """[samples] at 24 kHz, at least `SHORTEST` → 0 (unmarked) to 1; above 0.5 is marked."""
        if samples.size < SHORTEST:
            raise ValueError(f"{samples.size} samples are too few to tell; {SHORTEST} are needed")
        wave = torch.from_numpy(samples)[None]
        padded = nn.functional.pad(wave, (HALF_WINDOW, HALF_WINDOW), mode="reflect")
        _, level = self.spectrum.analyse(padded)
        audible = is_audible(level)[:, None]
        level = level.transpose(1, 2)
        heard = torch.cat([self._heard(name, level, audible) for name in _TEMPOS])
        likelihood = (heard[:, 0].softmax(dim=0) * heard[:, 1]).sum()
        return float(likelihood.clamp(0, 1))

    def _heard(self, name: str, level: Tensor, audible: Tensor) -> Tensor:
        """At one tempo: confidence and likelihood [1, 2], averaged over what is audible."""
        frames = int(level.shape[2] * _TEMPOS[name])
        stretched = nn.functional.interpolate(level, size=frames, mode="linear", align_corners=True)
        counts = nn.functional.interpolate(audible, size=frames, mode="nearest")
        judged = self.ears[name](stretched)
        return (judged * counts).sum(dim=2) / counts.sum(dim=2).clamp(min=1)


def load_detector() -> Detector:
    """Raises `WatermarkUnavailable`."""
    detector = Detector()
    weights = load_weights("decoder")
    for name, ears in detector.ears.items():
        prefix = name + "."
        own = {
            key.removeprefix(prefix).replace(".conv.", "."): weight
            for key, weight in weights.items()
            if key.startswith(prefix)
        }
        ears.load_state_dict({"layers." + key: weight for key, weight in own.items()})
    return detector.eval()
