"""Samples in, bytes of telephony out: G.711, one byte a sample, in its two laws."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from daemon.formats.stream import Samples, StreamEncoder, to_int16

_BIAS = 0x84
"""What μ-law adds to every magnitude, so that each is at least one whole segment long."""
_CLIP = 32_635
"""The largest magnitude that is still below 2^15 with it."""


class G711Stream(StreamEncoder):
    def __init__(self, law: str) -> None:
        """`law` is ulaw or alaw."""
        self._byte_of = _TABLES[law]

    def encode(self, samples: Samples) -> bytes:
        return self._byte_of[to_int16(samples).view(np.uint16)].tobytes()


def _mu_law(values: NDArray[np.int32]) -> NDArray[np.int32]:
    magnitude = np.minimum(np.abs(values), _CLIP) + _BIAS
    exponent = _highest_bit(magnitude) - 7
    code = (exponent << 4) | ((magnitude >> (exponent + 3)) & 0x0F)
    return ~np.where(values < 0, code | 0x80, code) & 0xFF


def _a_law(values: NDArray[np.int32]) -> NDArray[np.int32]:
    magnitude = np.where(values < 0, ~values, values)
    exponent = np.maximum(_highest_bit(np.maximum(magnitude, 1)) - 7, 0)
    # The lowest segment is as wide as the one above it: it has no leading one to drop.
    code = (exponent << 4) | ((magnitude >> (np.maximum(exponent, 1) + 3)) & 0x0F)
    law: NDArray[np.int32] = code ^ np.where(values < 0, np.int32(0x55), np.int32(0xD5))
    return law


def _highest_bit(values: NDArray[np.int32]) -> NDArray[np.int32]:
    exponents: NDArray[np.int32] = np.frexp(values.astype(np.float64))[1].astype(np.int32)
    return exponents - np.int32(1)


def _table(law: Callable[[NDArray[np.int32]], NDArray[np.int32]]) -> NDArray[np.uint8]:
    """The byte of every 16-bit sample, by its bits."""
    return law(np.arange(65_536, dtype=np.uint16).view(np.int16).astype(np.int32)).astype(np.uint8)


_TABLES = {"ulaw": _table(_mu_law), "alaw": _table(_a_law)}
