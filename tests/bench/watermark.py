"""How often the watermark is found in what a listener has, what it costs, how it sounds. One JSON
line last.

Theory. The bundled voice says held-out texts through the engine, each with one seed twice: marked
as it streams, and not. What was said is joined with the daemon's pause after a sentence, sent
through each channel as one stream, and cut into excerpts of 1, 2, 5 and 10 s where they happen to
fall. The detector gives each excerpt a number from 0 to 1. The share of marked excerpts above a
threshold is the rate of detection, of unmarked ones the rate of false alarms; 0.5 is where Perth
itself rounds, 0.95 is for those who accuse. Few excerpts make coarse rates: of n without a single
miss, up to 3/n may be missed still (95 %).

The mark is louder than a codec's own noise but lies below 2 kHz, where codecs spend their bits: so
low bitrates should cost little, and short excerpts more, because the detector averages over time.
It must be heard as little as possible: DNSMOS of the same texts with and without it.

Cost is processor time of the stage alone for a second of audio, one stream and several at once; a
batch is cheaper because the weights are read once.

    python tests/bench/watermark.py [--texts 100] [--unmarked FOLDER of WAV files of other speakers]
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import opuslib_next
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from chatterbox.api import SAMPLE_RATE, Segment, SegmentId
from chatterbox.loading import load_engine
from chatterbox.perth.blocks import BLOCK_HOPS
from chatterbox.perth.detector import Detector, load_detector
from chatterbox.perth.embedder import CONTEXT, Embedder, load_embedder
from chatterbox.perth.spectrum import HOP
from chatterbox.training.corpus import held_out
from chatterbox.training.recogniser import dnsmos
from chatterbox.watermark import Watermarked
from daemon.formats.telephony import G711Stream
from daemon.opus import BITRATE_DEFAULT, PACKET_SAMPLES, PRE_SKIP_SAMPLES, OpusEncoder
from tests.spoken import spoken

Samples = NDArray[np.float32]
LENGTHS_S = (1, 2, 5, 10)
THRESHOLDS = (0.5, 0.95)
PAUSE = np.zeros(300 * SAMPLE_RATE // 1000, dtype=np.float32)
NOISE_DB = 20
NUM_TIMED = 20


def as_made(engine: Watermarked, number: int, text: str, *, watermark: bool) -> Samples:
    segment = Segment(
        id=SegmentId(2 * number + watermark),
        text=text,
        voice=engine.info.default_voice,
        seed=number,
        watermark=watermark,
    )
    return spoken(engine, segment)


def joined(utterances: Sequence[Samples]) -> Samples:
    return np.concatenate([part for item in utterances for part in (item, PAUSE)])


# What becomes of the samples on their way.


def through_opus(samples: Samples, bitrate: int) -> Samples:
    encoder = OpusEncoder(bitrate=bitrate)
    decoder = opuslib_next.Decoder(SAMPLE_RATE, 1)
    packets = encoder.encode(samples) + encoder.finish()
    pcm = b"".join(decoder.decode(packet.payload, PACKET_SAMPLES) for packet in packets)
    heard = np.frombuffer(pcm, "<i2")[PRE_SKIP_SAMPLES:][: samples.size]
    return (heard / 32768).astype(np.float32)


def through_rate(samples: Samples, rate: int) -> Samples:
    there = soxr.resample(samples, SAMPLE_RATE, rate)
    return np.asarray(soxr.resample(there, rate, SAMPLE_RATE), dtype=np.float32)


def through_telephone(samples: Samples) -> Samples:
    """8 kHz and μ-law, as Wikipedia's formula expands it."""
    narrow = soxr.resample(samples, SAMPLE_RATE, 8000).astype(np.float32)
    codes = 255 - np.frombuffer(G711Stream("ulaw").encode(narrow), np.uint8).astype(int)
    exponent, mantissa = codes >> 4 & 7, codes & 15
    size = ((mantissa * 2 + 33) << exponent) - 33
    decoded = np.where(codes >> 7, -size, size) / 8192
    return np.asarray(soxr.resample(decoded.astype(np.float32), 8000, SAMPLE_RATE), np.float32)


def with_noise(samples: Samples) -> Samples:
    level = np.sqrt(np.mean(np.square(samples))) * 10 ** (-NOISE_DB / 20)
    noise = np.random.default_rng(0).normal(0, level, samples.size)
    return (samples + noise).astype(np.float32)


