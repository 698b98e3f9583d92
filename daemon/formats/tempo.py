"""Samples in, the same speech faster or slower at the same pitch out (FFmpeg's atempo, by PyAV)."""

import itertools

import av
import numpy as np
from av.filter import Graph

from chatterbox.api import SAMPLE_RATE
from daemon.formats.stream import Samples, StreamEncoder

_SLOWEST_STEP = 0.5
"""What one atempo can do; slower is two of them."""


class AtTempo(StreamEncoder):
    """Another encoder's input, brought to its tempo first. `tempo` 2 is twice as fast."""

    def __init__(self, inner: StreamEncoder, *, tempo: float) -> None:
        self.is_costly = True
        self._inner = inner
        self._graph = Graph()
        source = self._graph.add_abuffer(sample_rate=SAMPLE_RATE, format="flt", layout="mono")
        chain = [source, *(self._graph.add("atempo", str(step)) for step in _steps(tempo))]
        chain.append(self._graph.add("aformat", "sample_fmts=flt:channel_layouts=mono"))
        chain.append(self._graph.add("abuffersink"))
        for left, right in itertools.pairwise(chain):
            left.link_to(right)
        self._graph.configure()
        self._num_samples = 0

    def begin(self) -> bytes:
        return self._inner.begin()

    def encode(self, samples: Samples) -> bytes:
        if not samples.size:
            return b""
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples).reshape(1, -1), format="flt", layout="mono"
        )
        frame.sample_rate = SAMPLE_RATE
        frame.pts = self._num_samples
        self._num_samples += samples.size
        self._graph.push(frame)
        return self._inner.encode(self._pull())

    def finish(self) -> bytes:
        if not self._num_samples:
            return self._inner.finish()
        self._graph.push(None)
        return self._inner.encode(self._pull()) + self._inner.finish()

    def _pull(self) -> Samples:
        """What the filters have ready."""
        parts = [np.zeros(0, dtype=np.float32)]
        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return np.concatenate(parts)
            assert isinstance(frame, av.AudioFrame)
            parts.append(frame.to_ndarray().reshape(-1).astype(np.float32))


def _steps(tempo: float) -> list[float]:
    steps = []
    while tempo < _SLOWEST_STEP:
        steps.append(_SLOWEST_STEP)
        tempo /= _SLOWEST_STEP
    return [*steps, tempo]
