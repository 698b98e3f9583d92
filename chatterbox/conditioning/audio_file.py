"""The bytes of an audio file in, a clip out: one channel at 24 kHz, without silence at its ends.

Every reason why no voice can come of a file is a `VoiceError` that a person can act on. What the
file claims of itself (its length, say) is not believed: decoding stops at a limit.
"""

import io
from dataclasses import dataclass, field

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from chatterbox.api import SAMPLE_RATE
from chatterbox.conditioning.clip import SILENT_PEAK, sound_span
from chatterbox.conditioning.resample import resample_clip
from chatterbox.voice import VoiceError

LONGEST_CLIP_S = 120.0
"""The models hear the first 10 or 15 s in detail and an average of the rest, so a longer clip costs
time and memory and brings nothing.
"""
LONGEST_FILE_BYTES = 64 * 2**20
"""A clip of the longest kind, stereo, 48 kHz, 32 bits, and some."""
READABLE = ("WAV", "FLAC", "MP3", "OGG")
_FORMATS = frozenset({*READABLE, "WAVEX", "RF64"})
MAX_CHANNELS = 8
LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000
"""Hz. Below, there is too little of a voice left."""
CLIPPED = 0.9995
"""Of full scale: at the last step of 16 bits and its neighbours."""
CLIPPED_RUN = 3
"""Samples in a row at full scale; a single one is a peak that somebody normalised to."""
REFUSED_CLIPPED_SHARE, WARNED_CLIPPED_SHARE = 0.01, 0.001
"""From a percent on, the distortion is part of every syllable, and would be of the voice."""
BEYOND_FULL_SCALE = 8.0
"""18 dB too loud: numbers that are not samples between −1 and 1 at all."""
END_SILENCE_DB = 40.0
"""Quieter than the loudest moment by this much, the ends of a file are cut."""
KEPT_SILENCE_S = 0.5
_BLOCK_SAMPLES = 65_536
_RECORD_AGAIN = "record it again, louder"


@dataclass(frozen=True, slots=True)
class Clip:
    """What was decoded."""

    wave: Tensor  # [samples] at 24 kHz
    warnings: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return self.wave.shape[0] / SAMPLE_RATE


def decode_clip(data: bytes) -> Clip:
    """WAV, FLAC, MP3 or OGG (Vorbis, Opus), told apart by content. Raises `VoiceError`."""
    if not data:
        raise VoiceError("the file is empty")
    if len(data) > LONGEST_FILE_BYTES:
        raise VoiceError(
            f"the file has {len(data) / 2**20:.0f} MiB; at most {LONGEST_FILE_BYTES >> 20} are read"
        )
    heard = _decoded(data)
    warnings = _judge_clipping(heard)
    mono = np.concatenate(heard.mono)
    if np.abs(mono).max() < SILENT_PEAK:
        is_cancelled = heard.peak >= SILENT_PEAK
        why = "its channels cancel each other: give one of them" if is_cancelled else _RECORD_AGAIN
        raise VoiceError(f"the clip is silent; {why}")
    wave = torch.from_numpy(resample_clip(mono, heard.rate))
    return Clip(_without_silent_ends(wave), warnings)


@dataclass(slots=True)
class _Heard:
    """What is kept of a file while it is decoded: many channels at a high rate are gigabytes."""

    rate: int
    mono: list[NDArray[np.float32]] = field(default_factory=list)
    count: int = 0
    peak: float = 0.0
    clipped: int = 0
    """Of the channel with most of them."""

    def add(self, block: NDArray[np.float32]) -> None:
        """[samples, channels]"""
        if not np.isfinite(block).all():
            raise VoiceError("the clip has samples that are not numbers; export it once more")
        self.peak = max(self.peak, float(np.abs(block).max()))
        if self.peak > BEYOND_FULL_SCALE:
            raise VoiceError(
                f"the clip goes up to {self.peak:.3g} times full scale; its samples are scaled"
                " wrongly"
            )
        self.clipped += max(_clipped(block[:, index]) for index in range(block.shape[1]))
        self.mono.append(block.mean(axis=1, dtype=np.float32))
        self.count += len(block)


def _decoded(data: bytes) -> _Heard:
    """No more than the longest clip."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _refuse_odd(file)
            heard = _Heard(int(file.samplerate))
            most = int(LONGEST_CLIP_S * heard.rate)
            # In blocks: a header may announce any length, and a frame of silence costs few bytes.
            while len(block := file.read(_BLOCK_SAMPLES, "float32", True)):
                heard.add(block)
                if heard.count > most:
                    raise VoiceError(
                        f"the clip is longer than {LONGEST_CLIP_S:g} s; the models hear its first"
                        " 15 s in detail: cut out a good passage"
                    )
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").rstrip(". ")
        raise VoiceError(
            f"not audio that can be read ({reason}); {', '.join(READABLE)} can be"
        ) from None
    if not heard.count:
        raise VoiceError("the file holds no samples")
    return heard


def _refuse_odd(file: soundfile.SoundFile) -> None:
    if file.format not in _FORMATS:
        raise VoiceError(f"{file.format} files are not read; {', '.join(READABLE)} are")
    if file.channels > MAX_CHANNELS:
        raise VoiceError(f"the clip has {file.channels} channels; at most {MAX_CHANNELS} are mixed")
    if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
        raise VoiceError(
            f"the clip has {file.samplerate} samples a second;"
            f" {LOWEST_RATE} to {HIGHEST_RATE} are accepted"
        )


def _judge_clipping(heard: _Heard) -> tuple[str, ...]:
    """Warnings, or `VoiceError` if the clip was recorded far too loud."""
    share = heard.clipped / heard.count
    percent = f"{100 * share:.{1 if share < 0.1 else 0}f}"
    told = f"{percent} % of the clip is cut off at full scale (clipped)"
    if share >= REFUSED_CLIPPED_SHARE:
        raise VoiceError(f"{told}; the voice would be as distorted: record it at a lower level")
    return (f"{told}; a lower level of recording gives a clearer voice",) * (
        share >= WARNED_CLIPPED_SHARE
    )


def _clipped(samples: NDArray[np.float32]) -> int:
    """How many samples of one channel lie in a run at full scale."""
    high = np.abs(samples) >= CLIPPED
    if not high.any():
        return 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], high, [False]])))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= CLIPPED_RUN].sum())


def _without_silent_ends(wave: Tensor) -> Tensor:
    """Unlike the reference: it would take silence before the first word for the voice."""
    first, last = sound_span(wave, END_SILENCE_DB)
    kept = int(KEPT_SILENCE_S * SAMPLE_RATE)
    return wave[max(0, first - kept) : last + kept]
