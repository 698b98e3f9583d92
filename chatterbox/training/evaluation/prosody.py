"""Readings of the same texts by teacher and pupil in; how far off pauses, F0, durations and
emphasis are, out.

Everything is measured on sound: the teacher's timing says where to look in its own reading, and the
warp where to look in the pupil's.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chatterbox.training.evaluation.alignment import aligned
from chatterbox.training.evaluation.reading import STEP_S, Floats, Reading
from chatterbox.training.evaluation.timing import TextTiming

PAUSE_S = 0.09
"""A shorter silence may be the closure of a plosive."""
STRAY_PAUSE_S = 0.15
AROUND_S = 0.06
"""How far beyond a gap between words its silence may reach: warp and timing are not exact."""
FINAL_S, BEFORE_FINAL_S = 0.15, 0.45
"""The stretches of voiced speech whose difference is the final movement of a text."""
RISE_SEMITONES = 1.0
_FEWEST = 10
"""Values for which a correlation is worth its name."""

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Pause:
    """The silence at one gap between words; 0 if there is none."""

    kind: str
    theirs_s: float
    ours_s: float


@dataclass(frozen=True, slots=True)
class WordPair:
    """One word in both readings: seconds, dB and semitones; NaN where nothing is voiced."""

    is_stressed: bool
    theirs: tuple[float, float, float]
    ours: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One text."""

    theirs_s: float
    ours_s: float
    pauses: tuple[Pause, ...]
    words: tuple[WordPair, ...]
    f0: Floats
    """[2, frames]: semitones of teacher and pupil at the same moments of the text, both voiced."""
    voicing_agrees: float
    final_movement: tuple[float, float]
    is_question: bool


def _silence_at(reading: Reading, start_s: float, end_s: float, *, longer_than_s: float) -> float:
    found = reading.longest_silence_s(start_s - AROUND_S, end_s + AROUND_S)
    return found if found >= longer_than_s else 0.0


def _word(reading: Reading, start_s: float, end_s: float) -> tuple[float, float, float]:
    times = np.arange(start_s + STEP_S / 2, end_s, STEP_S)
    level = reading.at(reading.level_db, times)
    heights = reading.at(reading.semitones, times)
    heights = heights[np.isfinite(heights)]
    loud = level[np.isfinite(level)]
    power = 10 * np.log10(np.mean(10 ** (loud / 10))) if len(loud) else np.nan
    return end_s - start_s, float(power), float(heights.mean()) if len(heights) else np.nan


def final_movement(reading: Reading) -> float:
    """Semitones by which the last voiced stretch lies above the one before it; NaN if there is too
    little of either.
    """
    heights = reading.semitones[np.isfinite(reading.semitones)]
    last, before = round(FINAL_S / STEP_S), round(BEFORE_FINAL_S / STEP_S)
    if len(heights) < last + 5:
        return float("nan")
    # The median: at the end of speech trackers halve and double.
    return float(np.median(heights[-last:]) - np.median(heights[-before:-last]))


def compare(ours: Reading, theirs: Reading, timing: TextTiming, text: str) -> Comparison:
    """`theirs` is the teacher's, and `timing` is of it."""
    to_ours = aligned(ours, theirs)
    length_s = theirs.length_s
    pauses = []
    for gap in timing.gaps:
        shortest = STRAY_PAUSE_S if gap.kind == "plain" else PAUSE_S
        start_s, end_s = (float(t) for t in to_ours(np.array([gap.start_s, gap.end_s])))
        pauses.append(
            Pause(
                gap.kind,
                _silence_at(theirs, gap.start_s, gap.end_s, longer_than_s=shortest),
                _silence_at(ours, start_s, end_s, longer_than_s=shortest),
            )
        )
    words = []
    for word in timing.words:
        # The last phoneme may last beyond the sound, whose silent end is cut.
        span_s = np.minimum([word.start_s, word.end_s], length_s)
        start_s, end_s = (float(t) for t in to_ours(span_s))
        pair = _word(theirs, float(span_s[0]), float(span_s[1])), _word(ours, start_s, end_s)
        words.append(WordPair(word.is_stressed, *pair))
    times = np.arange(STEP_S / 2, length_s, STEP_S)
    heights = np.stack(
        [theirs.at(theirs.semitones, times), ours.at(ours.semitones, to_ours(times))]
    )
    voiced = np.isfinite(heights)
    return Comparison(
        theirs_s=length_s,
        ours_s=ours.length_s,
        pauses=tuple(pauses),
        words=tuple(words),
        f0=heights[:, voiced.all(0)],
        voicing_agrees=float((voiced[0] == voiced[1]).mean()),
        final_movement=(final_movement(theirs), final_movement(ours)),
        is_question=text.endswith("?"),
    )


