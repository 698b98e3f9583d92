"""Renditions of the engine in; what its windows cost against rendering each text whole, out."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from chatterbox.api import SAMPLE_RATE
from chatterbox.training.evaluation.alignment import aligned
from chatterbox.training.evaluation.reading import Reading
from chatterbox.training.evaluation.rendition import Rendition, WholeRendering
from chatterbox.training.evaluation.seams import Seams
from chatterbox.training.recogniser import Samples

DB_PER_NEPER = 20 / np.log(10)
_OTHER_SEED = 1_000


@dataclass(frozen=True, slots=True)
class Joined:
    """One text with and without windows."""

    samples: Samples
    whole: Samples
    other: Samples
    """Whole too, from another seed's noise."""
    joins: dict[str, tuple[int, ...]]
    """Of mel and of samples."""
    teacher: Samples
    teacher_places: dict[str, tuple[int, ...]]
    """Where the teacher says what the joins fall on."""


@dataclass(slots=True)
class Streaming:
    """All texts."""

    texts: list[Joined] = field(default_factory=list)
    _distances: list[float] = field(default_factory=list)
    _noise_distances: list[float] = field(default_factory=list)
    _frames: list[int] = field(default_factory=list)

    def add(self, rendition: Rendition, whole: WholeRendering, teacher: Reading) -> None:
        tokens, seed = rendition.tokens, rendition.seed
        if not tokens.shape[1]:
            return
        samples, mel = whole.samples(tokens, seed=seed)
        other, other_mel = whole.samples(tokens, seed=seed + _OTHER_SEED)
        self._distances.append(mel_distance_db(rendition.mel, mel))
        self._noise_distances.append(mel_distance_db(other_mel, mel))
        self._frames.append(len(mel))
        joins = {"mel": rendition.mel_joins, "samples": rendition.sample_joins}
        to_teacher = aligned(teacher, Reading(rendition.samples))
        places = {
            kind: tuple(
                round(float(time_s) * SAMPLE_RATE)
                for time_s in to_teacher(np.array(joins[kind], np.float64) / SAMPLE_RATE)
            )
            for kind in joins
        }
        self.texts.append(Joined(rendition.samples, samples, other, joins, teacher.samples, places))

    def figures(self) -> dict[str, object]:
        """`noise_distance_db` is what another seed's noise changes: a scale for `distance_db`."""
        kinds = {"mel": Seams(), "samples": Seams()}
        for text in self.texts:
            every = tuple(join for joins in text.joins.values() for join in joins)
            for kind, seams in kinds.items():
                seams.add(
                    text.samples,
                    whole=text.whole,
                    other=text.other,
                    joins=text.joins[kind],
                    every_join=every,
                )
                seams.add_teacher(text.teacher, text.teacher_places[kind])
        return {
            "seams": {kind: seams.summary() for kind, seams in kinds.items()},
            "streamed_against_whole": {
                "distance_db": self._mean(self._distances),
                "noise_distance_db": self._mean(self._noise_distances),
            },
        }

    def _mean(self, values: list[float]) -> float:
        return float(np.average(values, weights=self._frames)) if values else 0.0


def mel_distance_db(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean distance of two log mels over frames and bands."""
    return float(DB_PER_NEPER * np.abs(one - other).mean())
