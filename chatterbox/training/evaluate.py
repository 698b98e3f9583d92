"""The held-out texts in, a table of word errors, DNSMOS and speed out; the last line is JSON.

Systems: `engine` speaks through the real engine (the checkpoint alone is needed); `teacher` is what
it learned from; `vocoder` and `tokens` go from the teacher's mel and from its true tokens (they
need the training state).
"""

import argparse
import json
import sys
import time
import wave
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from chatterbox.api import SAMPLE_RATE, Segment, SegmentId, SlotIndex
from chatterbox.training.corpus import HeldOutText, held_out
from chatterbox.training.recogniser import (
    Samples,
    Speaker,
    dnsmos,
    transcribe,
    word_errors,
    words_of,
)

"""(text, seed) → 24 kHz samples."""
TOO_SHORT, TOO_LONG = 0.6, 1.6
"""Lengths relative to the teacher's beyond which a text was cut off or ran away."""


@dataclass(slots=True)
class Tally:
    """Sums over texts."""

    words: int = 0
    errors: int = 0
    texts: int = 0
    mos: float = 0.0
    audio_s: float = 0.0
    made_s: float = 0.0
    truncated: int = 0
    runaway: int = 0

    def summary(self) -> dict[str, float]:
        return {
            "wer_percent": round(100 * self.errors / max(1, self.words), 2),
            "dnsmos": round(self.mos / max(1, self.texts), 3),
            "real_time_factor": round(self.made_s / max(1e-9, self.audio_s), 4),
            "truncated": self.truncated,
            "runaway": self.runaway,
            "texts": self.texts,
            "words": self.words,
        }


@dataclass(slots=True)
class Report:
    """One system's results, in all and by stratum."""

    total: Tally = field(default_factory=Tally)
    strata: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    misheard: list[tuple[str, str]] = field(default_factory=list)

    def add(self, item: HeldOutText, samples: Samples, made_s: float, teacher_s: float) -> None:
        heard = transcribe(samples) if len(samples) > SAMPLE_RATE // 20 else ""
        said = words_of(item.text)
        errors = word_errors(said, words_of(heard))
        mos = dnsmos(samples) if len(samples) > SAMPLE_RATE // 20 else 1.0
        relative = len(samples) / SAMPLE_RATE / teacher_s
        for tally in (self.total, self.strata[item.stratum]):
            tally.words += len(said)
            tally.errors += errors
            tally.texts += 1
            tally.mos += mos
            tally.audio_s += len(samples) / SAMPLE_RATE
            tally.made_s += made_s
            tally.truncated += relative < TOO_SHORT
            tally.runaway += relative > TOO_LONG
        if errors:
            self.misheard.append((item.text, heard))


def engine_speaker(model: str | None, options: dict[str, float]) -> Speaker:
    """The checkpoint through the engine, one segment at a time."""
    from chatterbox.loading import load_engine

    engine = load_engine(model, num_slots=1, threads=1)
    engine.warm_up()
    slot = SlotIndex(0)

    def speak(text: str, seed: int) -> Samples:
        voice = engine.info.default_voice
        engine.start(
            slot, Segment(id=SegmentId(seed), text=text, voice=voice, seed=seed, options=options)
        )
        parts: list[Samples] = []
        last = False
        while not last:
            for event in engine.step([slot]):
                parts.append(getattr(event, "samples", np.zeros(0, np.float32)))
                last = (
                    last
                    or getattr(event, "is_last", False)
                    or type(event).__name__ == "SegmentFailed"
                )
        engine.release(slot)
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    return speak


def teacher_speaker() -> Speaker:
    from chatterbox.training.teacher import Teacher

    teacher = Teacher()

    def speak(text: str, seed: int) -> Samples:
        return teacher.speak(text, seed=seed).wave.astype(np.float32) / np.float32(32768)

    return speak


def _write_wav(path: Path, samples: Samples) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def evaluate(
    speak: Speaker, texts: tuple[HeldOutText, ...], lengths_s: dict[str, float], keep: Path | None
) -> Report:
    """Speak and judge every text; the wave files go to `keep`."""
    report = Report()
    for number, item in enumerate(texts):
        start = time.perf_counter()
        samples = speak(item.text, number)
        made_s = time.perf_counter() - start
        report.add(item, samples, made_s, lengths_s[item.text])
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            _write_wav(keep / f"{number:03d}-{item.stratum}.wav", samples)
    return report


COLUMNS = ("WER %", "DNSMOS", "RTF", "cut", "runaway", "texts")
KEYS = ("wer_percent", "dnsmos", "real_time_factor", "truncated", "runaway", "texts")


def _table(reports: dict[str, Report]) -> str:
    lines = ["system     stratum    " + " ".join(f"{column:>8}" for column in COLUMNS)]
    for name, report in reports.items():
        for stratum, tally in {**report.strata, "all": report.total}.items():
            row = tally.summary()
            lines.append(f"{name:10} {stratum:10} " + " ".join(f"{row[key]:8g}" for key in KEYS))
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    made = argparse.ArgumentParser(
        prog="python -m chatterbox.training.evaluate", description=__doc__
    )
    made.add_argument("--model", help="checkpoint folder; default: the bundled one")
    made.add_argument(
        "--systems", default="teacher,engine", help="of teacher, vocoder, tokens, engine"
    )
    made.add_argument(
        "--work", type=Path, default=Path("build/training"), help="for vocoder and tokens"
    )
    made.add_argument("--every", type=int, default=1, help="judge only every n-th text")
    made.add_argument("--keep", type=Path, help="folder for the wave files")
    made.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of the engine"
    )
    made.add_argument("--misheard", action="store_true", help="list what was heard wrongly")
    return made.parse_args()


def main() -> None:
    """Judge the systems that were asked for."""
    arguments = _arguments()
    options = {name: float(value) for name, value in (pair.split("=") for pair in arguments.option)}
    texts = held_out()[:: arguments.every]
    teacher = teacher_speaker()
    lengths_s = {item.text: len(teacher(item.text, 0)) / SAMPLE_RATE for item in texts}
    reports: dict[str, Report] = {}
    for name in arguments.systems.split(","):
        if name == "teacher":
            speak = teacher
        elif name == "engine":
            speak = engine_speaker(arguments.model, options)
        else:
            from chatterbox.training.resynthesis import resynthesis_speaker

            speak = resynthesis_speaker(name, arguments.model, arguments.work)
        keep = arguments.keep / name if arguments.keep else None
        reports[name] = evaluate(speak, texts, lengths_s, keep)
        if arguments.misheard:
            for said, heard in reports[name].misheard:
                sys.stderr.write(f"{name}: {said}\n{'':{len(name)}}  {heard}\n")
    sys.stdout.write(_table(reports) + "\n")
    sys.stdout.write(
        json.dumps({name: report.total.summary() for name, report in reports.items()}) + "\n"
    )


if __name__ == "__main__":
    main()
