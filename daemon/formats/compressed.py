"""Samples in, MP3, AAC or FLAC out, by FFmpeg's encoders (PyAV; the extra `compat`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream

from daemon.formats.stream import Samples, StreamEncoder

_BUFFER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class _Recipe:
    codec: str
    container: str
    sample_format: str
    options: Mapping[str, str] = field(default_factory=dict)
    """Of the container."""
    codec_options: Mapping[str, str] = field(default_factory=dict)


_RECIPES = {
    # No header that could only be written once the length is known, and no bits saved in one frame
    # for the next: that holds each back until the next is known (EXPERIMENTS.md, MP3).
    "mp3": _Recipe(
        "libmp3lame",
        "mp3",
        "fltp",
        {"write_xing": "0", "id3v2_version": "0"},
        {"reservoir": "0"},
    ),
    "aac": _Recipe("aac", "adts", "fltp"),
    "flac": _Recipe("flac", "flac", "s16"),
}
BITRATES = {"mp3": 64_000, "aac": 64_000}
"""Bits per second of one voice at 24 kHz, where the format has a choice."""


class _Sink:
    """What FFmpeg writes to. It has no `seek`, so nothing written is ever changed."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


class CompressedStream(StreamEncoder):
    is_costly = True

    def __init__(self, name: str, *, sample_rate: int, bitrate: int | None = None) -> None:
        recipe = _RECIPES[name]
        self._sample_rate = sample_rate
        self._sink = _Sink()
        self._container = av.open(
            self._sink,
            mode="w",
            format=recipe.container,
            buffer_size=_BUFFER_BYTES,
            options={"flush_packets": "1", **recipe.options},
        )
        stream = self._container.add_stream(
            recipe.codec, rate=sample_rate, options=dict(recipe.codec_options)
        )
        self._stream = cast(AudioStream, stream)
        codec = self._stream.codec_context
        codec.layout, codec.format = "mono", recipe.sample_format
        if name in BITRATES:
            codec.bit_rate = bitrate or BITRATES[name]
        self._resampler = av.AudioResampler(
            format=recipe.sample_format, layout="mono", rate=sample_rate
        )
        self._num_samples = 0

    def encode(self, samples: Samples) -> bytes:
        if not samples.size:  # FFmpeg takes a frame without samples for a lack of memory
            return b""
        frame = av.AudioFrame.from_ndarray(
            np.clip(samples, -1.0, 1.0).reshape(1, -1), format="flt", layout="mono"
        )
        frame.sample_rate = self._sample_rate
        frame.pts = self._num_samples
        self._num_samples += samples.size
        for ready in self._resampler.resample(frame):
            self._container.mux(self._stream.encode(ready))
        return self._sink.take()

    def finish(self) -> bytes:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._sink.take()
