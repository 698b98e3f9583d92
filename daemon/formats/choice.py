"""A format's name in, a fresh encoder out. What needs PyAV says so when it is not there."""

import importlib.util

from chatterbox.api import SAMPLE_RATE
from daemon.formats.ogg_opus import OggOpusStream
from daemon.formats.rates import Resampled
from daemon.formats.stream import FloatPcmStream, PcmStream, StreamEncoder, WavStream
from daemon.formats.telephony import G711Stream
from daemon.opus import BITRATE_DEFAULT

CONTENT_TYPES = {
    "pcm": "audio/pcm",
    "pcm_f32": "audio/pcm",
    "ulaw": "audio/basic",
    "alaw": "audio/x-alaw-basic",
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


class TempoMissing(FormatMissing):
    """The format is there, the tempo is not."""


def new_stream_encoder(
    name: str,
    *,
    sample_rate: int = SAMPLE_RATE,
    bitrate: int | None = None,
    tempo: float = 1.0,
) -> StreamEncoder:
    """`name` is one of `CONTENT_TYPES`; `opus` is in Ogg, and keeps its own rate. `bitrate` in bits
    per second is for mp3, aac and opus; the others have no choice of it. Raises `FormatMissing`.

    An encoder that resamples or compresses holds back some milliseconds until `finish`: whoever
    must send all audio at a place inside an utterance finishes there and goes on with a new one.
    """
    encoder = _at_rate(name, sample_rate=sample_rate, bitrate=bitrate)
    if tempo == 1.0:
        return encoder
    if not _has_pyav():
        raise TempoMissing(f"this speed needs PyAV, {_MISSING}, or leave it at 1")
    from daemon.formats.tempo import AtTempo

    return AtTempo(encoder, tempo=tempo)


def _at_rate(name: str, *, sample_rate: int, bitrate: int | None) -> StreamEncoder:
    encoder: StreamEncoder
    match name:
        case "opus":
            return OggOpusStream(bitrate=bitrate or BITRATE_DEFAULT)
        case "pcm":
            encoder = PcmStream()
        case "pcm_f32":
            encoder = FloatPcmStream()
        case "ulaw" | "alaw":
            encoder = G711Stream(name)
        case "wav":
            encoder = WavStream(sample_rate=sample_rate)
        case _:
            encoder = _compressed(name, sample_rate=sample_rate, bitrate=bitrate)
    return encoder if sample_rate == SAMPLE_RATE else Resampled(encoder, sample_rate=sample_rate)


def _compressed(name: str, *, sample_rate: int, bitrate: int | None) -> StreamEncoder:
    if name not in _BY_PYAV:
        raise ValueError(f"there is no format {name!r}")
    if not _has_pyav():
        raise FormatMissing(f"{name} needs PyAV, {_MISSING}, or ask for opus, pcm or wav")
    from daemon.formats.compressed import CompressedStream

    return CompressedStream(name, sample_rate=sample_rate, bitrate=bitrate)


def _has_pyav() -> bool:
    return importlib.util.find_spec("av") is not None
