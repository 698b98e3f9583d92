"""Every output format, decoded again by FFmpeg: the sound that went in comes out, whole."""

import io
import wave
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.formats.choice import CONTENT_TYPES, FormatMissing, new_stream_encoder

Sound = NDArray[np.floating[Any]]
RATE = 24_000
CONTAINERS = {"opus": "ogg", "mp3": "mp3", "flac": "flac", "aac": "aac"}
TELEPHONY = {"ulaw": "mulaw", "alaw": "alaw"}
DURATION_S = 1.7


def tone(duration_s: float = DURATION_S) -> NDArray[np.float32]:
    times = np.arange(int(duration_s * RATE)) / RATE
    return (0.4 * np.sin(2 * np.pi * 330 * times)).astype(np.float32)


def encoded(name: str, samples: Sound, *, piece: int = 1000, rate: int = RATE) -> bytes:
    encoder = new_stream_encoder(name, sample_rate=rate)
    parts = [encoder.begin()]
    parts += [
        encoder.encode(samples[at : at + piece].astype(np.float32))
        for at in range(0, samples.size, piece)
    ]
    return b"".join([*parts, encoder.finish()])


def decoded(data: bytes, name: str) -> tuple[Sound, int]:
    """Samples, and their rate."""
    if name == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / 32767, RATE
    if name == "pcm_f32":
        return np.frombuffer(data, "<f4"), RATE
    if name == "wav":
        return np.frombuffer(data[44:], "<i2").astype(np.float32) / 32767, RATE
    if name in TELEPHONY:
        with av.open(
            io.BytesIO(data), mode="r", format=TELEPHONY[name], options={"sample_rate": str(RATE)}
        ) as container:
            blocks = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
        return np.concatenate(blocks).astype(np.float32) / 32767, RATE
    with av.open(io.BytesIO(data), mode="r", format=CONTAINERS[name]) as container:
        rate = container.streams.audio[0].rate
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        blocks = [
            part.to_ndarray().reshape(-1)
            for frame in container.decode(audio=0)
            for part in resampler.resample(frame)
        ]
    return np.concatenate(blocks), rate


