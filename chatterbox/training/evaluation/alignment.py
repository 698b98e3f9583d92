"""Two readings of one text in; which moment of the one is which moment of the other out.

Dynamic time warping over cepstra. The teacher tells when it says each phoneme; through the warp
that holds for whoever learned from it, even where a recogniser would mishear the word.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chatterbox.training.evaluation.reading import Floats, Reading
from chatterbox.training.mel import HOP, NUM_MELS, SAMPLE_RATE

FRAME_S = HOP / SAMPLE_RATE
NUM_CEPSTRA = 16
_STRAY = 1.1
"""What a step costs that advances one reading alone, relative to one that advances both."""


def cepstra(mel: NDArray[np.float32]) -> Floats:
    """[frames, 80] → [frames, cepstra], each of mean 0 and variance 1 over the reading."""
    bands = (np.arange(NUM_MELS) + 0.5) * np.pi / NUM_MELS
    basis = np.cos(np.arange(NUM_CEPSTRA)[:, None] * bands[None])
    found = mel.astype(np.float64) @ basis.T
    return (found - found.mean(0)) / (found.std(0) + 1e-6)


def warp(target: Floats, source: Floats) -> list[tuple[int, int]]:
    """The cheapest path of frame pairs from both first frames to both last ones."""
    squares = (target**2).sum(1)[:, None] + (source**2).sum(1)[None] - 2 * target @ source.T
    distance = np.sqrt(np.maximum(squares, 0.0))
    rows, columns = distance.shape
    cost = np.full((rows + 1, columns + 1), np.inf)
    cost[0, 0] = 0.0
    # Cells of one anti-diagonal depend on the two before it alone, so they are one array operation.
    for total in range(2, rows + columns + 1):
        i = np.arange(max(1, total - columns), min(rows, total - 1) + 1)
        j = total - i
        here = distance[i - 1, j - 1]
        stray = np.minimum(cost[i - 1, j], cost[i, j - 1]) + _STRAY * here
        cost[i, j] = np.minimum(cost[i - 1, j - 1] + 2 * here, stray)
    path = [(rows - 1, columns - 1)]
    i, j = rows, columns
    while (i, j) != (1, 1):
        before = ((i - 1, j - 1), (i - 1, j), (i, j - 1))
        here = distance[i - 1, j - 1]
        prices = [cost[cell] + here * (2 if k == 0 else _STRAY) for k, cell in enumerate(before)]
        i, j = before[int(np.argmin(prices))]
        path.append((i - 1, j - 1))
    return path[::-1]


@dataclass(frozen=True, slots=True)
class TimeMap:
    """Moments of one reading → moments of another."""

    from_s: Floats
    to_s: Floats

    def __call__(self, times_s: Floats) -> Floats:
        return np.interp(times_s, self.from_s, self.to_s)


def aligned(target: Reading, source: Reading) -> TimeMap:
    """Maps times of `source` to times of `target`."""
    path = np.array(warp(cepstra(target.mel), cepstra(source.mel)))
    frames = np.unique(path[:, 1])
    mean = np.array([path[path[:, 1] == frame, 0].mean() for frame in frames])
    from_s = np.concatenate([[0.0], (frames + 0.5) * FRAME_S, [source.length_s]])
    to_s = np.concatenate([[0.0], (mean + 0.5) * FRAME_S, [target.length_s]])
    return TimeMap(from_s, np.minimum(np.maximum.accumulate(to_s), target.length_s))
