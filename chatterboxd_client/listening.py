"""Audio messages of one context in; samples, and when they were heard, out. The client's ear."""

from dataclasses import dataclass

import numpy as np
import opuslib_next
from numpy.typing import NDArray

from daemon.wire.protocol import AudioFormat, AudioMessage

AUDIBLE_DBFS = -50.0
"""A listener hears something from the first 10 ms whose RMS lies above this, re full scale."""
AUDIBLE_WINDOW_MS = 10
_FULL_SCALE = 32768.0
_OPUS_RATE = 48_000
_LONGEST_PACKET_MS = 120


class BrokenStream(Exception):
    """The daemon sent what docs/protocol.md rules out: a gap, a wrong total, a stray number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """The samples that one audio message adds to its context."""

    sequence: int
    samples: NDArray[np.int16]
    received_at: float
    """`time.perf_counter()` when the message arrived."""


def is_audible(samples: NDArray[np.int16], *, sample_rate: int) -> bool:
    """Whether any 10 ms of it (the last may be shorter) are louder than the threshold."""
    window = sample_rate * AUDIBLE_WINDOW_MS // 1000
    threshold = 10 ** (AUDIBLE_DBFS / 20) * _FULL_SCALE
    for start in range(0, len(samples), window):
        part = samples[start : start + window].astype(np.float64)
        if np.sqrt(np.mean(np.square(part))) > threshold:
            return True
    return False


@dataclass(slots=True, kw_only=True)
class Timings:
    """When things happened to one context, by `time.perf_counter()`; None until they do."""

    sample_rate: int
    text_sent_at: float | None = None
    audible_at: float | None = None
    last_audio_at: float | None = None
    num_samples: int = 0
    num_packets: int = 0
    worst_gap_s: float = 0.0
    """The longest silence of a player that starts with the first packet and never runs ahead."""
    _dry_at: float | None = None

    def note(self, audio: Audio) -> None:
        self.num_packets += 1
        self.num_samples += len(audio.samples)
        self.last_audio_at = audio.received_at
        if self.audible_at is None and is_audible(audio.samples, sample_rate=self.sample_rate):
            self.audible_at = audio.received_at
        if self._dry_at is None:
            self._dry_at = audio.received_at
        late_s = max(0.0, audio.received_at - self._dry_at)
        self.worst_gap_s = max(self.worst_gap_s, late_s)
        self._dry_at = max(self._dry_at, audio.received_at) + self._seconds(len(audio.samples))

    def _seconds(self, num_samples: int) -> float:
        return num_samples / self.sample_rate

    @property
    def audio_s(self) -> float:
        return self._seconds(self.num_samples)

    @property
    def first_audio_ms(self) -> float | None:
        """First text sent → first audible sample received."""
        if self.text_sent_at is None or self.audible_at is None:
            return None
        return 1000 * (self.audible_at - self.text_sent_at)

    @property
    def real_time_factor(self) -> float | None:
        """First text sent → last audio received, divided by the length of the audio."""
        if self.text_sent_at is None or self.last_audio_at is None or not self.num_samples:
            return None
        return (self.last_audio_at - self.text_sent_at) / self.audio_s


class AudioDecoder:
    """Payloads of one context in, the samples that count out: no pre-skip, no padding, no gap."""

    def __init__(self, *, audio_format: AudioFormat, sample_rate: int, pre_skip: int) -> None:
        """`pre_skip` in samples at 48 kHz, as everywhere in Opus."""
        self._opus: opuslib_next.Decoder | None = None
        if audio_format is AudioFormat.OPUS:
            self._opus = opuslib_next.Decoder(sample_rate, 1)
        self._longest_packet = sample_rate * _LONGEST_PACKET_MS // 1000
        self._skip = pre_skip * sample_rate // _OPUS_RATE
        self._format = audio_format
        self._next_sequence = 0

    def decode(self, message: AudioMessage) -> NDArray[np.int16]:
        """Raises `BrokenStream` if a message is missing, in another format, or too short."""
        if message.sequence != self._next_sequence or message.format is not self._format:
            raise BrokenStream(
                f"audio message {message.sequence} ({message.format.wire_name}) came instead of"
                f" {self._next_sequence} ({self._format.wire_name})"
            )
        self._next_sequence += 1
        samples = self._samples(message)
        if len(samples) < message.num_samples:
            raise BrokenStream(f"{message.num_samples} samples announced, {len(samples)} came")
        return samples[: message.num_samples]

    def _samples(self, message: AudioMessage) -> NDArray[np.int16]:
        if self._opus is None:
            return np.frombuffer(message.payload[: len(message.payload) // 2 * 2], dtype="<i2")
        try:
            pcm = self._opus.decode(message.payload, self._longest_packet)
        except opuslib_next.OpusError as error:
            raise BrokenStream(f"an Opus packet does not decode: {error}") from error
        skip = self._skip if message.sequence == 0 else 0
        return np.frombuffer(pcm, dtype=np.int16)[skip:]
