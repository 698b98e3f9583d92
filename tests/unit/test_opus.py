"""Opus and PCM packets: what is decoded is what went in, in length, position and likeness."""

import numpy as np
import opuslib_next
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from chatterbox.api import SAMPLE_RATE
from daemon.opus import (
    PACKET_SAMPLES,
    PRE_SKIP_SAMPLES,
    EncodedPacket,
    OpusEncoder,
    PcmEncoder,
    new_encoder,
)
from daemon.wire.protocol import AudioFormat


def speech_like(num_samples: int, seed: int = 0) -> NDArray[np.float32]:
    """A gliding voice with syllables: nothing in it repeats, so a shift shows."""
    time_s = np.arange(num_samples) / SAMPLE_RATE
    rng = np.random.default_rng(seed)
    pitch_hz = 120 + 30 * np.sin(2 * np.pi * 0.7 * time_s)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE
    voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 12))
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * 3.1 * time_s)
    return (0.12 * voice * syllables).astype(np.float32)


def decode(packets: list[EncodedPacket]) -> NDArray[np.float32]:
    decoder = opuslib_next.Decoder(SAMPLE_RATE, 1)
    pieces = [np.zeros(0, dtype=np.float32)]
    for position, packet in enumerate(packets):
        raw = decoder.decode_float(packet.payload, PACKET_SAMPLES)
        block = np.frombuffer(raw, dtype=np.float32)
        assert block.size == PACKET_SAMPLES
        block = block[PRE_SKIP_SAMPLES if position == 0 else 0 :]
        assert block.size >= packet.num_samples
        pieces.append(block[: packet.num_samples])
    return np.concatenate(pieces)


@pytest.mark.parametrize("num_samples", [1, 323, 324, 325, 480, 804, 805, 24_000, 50_001])
def test_the_decoded_length_is_exact(num_samples: int) -> None:
    """One packet too few at the end cuts a consonant; a wrong count shifts every subtitle."""
    encoder = OpusEncoder(bitrate=32_000)
    packets = encoder.encode(speech_like(num_samples)) + encoder.finish()
    assert decode(packets).size == num_samples
    assert all(packet.num_samples >= 1 for packet in packets)
    assert len(packets) == -(-(num_samples + PRE_SKIP_SAMPLES) // PACKET_SAMPLES)


def test_nothing_in_nothing_out() -> None:
    """An empty utterance must not send a packet of pure padding."""
    for audio_format in AudioFormat:
        assert new_encoder(audio_format, bitrate=32_000).finish() == []


@pytest.mark.parametrize("bitrate", [24_000, 32_000, 64_000])
def test_decoded_audio_is_aligned(bitrate: int) -> None:
    """A wrong pre-skip would show as a better match at another shift."""
    samples = speech_like(3 * SAMPLE_RATE)
    encoder = OpusEncoder(bitrate=bitrate)
    heard = decode(encoder.encode(samples) + encoder.finish())
    likeness = {
        shift: float(
            np.corrcoef(samples[400:-400], heard[400 + shift : heard.size - 400 + shift])[0, 1]
        )
        for shift in (-156, -24, -2, -1, 0, 1, 2, 24, 156)
    }
    assert max(likeness, key=lambda shift: likeness[shift]) == 0
    assert likeness[0] > 0.97
    # The last 20 ms are audible: the flush pushed them through the lookahead.
    assert np.corrcoef(samples[-480:], heard[-480:])[0, 1] > 0.8


@given(cuts=st.lists(st.integers(1, 3000), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_how_samples_arrive_does_not_matter(cuts: list[int]) -> None:
    """Packet edges that depend on chunk sizes would make speech depend on load."""
    samples = speech_like(sum(cuts))
    for audio_format in AudioFormat:
        whole = new_encoder(audio_format, bitrate=32_000)
        expected = whole.encode(samples) + whole.finish()
        pieces = new_encoder(audio_format, bitrate=32_000)
        packets = []
        position = 0
        for cut in cuts:
            packets += pieces.encode(samples[position : position + cut])
            position += cut
        assert packets + pieces.finish() == expected


def test_the_bitrate_is_kept() -> None:
    """An option that does nothing is a bug that nobody reports."""
    samples = speech_like(4 * SAMPLE_RATE)
    for bitrate in (12_000, 32_000, 96_000):
        encoder = OpusEncoder(bitrate=bitrate)
        packets = encoder.encode(samples) + encoder.finish()
        bits_per_second = 8 * sum(len(packet.payload) for packet in packets) / 4
        assert 0.6 * bitrate < bits_per_second < 1.25 * bitrate


def test_encoders_are_independent() -> None:
    """A shared state would let one context's voice leak into another's first packet."""
    samples = speech_like(SAMPLE_RATE)
    fresh = OpusEncoder(bitrate=32_000).encode(samples)
    busy = OpusEncoder(bitrate=32_000)
    busy.encode(speech_like(SAMPLE_RATE, seed=5))
    assert OpusEncoder(bitrate=32_000).encode(samples) == fresh


def test_pcm_is_exact_and_clipped() -> None:
    """Wrapping round at full scale is the loudest click there is."""
    encoder = PcmEncoder()
    samples = np.array([0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -7.0], dtype=np.float32)
    assert encoder.encode(samples) == []
    (packet,) = encoder.finish()
    assert packet.num_samples == 7
    values = np.frombuffer(packet.payload, dtype="<i2").tolist()
    assert values == [0, 16384, -16384, 32767, -32767, 32767, -32767]