def loudest_hz(samples: Sound, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    return float(np.argmax(spectrum)) * rate / samples.size


@pytest.mark.parametrize("name", CONTENT_TYPES)
def test_what_is_decoded_is_what_went_in(name: str) -> None:
    """A lost tail cuts the last word; a wrong rate in a header makes the voice too high or low."""
    samples, rate = decoded(encoded(name, tone()), name)
    assert loudest_hz(samples, rate) == pytest.approx(330, abs=2)
    # MP3 and AAC add the delay of their codec and fill the last of their frames.
    slack_s = {"mp3": 0.15, "aac": 0.15}.get(name, 0.0001)
    assert DURATION_S - 0.0001 <= samples.size / rate <= DURATION_S + slack_s
    middle = samples[samples.size // 3 : samples.size // 2]
    assert float(np.sqrt(np.mean(middle**2))) == pytest.approx(0.4 / np.sqrt(2), rel=0.08)


@pytest.mark.parametrize("name", CONTENT_TYPES)
def test_bytes_leave_while_audio_arrives(name: str) -> None:
    """A format that waits for the end is no stream: first audio would come with the last."""
    encoder = new_stream_encoder(name)
    head = encoder.begin()
    early = b"".join(encoder.encode(tone(0.1)) for _ in range(5))
    late = encoder.encode(tone(3.0)) + encoder.finish()
    assert len(early) > 0.05 * len(late)
    assert len(head + early) > 500


@pytest.mark.parametrize("name", ["pcm", "wav", "opus", "flac"])
def test_pieces_do_not_matter(name: str) -> None:
    """Chunks of the engine have odd sizes; a format that pads each would click at every border."""
    one, _rate = decoded(encoded(name, tone(), piece=100_000), name)
    many, _rate = decoded(encoded(name, tone(), piece=337), name)
    np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize("name", CONTENT_TYPES)
def test_nothing_to_say_is_still_a_file(name: str) -> None:
    """A text of nothing but a smiley has no audio; the answer must not crash on the way out."""
    data = encoded(name, tone(0.0))
    if name in ("wav", "pcm", "pcm_f32", "ulaw", "alaw"):
        assert len(data) == (44 if name == "wav" else 0)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_another_rate_keeps_pitch_and_length(rate: int) -> None:
    """Telephony asks for 8 kHz; a resampler that drops its tail or its rate is heard at once."""
    data = encoded("pcm", tone(), rate=rate)
    samples = np.frombuffer(data, "<i2").astype(np.float32) / 32767
    assert samples.size / rate == pytest.approx(DURATION_S, abs=0.001)
    assert loudest_hz(samples, rate) == pytest.approx(330, abs=2)


@pytest.mark.parametrize(("name", "smallest_step"), [("ulaw", 8), ("alaw", 16)])
def test_telephony_is_the_standard_s(name: str, smallest_step: int) -> None:
    """A law with a wrong segment is a buzz that only loud or only quiet speech has."""
    every_byte = bytes(range(256))
    with av.open(io.BytesIO(every_byte), mode="r", format=TELEPHONY[name]) as container:
        means = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    again = new_stream_encoder(name).encode((means / 32767).astype(np.float32))
    same = np.frombuffer(again, np.uint8) == np.arange(256)
    # μ-law has two zeros; a sample has one.
    assert same.sum() >= 255
    assert name == "alaw" or not same[0x7F]

    values = np.arange(-32_767, 32_768)
    codes = new_stream_encoder(name).encode((values / 32767).astype(np.float32))
    error = np.abs(means[np.frombuffer(codes, np.uint8)] - values)
    assert error.max() <= 644  # half of the widest step, and what μ-law clips
    quiet = np.abs(values) < 64
    assert error[quiet].max() <= smallest_step / 2


@pytest.mark.parametrize(("rate", "kbps"), [(22_050, 32), (44_100, 128), (24_000, 48)])
def test_mp3_keeps_to_its_rate_and_bitrate(rate: int, kbps: int) -> None:
    """Clients name both, and some choose their decoder by them."""
    encoder = new_stream_encoder("mp3", sample_rate=rate, bitrate=1000 * kbps)
    data = encoder.begin() + encoder.encode(tone(4.0)) + encoder.finish()
    assert len(data) * 8 / 4.0 == pytest.approx(1000 * kbps, rel=0.05)
    samples, found = decoded(data, "mp3")
    assert found == rate
    assert loudest_hz(samples, rate) == pytest.approx(330, abs=2)


@pytest.mark.parametrize("name", CONTENT_TYPES)
def test_small_pieces_at_another_rate(name: str) -> None:
    """A resampler may keep all of a piece; an encoder that chokes on nothing ends the speech."""
    encoder = new_stream_encoder(name, sample_rate=44_100)
    sound = tone(0.5)
    pieces = [encoder.encode(sound[at : at + 48]) for at in range(0, sound.size, 48)]
    data = encoder.begin() + b"".join([*pieces, encoder.encode(sound[:0]), encoder.finish()])
    assert len(data) > 500


def test_a_listener_of_mp3_is_not_kept_waiting() -> None:
    """With bits saved for later frames, 40 ms more of every phrase would wait for the next one."""
    encoder = new_stream_encoder("mp3", bitrate=64_000)
    data = encoder.encode(tone(1.0))
    held_back_s = 1.0 - len(data) * 8 / 64_000
    assert held_back_s < 0.06


def test_the_header_of_a_wav_is_one_that_readers_take() -> None:
    """Readers differ in what they do with a length that is not known; Python's must read on."""
    data = encoded("wav", tone(0.5))
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        assert len(file.readframes(12_000)) == 24_000


def test_loud_samples_do_not_wrap_around() -> None:
    """A model's sample above 1 must clip; wrapped, it is a click at full scale."""
    data = encoded("pcm", np.array([1.5, -1.5], dtype=np.float32))
    assert np.frombuffer(data, "<i2").tolist() == [32767, -32767]


def test_a_format_without_its_library_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, mp3 must be refused in words, and opus must go on working."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(FormatMissing, match="make compat"):
        new_stream_encoder("mp3")
    assert encoded("opus", tone(0.2)).startswith(b"OggS")


def test_an_unknown_format_is_an_error() -> None:
    """A dialect that lets a typo through would send the wrong bytes under that name."""
    with pytest.raises(ValueError, match="vorbis"):
        new_stream_encoder("vorbis")


@pytest.mark.parametrize("tempo", [0.25, 0.7, 1.5, 4.0])
def test_another_tempo_keeps_the_pitch(tempo: float) -> None:
    """Faster speech by playing samples faster is a chipmunk."""
    encoder = new_stream_encoder("pcm", tempo=tempo)
    sound = tone()
    parts = [encoder.encode(sound[at : at + 1111]) for at in range(0, sound.size, 1111)]
    data = b"".join([*parts, encoder.finish()])
    samples = np.frombuffer(data, "<i2").astype(np.float32) / 32767
    assert samples.size / RATE == pytest.approx(DURATION_S / tempo, abs=0.08)
    assert loudest_hz(samples, RATE) == pytest.approx(330, abs=5)
    assert new_stream_encoder("pcm", tempo=tempo).finish() == b""
