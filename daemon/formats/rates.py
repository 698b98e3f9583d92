"""Samples at the model's rate in, the same sound at another rate out, streaming (soxr)."""

import numpy as np
import soxr

from chatterbox.api import SAMPLE_RATE
from daemon.formats.stream import Samples, StreamEncoder


class Resampled(StreamEncoder):
    """Another encoder's input, brought to its rate first."""

    def __init__(self, inner: StreamEncoder, *, sample_rate: int) -> None:
        self.is_costly = inner.is_costly
        self._inner = inner
        self._soxr = soxr.ResampleStream(SAMPLE_RATE, sample_rate, 1, dtype="float32")

    def begin(self) -> bytes:
        return self._inner.begin()

    def encode(self, samples: Samples) -> bytes:
        return self._inner.encode(self._soxr.resample_chunk(samples))

    def finish(self) -> bytes:
        rest = self._soxr.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
        return self._inner.encode(rest) + self._inner.finish()
