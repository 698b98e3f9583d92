"""Windows of samples in, what must be added to the samples in their middle to mark them out.

A sample's mark depends on the 212 ms on either side of it: its frames reach 32 ms, the network 15
frames of 10 ms, and their windows 32 ms. A window brings all of it, so rows know nothing of each
other and nothing is remembered between calls.
"""

import torch
from torch import Tensor, nn

from chatterbox.perth.spectrum import BINS, HALF_WINDOW, HOP, LEVEL_SPAN_DB, Spectrum, is_audible
from chatterbox.perth.weights import load_weights

_HIDDEN = 256
_KERNEL = 7
_DEPTH = 5
REACH_FRAMES = _DEPTH * (_KERNEL // 2)
"""Frames on either side that the network looks at."""
EDGE_FRAMES = -(-HALF_WINDOW // HOP) - 1
"""Frames before a stretch of samples, and after it, that reach into it."""
CONTEXT_FRAMES = REACH_FRAMES + EDGE_FRAMES
CONTEXT = CONTEXT_FRAMES * HOP + HALF_WINDOW
"""Samples of context on either side."""


class Embedder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spectrum = Spectrum()
        self.layers = nn.ModuleList(
            [
                nn.Conv1d(BINS, _HIDDEN, 1),
                *[nn.Conv1d(_HIDDEN, _HIDDEN, _KERNEL) for _ in range(_DEPTH)],
                nn.Conv1d(_HIDDEN, BINS, 1),
            ]
        )

    def forward(self, samples: Tensor, present: Tensor) -> Tensor:
        """`samples` [rows, CONTEXT + length + CONTEXT] → [rows, length], a multiple of `HOP`.

        `present` [rows, 2]: the first frame of the window that the speech has, and the first after
        it that it does not have; the network takes zeros for those.
        """
        spectrum, level = self.spectrum.analyse(samples)
        frames = torch.arange(level.shape[1], device=samples.device)
        is_present = (frames >= present[:, :1]) & (frames < present[:, 1:])
        mask = is_present.float()
        reach = slice(REACH_FRAMES, level.shape[1] - REACH_FRAMES)
        change = self._change(level, mask) * (mask * is_audible(level))[:, None, reach]
        gain = torch.pow(10, change.transpose(1, 2) * (LEVEL_SPAN_DB / 20)) - 1
        added = self.spectrum.synthesise(spectrum[:, reach] * gain.repeat(1, 1, 2), mask[:, reach])
        edge = EDGE_FRAMES * HOP + HALF_WINDOW
        return added[:, edge : added.shape[1] - edge]

    def _change(self, level: Tensor, mask: Tensor) -> Tensor:
        """What the network adds to the level, [rows, BINS, frames - 2 * REACH_FRAMES]."""
        first, *middle, last = self.layers
        hidden = nn.functional.leaky_relu(first(level.transpose(1, 2)))
        mask = mask[:, None]
        for layer in middle:
            hidden = nn.functional.leaky_relu(layer(hidden * mask))
            mask = mask[:, :, _KERNEL // 2 : mask.shape[2] - _KERNEL // 2]
        return last(hidden)


def load_embedder() -> Embedder:
    """Raises `WatermarkUnavailable`."""
    embedder = Embedder()
    weights = load_weights("encoder")
    embedder.load_state_dict({name.replace(".conv.", "."): weights[name] for name in weights})
    return embedder.eval()
