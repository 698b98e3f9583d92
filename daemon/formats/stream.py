"""The interface of every format, and the formats that are samples as they are: PCM and WAV."""

import abc
import struct

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

_UNKNOWN_SIZE = 0xFFFFFFFF
"""What a WAV header says of a stream whose end is not known yet; players read to the end."""
_SAMPLE_BYTES = 2


class StreamEncoder(abc.ABC):
    """One utterance's. `begin`, `encode` for all its samples, `finish`; the bytes, joined, are the
    file. Any thread may call it, one at a time."""

    is_costly = False
    """Whether it would hold up the event loop."""

    def begin(self) -> bytes:
        """What can be sent before there is audio."""
        return b""

    @abc.abstractmethod
    def encode(self, samples: Samples) -> bytes:
        """What these samples complete."""

    def finish(self) -> bytes:
        """The rest. Nothing may be encoded afterwards."""
        return b""


class PcmStream(StreamEncoder):
    """16 bits, little-endian."""

    def encode(self, samples: Samples) -> bytes:
        return to_int16(samples).tobytes()


class FloatPcmStream(StreamEncoder):
    """32-bit floating point, little-endian, within ±1."""

    def encode(self, samples: Samples) -> bytes:
        return np.clip(samples, -1.0, 1.0).astype("<f4").tobytes()


class WavStream(PcmStream):
    def __init__(self, *, sample_rate: int) -> None:
        self._sample_rate = sample_rate

    def begin(self) -> bytes:
        return b"".join(
            (
                struct.pack("<4sI4s", b"RIFF", _UNKNOWN_SIZE, b"WAVE"),
                struct.pack(
                    "<4sIHHIIHH",
                    b"fmt ",
                    16,
                    1,  # PCM
                    1,  # mono
                    self._sample_rate,
                    self._sample_rate * _SAMPLE_BYTES,
                    _SAMPLE_BYTES,
                    8 * _SAMPLE_BYTES,
                ),
                struct.pack("<4sI", b"data", _UNKNOWN_SIZE),
            )
        )


def to_int16(samples: Samples) -> NDArray[np.int16]:
    scaled: NDArray[np.int16] = np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2")
    return scaled
