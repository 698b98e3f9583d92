"""Every kind of file becomes the clip that the reference would read; every unfit one is refused
with its reason.
"""

import io
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from chatterbox.api import SAMPLE_RATE
from chatterbox.conditioning import audio_file
from chatterbox.conditioning.audio_file import KEPT_SILENCE_S, LONGEST_CLIP_S, decode_clip
from chatterbox.voice import VoiceError
from tests.model.listening_checkpoint import voice_like
from tests.model.parity import REPOSITORY

GOLDEN = REPOSITORY / "tests" / "golden" / "audio_file.safetensors"
CLIP = voice_like(3 * SAMPLE_RATE)


def written(
    samples: NDArray[np.generic], rate: int = SAMPLE_RATE, kind: str = "WAV", sub: str | None = None
) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=sub)
    return file.getvalue()


@pytest.mark.parametrize("rate", [44_100, 16_000])
def test_as_the_reference_reads_it(rate: int) -> None:
    """Mix, then soxr, then the length: another order or another quality gives another voice. Made
    by librosa 0.11, which the reference reads clips with.
    """
    arrays = load_file(GOLDEN)
    clip = decode_clip(written(arrays[f"{rate}.in.pcm"], rate, sub="PCM_16"))
    assert np.array_equal(clip.wave.numpy(), arrays[f"{rate}.read"])


@pytest.mark.parametrize(
    ("kind", "sub", "most"),
    [
        ("WAV", "FLOAT", 0.0),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "PCM_16", 4e-5),
        ("WAV", "PCM_U8", 1e-2),
        ("WAV", "ULAW", 1e-2),
        ("WAVEX", "PCM_16", 4e-5),
        ("FLAC", "PCM_16", 4e-5),
        ("MP3", None, 2e-2),
        ("OGG", "VORBIS", 3e-2),
        ("OGG", "OPUS", 3e-2),
    ],
)
def test_every_kind_of_file(kind: str, sub: str | None, most: float) -> None:
    """Told apart by content: names of files come from strangers."""
    clip = decode_clip(written(CLIP, kind=kind, sub=sub))
    assert abs(len(clip.wave) - len(CLIP)) < 1200
    assert clip.warnings == ()
    assert clip.seconds == pytest.approx(3.0, abs=0.05)
    middle = slice(10_000, 60_000)
    error = np.abs(clip.wave.numpy()[middle] - CLIP[middle])
    assert np.sqrt(np.mean(error**2)) <= most


def test_channels_are_mixed() -> None:
    """The left one alone would lose whoever sat to the right."""
    stereo = np.stack([CLIP, 0.5 * CLIP], axis=1)
    mixed = decode_clip(written(stereo, sub="FLOAT")).wave.numpy()
    assert np.abs(mixed - 0.75 * CLIP).max() < 1e-6


def test_silence_at_the_ends_is_cut_to_half_a_second() -> None:
    """Ten seconds are all that the flow hears: ten seconds of an empty room would be the voice."""
    room = 1e-4 * np.random.default_rng(0).standard_normal(4 * SAMPLE_RATE).astype(np.float32)
    clip = decode_clip(written(np.concatenate([room, CLIP, room]), sub="FLOAT"))
    kept = KEPT_SILENCE_S * SAMPLE_RATE
    assert abs(len(clip.wave) - len(CLIP) - 2 * kept) < 4096
    around = slice(int(kept) - 2048, int(kept) + 2048)
    assert clip.wave[: around.start].abs().max() < 1e-3
    assert clip.wave[around].abs().max() > 1e-2
    assert torch.equal(decode_clip(written(CLIP, sub="FLOAT")).wave, torch.from_numpy(CLIP))


def _with(value: float) -> NDArray[np.float32]:
    samples = CLIP.copy()
    samples[1000] = value
    return samples