@dataclass(slots=True)
class Prosody:
    """All texts of one system."""

    texts: list[Comparison] = field(default_factory=list)

    def summary(self) -> dict[str, Figures]:
        return {
            "pauses_at_commas": self._pauses("comma"),
            "pauses_at_stops": self._pauses("stop"),
            "pauses_elsewhere": self._stray_pauses(),
            "f0": self._f0(),
            "questions": self._questions(),
            "durations": self._durations(),
            "emphasis": self._emphasis(),
        }

    def _pauses(self, kind: str) -> Figures:
        found = [p for text in self.texts for p in text.pauses if p.kind == kind]
        theirs, ours = (
            np.array([getattr(p, who) for p in found]) for who in ("theirs_s", "ours_s")
        )
        return {
            "places": len(found),
            "teacher_share": _mean(theirs > 0),
            "share": _mean(ours > 0),
            "teacher_ms": 1000 * _mean(theirs[theirs > 0]),
            "ms": 1000 * _mean(ours[ours > 0]),
            "off_by_ms": 1000 * _mean(np.abs(ours - theirs)),
            "agreement": _mean((ours > 0) == (theirs > 0)),
        }

    def _stray_pauses(self) -> Figures:
        found = [p for text in self.texts for p in text.pauses if p.kind == "plain"]
        return {
            "places": len(found),
            "teacher_percent": 100 * _mean(np.array([p.theirs_s > 0 for p in found])),
            "percent": 100 * _mean(np.array([p.ours_s > 0 for p in found])),
        }

    def _f0(self) -> Figures:
        both = np.concatenate([np.zeros((2, 0)), *(text.f0 for text in self.texts)], axis=1)
        within = [text.f0 for text in self.texts if text.f0.shape[1] >= _FEWEST]
        weights = [float(item.shape[1]) for item in within]
        correlations = [_correlation(item) for item in within]
        figures = {}
        for name, row in zip(("teacher_", ""), both, strict=True):
            figures[f"{name}mean_hz"] = 100 * 2 ** (_mean(row) / 12)
            figures[f"{name}std_st"] = float(row.std()) if row.size else float("nan")
            low, high = np.percentile(row, [5, 95]) if row.size else (np.nan, np.nan)
            figures[f"{name}range_st"] = float(high - low)
        return {
            **figures,
            "rmse_st": float(np.sqrt(_mean((both[0] - both[1]) ** 2))),
            "correlation": float(np.average(correlations, weights=weights))
            if within
            else float("nan"),
            "voicing_agreement": _mean(np.array([text.voicing_agrees for text in self.texts])),
        }

    def _questions(self) -> Figures:
        asked = [text.final_movement for text in self.texts if text.is_question]
        moves = np.array([pair for pair in asked if np.isfinite(pair).all()]).reshape(-1, 2)
        rises = moves > RISE_SEMITONES
        return {
            "texts": len(moves),
            "teacher_rises": int(rises[:, 0].sum()),
            "rises": int(rises[:, 1].sum()),
            "agreement": _mean(rises[:, 0] == rises[:, 1]),
            "teacher_movement_st": _mean(moves[:, 0]),
            "movement_st": _mean(moves[:, 1]),
            "off_by_st": _mean(np.abs(moves[:, 1] - moves[:, 0])),
        }

    def _durations(self) -> Figures:
        pairs = np.array([(w.theirs[0], w.ours[0]) for t in self.texts for w in t.words])
        logs = np.log(np.maximum(pairs.reshape(-1, 2), STEP_S))
        total = sum(text.ours_s for text in self.texts), sum(text.theirs_s for text in self.texts)
        return {
            "total_ratio": total[0] / max(total[1], STEP_S),
            "word_ratio": float(np.exp(_mean(logs[:, 1] - logs[:, 0]))),
            "word_off_by_percent": 100 * _mean(np.expm1(np.abs(logs[:, 1] - logs[:, 0]))),
            "word_correlation": _correlation(logs.T),
        }

    def _emphasis(self) -> Figures:
        """Stressed words against the others of their text, in loudness and height."""
        figures: Figures = {}
        for column, unit in ((1, "db"), (2, "st")):
            contrasts, deviations = [], []
            for text in self.texts:
                pairs = np.array([(w.theirs[column], w.ours[column]) for w in text.words])
                pairs = pairs.reshape(-1, 2)
                stressed = np.array([w.is_stressed for w in text.words], bool)
                known = np.isfinite(pairs).all(1)
                pairs, stressed = pairs[known], stressed[known]
                if stressed.any() and not stressed.all():
                    contrasts.append(pairs[stressed].mean(0) - pairs[~stressed].mean(0))
                if len(pairs) > 1:
                    deviations.append(pairs - pairs.mean(0))
            mean = np.stack(contrasts).mean(0) if contrasts else np.full(2, np.nan)
            pooled = np.concatenate([np.zeros((0, 2)), *deviations]).T
            figures[f"teacher_stressed_{unit}"] = float(mean[0])
            figures[f"stressed_{unit}"] = float(mean[1])
            figures[f"word_{unit}_correlation"] = _correlation(pooled)
        return figures


def _mean(values: NDArray[Any]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _correlation(pair: Floats) -> float:
    """Pearson's, of two rows."""
    if pair.shape[1] < _FEWEST or not (pair.std(1) > 0).all():
        return float("nan")
    return float(np.corrcoef(pair[0], pair[1]).flat[1])