CHANNELS: dict[str, Callable[[Samples], Samples]] = {
    "as made": lambda samples: samples,
    "Opus, 64 kbit/s": lambda samples: through_opus(samples, 64_000),
    f"Opus, {BITRATE_DEFAULT // 1000} kbit/s (default)": lambda samples: through_opus(
        samples, BITRATE_DEFAULT
    ),
    "Opus, 12 kbit/s": lambda samples: through_opus(samples, 12_000),
    "at 16 kHz": lambda samples: through_rate(samples, 16_000),
    "telephone (8 kHz, μ-law)": through_telephone,
    f"noise {NOISE_DB} dB below": with_noise,
    "2 % faster": lambda samples: np.asarray(soxr.resample(samples, 102, 100), np.float32),
}


# What is asked.


def judged(detector: Detector, samples: Samples, length_s: int) -> NDArray[np.float64]:
    """The likelihood of each excerpt that holds any sound."""
    size = length_s * SAMPLE_RATE
    cuts = [samples[start : start + size] for start in range(0, samples.size - size + 1, size)]
    return np.array([detector.likelihood(cut) for cut in cuts if np.abs(cut).max() > 1e-3])


def found(detector: Detector, samples: Samples) -> dict[str, list[float]]:
    """By length: how many excerpts, then percent of them above each threshold."""
    shares: dict[str, list[float]] = {}
    for length_s in LENGTHS_S:
        likelihoods = judged(detector, samples, length_s)
        if likelihoods.size:
            above = [100 * float(np.mean(likelihoods > threshold)) for threshold in THRESHOLDS]
            shares[f"{length_s} s"] = [likelihoods.size, *(round(share, 1) for share in above)]
    return shares


def others(folder: Path) -> Samples:
    """Every WAV file in it, one after the other."""
    clips = []
    for path in sorted(folder.rglob("*.wav")):
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        clips.append(np.asarray(soxr.resample(samples[:, 0], rate, SAMPLE_RATE), np.float32))
    return joined(clips)


@torch.inference_mode()
def processor_ms(embedder: Embedder, rows: int) -> float:
    """For a second of audio, in blocks of the usual length."""
    windows = torch.randn(rows, 2 * CONTEXT + BLOCK_HOPS * HOP) * 0.1
    present = torch.tensor([[0, 1000]] * rows)
    embedder(windows, present)
    started_s = time.process_time()
    for _ in range(NUM_TIMED):
        embedder(windows, present)
    used_s = time.process_time() - started_s
    return 1000 * used_s / NUM_TIMED / (rows * BLOCK_HOPS * HOP / SAMPLE_RATE)


def run(texts: Sequence[str], unmarked_folder: Path | None) -> dict[str, object]:
    torch.set_num_threads(1)
    embedder, detector = load_embedder(), load_detector()
    engine = Watermarked(load_engine(None, num_slots=1), embedder=embedder)
    engine.warm_up()
    plain = [as_made(engine, place, text, watermark=False) for place, text in enumerate(texts)]
    marked = [as_made(engine, place, text, watermark=True) for place, text in enumerate(texts)]
    result: dict[str, object] = {"bench": "watermark", "texts": len(texts)}
    whole, unmarked = joined(marked), joined(plain)
    result["audio_s"] = round(whole.size / SAMPLE_RATE, 1)
    for name, channel in CHANNELS.items():
        rows = {
            "found": found(detector, channel(whole)),
            "false": found(detector, channel(unmarked)),
        }
        sys.stderr.write(f"{name}: {rows}\n")
        result[name] = rows
    if unmarked_folder is not None:
        speech = others(unmarked_folder)
        result["others"] = {
            "audio_s": round(speech.size / SAMPLE_RATE),
            "false": found(detector, speech),
        }
    added = np.concatenate([a - b for a, b in zip(marked, plain, strict=True)])
    result["mark_db"] = round(
        float(20 * np.log10(np.std(added) / np.std(np.concatenate(plain)))), 1
    )
    result["dnsmos_plain"] = round(float(np.mean([dnsmos(item) for item in plain])), 3)
    result["dnsmos_marked"] = round(float(np.mean([dnsmos(item) for item in marked])), 3)
    result["processor_ms_per_audio_s"] = {
        f"{rows} at a time": round(processor_ms(embedder, rows), 1) for rows in (1, 2, 4, 8)
    }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Detection, cost and sound of the watermark.")
    parser.add_argument("--texts", type=int, default=100, help="how many of the held-out texts")
    parser.add_argument("--unmarked", type=Path, help="folder of WAV files for false alarms")
    arguments = parser.parse_args()
    texts = [item.text for item in held_out()][: arguments.texts]
    sys.stdout.write(json.dumps(run(texts, arguments.unmarked), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
