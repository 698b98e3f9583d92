"""What is understood of fast and slow speech, how it sounds and at what pitch: the model's own
`speed` beside stretching its usual speech (atempo). One JSON line last.

Theory. The model's speed places the vocoder's mel frames closer or farther apart; the waveform is
then made anew, so nothing is cut or overlapped, and F0 is found in the mel, whose pitch is as it
was. atempo overlaps pieces of the finished waveform. Both keep the pitch. Either may smear what is
short: the model by mixing neighbouring frames, atempo by joining in the middle of a sound. A
recogniser's word errors say what is lost, DNSMOS how it sounds; both judge usual speech too, and
fast speech is harder for a recogniser even from people, so only the difference counts.

    python tests/bench/speed.py [--texts 20] [--speeds 0.75,1.5]
"""

import argparse
import json
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chatterbox.api import SAMPLE_RATE, Segment, SegmentId
from chatterbox.engine import ChatterboxEngine
from chatterbox.loading import load_engine
from chatterbox.training.corpus import held_out
from chatterbox.training.recogniser import dnsmos, transcribe, word_errors, words_of
from daemon.formats.stream import FloatPcmStream
from daemon.formats.tempo import AtTempo
from tests.spoken import spoken

Samples = NDArray[np.float32]
PITCH_WINDOW = SAMPLE_RATE // 25
LOWEST_HZ, HIGHEST_HZ = 60, 400
VOICED = 0.6


def at_speed(engine: ChatterboxEngine, number: int, text: str, *, speed: float) -> Samples:
    return spoken(
        engine,
        Segment(
            id=SegmentId(number),
            text=text,
            voice=engine.info.default_voice,
            seed=number,
            options={"speed": speed},
        ),
    )


def stretched(samples: Samples, *, speed: float) -> Samples:
    encoder = AtTempo(FloatPcmStream(), tempo=speed)
    raw = encoder.begin() + encoder.encode(samples) + encoder.finish()
    return np.frombuffer(raw, "<f4").astype(np.float32)


def pitch_hz(samples: Samples) -> float:
    """The median over windows that repeat themselves, by autocorrelation."""
    shortest, longest = SAMPLE_RATE // HIGHEST_HZ, SAMPLE_RATE // LOWEST_HZ
    found = []
    for start in range(0, samples.size - PITCH_WINDOW, PITCH_WINDOW):
        window = (
            samples[start : start + PITCH_WINDOW] - samples[start : start + PITCH_WINDOW].mean()
        )
        spectrum = np.fft.rfft(window, 2 * PITCH_WINDOW)
        likeness = np.fft.irfft(np.abs(spectrum) ** 2)[:longest]
        place = shortest + int(likeness[shortest:].argmax())
        if likeness[place] > VOICED * max(likeness[0], 1e-6):
            found.append(SAMPLE_RATE / place)
    return float(np.median(found)) if found else float("nan")


def judged(texts: Sequence[str], renderings: Sequence[Samples]) -> dict[str, float]:
    errors = num_words = 0
    seconds, clean, pitches = 0.0, [], []
    for text, samples in zip(texts, renderings, strict=True):
        said = words_of(text)
        errors += word_errors(said, words_of(transcribe(samples)))
        num_words += len(said)
        seconds += samples.size / SAMPLE_RATE
        clean.append(dnsmos(samples))
        pitches.append(pitch_hz(samples))
    return {
        "word_error_rate": round(100 * errors / num_words, 1),
        "dnsmos": round(float(np.mean(clean)), 2),
        "pitch_hz": round(float(np.nanmedian(pitches)), 1),
        "seconds": round(seconds, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=20)
    parser.add_argument("--speeds", default="0.75,1.5")
    arguments = parser.parse_args()
    everything = held_out()
    step = max(1, len(everything) // arguments.texts)
    texts = [item.text for item in everything[::step]][: arguments.texts]
    engine = load_engine(None, num_slots=1)

    def said_at(speed: float) -> list[Samples]:
        return [at_speed(engine, number, text, speed=speed) for number, text in enumerate(texts)]

    usual = said_at(1.0)
    figures = {"speed 1": judged(texts, usual)}
    for speed in map(float, arguments.speeds.split(",")):
        figures[f"speed {speed:g}"] = judged(texts, said_at(speed))
        after = [stretched(samples, speed=speed) for samples in usual]
        figures[f"atempo {speed:g}"] = judged(texts, after)
    for name, row in figures.items():
        sys.stderr.write(f"{name:12} {row}\n")
    sys.stdout.write(json.dumps({"bench": "speed", "texts": len(texts), **figures}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
