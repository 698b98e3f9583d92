"""One system's readings of the held-out texts in; words, cleanliness, speed and prosody out."""

from collections import defaultdict
from dataclasses import dataclass, field

from chatterbox.api import SAMPLE_RATE
from chatterbox.training.corpus import HeldOutText
from chatterbox.training.evaluation.prosody import Prosody, compare
from chatterbox.training.evaluation.reading import Reading
from chatterbox.training.evaluation.timing import TextTiming
from chatterbox.training.recogniser import (
    Samples,
    WordErrors,
    compared,
    dnsmos,
    transcribe,
    words_of,
)

SHORTEST_SAMPLES = SAMPLE_RATE // 20
TOO_SHORT, TOO_LONG = 0.6, 1.6
"""Lengths relative to the teacher's beyond which a text was cut off or ran away for certain."""
RATHER_SHORT, RATHER_LONG = 0.9, 1.15
"""The same, if the recogniser also misses the last words, or hears more after them."""
MISSED_WORDS, ADDED_WORDS = 2, 3
RUNAWAY_WARNING = "runaway_cut"


@dataclass(frozen=True, slots=True)
class TaughtText:
    """A held-out text with the reading to learn from."""

    item: HeldOutText
    seed: int
    reading: Reading
    timing: TextTiming
    made_s: float
    processor_s: float


@dataclass(frozen=True, slots=True)
class Take:
    """What a system made of one text."""

    samples: Samples
    made_s: float
    processor_s: float
    warnings: tuple[str, ...] = ()


def is_truncated(relative_length: float, words: WordErrors) -> bool:
    """Whether the end of the text is not in its speech."""
    return relative_length < TOO_SHORT or (
        relative_length < RATHER_SHORT and words.missed_at_end >= MISSED_WORDS
    )


def is_runaway(relative_length: float, words: WordErrors, warnings: tuple[str, ...]) -> bool:
    """Whether the speech goes on after the end of the text."""
    return (
        RUNAWAY_WARNING in warnings
        or relative_length > TOO_LONG
        or (relative_length > RATHER_LONG and words.added_at_end >= ADDED_WORDS)
    )


@dataclass(slots=True)
class Tally:
    """Sums over texts."""

    words: int = 0
    errors: int = 0
    texts: int = 0
    mos: float = 0.0
    audio_s: float = 0.0
    made_s: float = 0.0
    processor_s: float = 0.0
    truncated: int = 0
    runaway: int = 0

    def summary(self) -> dict[str, float]:
        return {
            "wer_percent": 100 * self.errors / max(1, self.words),
            "dnsmos": self.mos / max(1, self.texts),
            "real_time_factor": self.made_s / max(1e-9, self.audio_s),
            "processor_s_per_audio_s": self.processor_s / max(1e-9, self.audio_s),
            "truncated": self.truncated,
            "runaway": self.runaway,
            "texts": self.texts,
            "words": self.words,
        }


@dataclass(slots=True)
class Report:
    """One system's results, in all and by stratum and kind."""

    total: Tally = field(default_factory=Tally)
    strata: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    kinds: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    prosody: Prosody = field(default_factory=Prosody)
    misheard: list[tuple[str, str]] = field(default_factory=list)
    readings: dict[str, Reading] = field(default_factory=dict)
    mos: list[float] = field(default_factory=list)

    def add(self, taught: TaughtText, take: Take) -> None:
        item, samples = taught.item, take.samples
        is_heard = len(samples) > SHORTEST_SAMPLES
        heard = transcribe(samples) if is_heard else ""
        said = words_of(item.text)
        words = compared(said, words_of(heard))
        mos = dnsmos(samples) if is_heard else 1.0
        audio_s = len(samples) / SAMPLE_RATE
        relative = audio_s / taught.reading.length_s
        for tally in (self.total, self.strata[item.stratum], self.kinds[item.kind]):
            tally.words += len(said)
            tally.errors += words.errors
            tally.texts += 1
            tally.mos += mos
            tally.audio_s += audio_s
            tally.made_s += take.made_s
            tally.processor_s += take.processor_s
            tally.truncated += is_truncated(relative, words)
            tally.runaway += is_runaway(relative, words, take.warnings)
        self.mos.append(mos)
        reading = self.readings[item.text] = Reading(samples)
        if is_heard:
            comparison = compare(reading, taught.reading, taught.timing, item.text)
            self.prosody.texts.append(comparison)
        if words.errors:
            self.misheard.append((item.text, heard))

    def figures(self) -> dict[str, object]:
        return {
            **self.total.summary(),
            "strata": {name: tally.summary() for name, tally in self.strata.items()},
            "wer_percent_by_kind": {
                name: tally.summary()["wer_percent"] for name, tally in self.kinds.items()
            },
            "prosody": self.prosody.summary(),
        }
