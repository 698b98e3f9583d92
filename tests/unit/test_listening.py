"""What a client hears: packets decoded, the first audible sample, the longest gap."""

import numpy as np
import opuslib_next
import pytest
from numpy.typing import NDArray

from chatterboxd_client.listening import Audio, AudioDecoder, BrokenStream, Timings, is_audible
from daemon.wire.protocol import PRE_SKIP_48K, AudioFormat, AudioMessage

RATE = 24_000
PACKET = 480


def opus_messages(signal: NDArray[np.int16], *, pre_skip: int) -> list[AudioMessage]:
    """What a daemon sends for this signal, by section 3 of docs/protocol.md."""
    encoder = opuslib_next.Encoder(RATE, 1, opuslib_next.APPLICATION_AUDIO)
    encoder.bitrate = 96_000
    num_packets = -(-(len(signal) + pre_skip) // PACKET)
    padded = np.zeros(num_packets * PACKET, np.int16)
    padded[: len(signal)] = signal
    messages = []
    num_left = len(signal)
    for index in range(num_packets):
        part = padded[index * PACKET : (index + 1) * PACKET]
        num_samples = min(num_left, PACKET - (pre_skip if index == 0 else 0))
        num_left -= num_samples
        messages.append(
            AudioMessage(
                format=AudioFormat.OPUS,
                number=1,
                sequence=index,
                num_samples=num_samples,
                payload=encoder.encode(part.tobytes(), PACKET),
            )
        )
    return messages


def test_opus_comes_back_aligned_and_at_full_length() -> None:
    """Pre-skip counted at the wrong rate (312 instead of 156) shifts the audio by 6.5 ms."""
    time_s = np.arange(5_000) / RATE
    signal = (8_000 * np.sin(2 * np.pi * (300 + 2_000 * time_s) * time_s)).astype(np.int16)
    decoder = AudioDecoder(audio_format=AudioFormat.OPUS, sample_rate=RATE, pre_skip=PRE_SKIP_48K)
    parts = [decoder.decode(message) for message in opus_messages(signal, pre_skip=156)]
    decoded = np.concatenate(parts)
    assert len(decoded) == len(signal)
    assert len(parts[0]) == PACKET - 156
    assert np.corrcoef(decoded[240:-240], signal[240:-240])[0, 1] > 0.98


def test_a_broken_opus_packet_is_named() -> None:
    """libopus's error must surface as the stream's fault, not as a foreign exception."""
    decoder = AudioDecoder(audio_format=AudioFormat.OPUS, sample_rate=RATE, pre_skip=312)
    message = AudioMessage(
        format=AudioFormat.OPUS, number=1, sequence=0, num_samples=1, payload=b"\xff\xff\xff"
    )
    with pytest.raises(BrokenStream, match="does not decode"):
        decoder.decode(message)


def test_audible_means_ten_loud_milliseconds() -> None:
    """A click or codec noise before the speech would otherwise count as first audio."""
    tone = np.full(240, 200, np.int16)  # -44 dBFS
    hiss = np.full(2_400, 60, np.int16)  # -55 dBFS
    click = np.zeros(240, np.int16)
    click[7] = 1_000
    assert is_audible(np.concatenate([hiss[:240], tone]), sample_rate=RATE)
    assert not is_audible(hiss, sample_rate=RATE)
    assert not is_audible(np.zeros(480, np.int16), sample_rate=RATE)
    assert is_audible(np.concatenate([click, click * 3]), sample_rate=RATE)
    assert not is_audible(np.zeros(0, np.int16), sample_rate=RATE)


def test_first_audio_waits_for_the_first_audible_packet() -> None:
    """Leading silence must not flatter the figure; the gap is what a listener would have missed."""
    timings = Timings(sample_rate=RATE, text_sent_at=10.0)
    assert timings.first_audio_ms is None
    assert timings.real_time_factor is None
    silence, tone = np.zeros(480, np.int16), np.full(480, 5_000, np.int16)
    timings.note(Audio(sequence=0, samples=silence, received_at=10.1))
    assert timings.first_audio_ms is None
    timings.note(Audio(sequence=1, samples=tone, received_at=10.15))
    timings.note(Audio(sequence=2, samples=tone, received_at=10.16))
    assert timings.first_audio_ms == pytest.approx(150)
    assert timings.audio_s == pytest.approx(0.06)
    assert timings.real_time_factor == pytest.approx(0.16 / 0.06)
    # Packet 0 lasts until 10.12; packet 1 comes at 10.15.
    assert timings.worst_gap_s == pytest.approx(0.03)