def _clipped(share: float) -> NDArray[np.float32]:
    """Sound of which `share` is cut off at full scale, as too loud a recording is."""
    loud = CLIP / np.quantile(np.abs(CLIP), 1 - share)
    return np.asarray(loud.clip(-1, 1), np.float32)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "is empty"),
        (b"Dear Sir or Madam, " * 50, "not audio .* WAV, FLAC, MP3, OGG can be"),
        (b"RIFF" + b"\\0" * 60, "not audio"),
        (written(CLIP, kind="AIFF"), "AIFF files are not read"),
        (written(CLIP[:0]), "no samples"),
        (written(np.zeros(SAMPLE_RATE * 2, np.float32)), "is silent; record it again"),
        (written(1e-3 * CLIP, sub="FLOAT"), "is silent; record it again"),
        (written(np.stack([CLIP, -CLIP], axis=1), sub="FLOAT"), "channels cancel each other"),
        (written(_with(np.nan), sub="FLOAT"), "not numbers"),
        (written(_with(np.inf), sub="FLOAT"), "not numbers"),
        (written(_with(30_000.0), sub="FLOAT"), "scaled wrongly"),
        (written(_clipped(0.05)), r"% of the clip is cut off at full scale .* lower level"),
        (written(np.sign(CLIP)), "^100 % of the clip is cut off"),
        (written(CLIP, 4_000), "4000 samples a second"),
        (written(np.tile(CLIP[:, None], 9)), "9 channels"),
    ],
)
def test_unfit_files_are_refused(data: bytes, complaint: str) -> None:
    """Each would load, and come out as a voice of noise, or end in a library's own words."""
    with pytest.raises(VoiceError, match=complaint):
        decode_clip(data)


def test_a_little_clipping_is_told() -> None:
    """Three cut syllables do not spoil a voice, but whoever recorded it should know; peaks that
    merely touch full scale are how most files are mastered.
    """
    (warning,) = decode_clip(written(_clipped(0.005))).warnings
    assert "clipped" in warning
    touching = CLIP / np.abs(CLIP).max()
    assert decode_clip(written(touching, sub="FLOAT")).warnings == ()


def test_a_long_clip_is_not_decoded_to_its_end() -> None:
    """Ten hours of silence are a FLAC of a few megabytes; believing its header, or reading it to
    the end, would take gigabytes.
    """
    hours = written(np.zeros(3600 * 8_000, np.int16), 8_000, "FLAC", "PCM_16")
    assert len(hours) < 500_000
    tracemalloc.start()
    with pytest.raises(VoiceError, match=f"longer than {LONGEST_CLIP_S:g} s; .* 15 s"):
        decode_clip(hours)
    assert tracemalloc.get_traced_memory()[1] < 3 * 4 * LONGEST_CLIP_S * 8_000
    tracemalloc.stop()


def test_many_channels_are_not_kept() -> None:
    """Eight channels at a high rate, which pack to nothing, would be gigabytes once decoded."""
    wide = written(np.zeros((40 * 48_000, 8), np.int16), 48_000, "FLAC", "PCM_16")
    assert len(wide) < 500_000
    tracemalloc.start()
    with pytest.raises(VoiceError, match="is silent"):
        decode_clip(wide)
    decoded, kept = 40 * 48_000 * 8 * 4, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert kept < decoded / 1.5


def test_a_header_is_not_believed() -> None:
    """A WAV that claims two hours and holds three seconds is three seconds; a file beyond the limit
    is refused unread.
    """
    data = bytearray(written(CLIP, sub="PCM_16"))
    place = data.index(b"data") + 4
    data[place : place + 4] = struct.pack("<I", 0x7FFF_FFF0)
    assert decode_clip(bytes(data)).seconds == pytest.approx(3.0, abs=0.01)
    with pytest.raises(VoiceError, match="MiB; at most 64 are read"):
        decode_clip(b"RIFF" + bytes(audio_file.LONGEST_FILE_BYTES))


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3", "OGG"])
def test_damaged_files_are_refused_or_read(kind: str, tmp_path: Path) -> None:
    """Strangers' bytes, flipped and cut anywhere: a clip or a `VoiceError`, and nothing else."""
    whole = written(CLIP[:SAMPLE_RATE], kind=kind)
    random = np.random.default_rng(5)
    for _ in range(40):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 1 + random.integers(0, 30)):
            data[place] = random.integers(0, 256)
        cut = bytes(data[: random.integers(1, len(data) + 1)])
        try:
            clip = decode_clip(cut)
        except VoiceError:
            continue
        assert clip.wave.isfinite().all()
        assert 0 < clip.seconds <= LONGEST_CLIP_S
