"""A format's name in, a fresh encoder out. What needs PyAV says so when it is not there."""

import importlib.util

from chatterbox.api import SAMPLE_RATE
from daemon.formats.ogg_opus import OggOpusStream
from daemon.formats.rates import Resampled
from daemon.formats.stream import PcmStream, StreamEncoder, WavStream
from daemon.opus import BITRATE_DEFAULT

CONTENT_TYPES = {
    "pcm": "audio/pcm",
    "wav": "audio/wav",
    "opus": "audio/ogg",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "aac": "audio/aac",
}
_BY_PYAV = frozenset({"mp3", "flac", "aac"})
_MISSING = "which this daemon was installed without: make compat"


class FormatMissing(Exception):
    """The text says what to install."""


def new_stream_encoder(
    name: str,
    *,
    sample_rate: int = SAMPLE_RATE,
    bitrate: int | None = None,
    tempo: float = 1.0,
) -> StreamEncoder:
    """`name` is one of `CONTENT_TYPES`. Raises `FormatMissing`. Opus keeps its own rate."""
    encoder = _at_rate(name, sample_rate=sample_rate, bitrate=bitrate)
    if tempo == 1.0:
        return encoder
    _require_pyav(f"another tempo than 1 needs PyAV, {_MISSING}, or leave the tempo as it is")
    from daemon.formats.tempo import AtTempo

    return AtTempo(encoder, tempo=tempo)


def _at_rate(name: str, *, sample_rate: int, bitrate: int | None) -> StreamEncoder:
    encoder: StreamEncoder
    match name:
        case "opus":
            return OggOpusStream(bitrate=bitrate or BITRATE_DEFAULT)
        case "pcm":
            encoder = PcmStream()
        case "wav":
            encoder = WavStream(sample_rate=sample_rate)
        case _:
            encoder = _compressed(name, sample_rate=sample_rate, bitrate=bitrate)
    return encoder if sample_rate == SAMPLE_RATE else Resampled(encoder, sample_rate=sample_rate)


def _compressed(name: str, *, sample_rate: int, bitrate: int | None) -> StreamEncoder:
    if name not in _BY_PYAV:
        raise ValueError(f"there is no format {name!r}")
    _require_pyav(f"{name} needs PyAV, {_MISSING}, or ask for opus, pcm or wav")
    from daemon.formats.compressed import CompressedStream

    return CompressedStream(name, sample_rate=sample_rate, bitrate=bitrate)


def _require_pyav(message: str) -> None:
    if importlib.util.find_spec("av") is None:
        raise FormatMissing(message)
