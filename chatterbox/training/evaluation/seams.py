"""Samples and the places where windows join in; whether the joins can be heard, out. numpy only.

Each place gets two levels: how much energy the second difference has there (a click), and how much
the spectrum changes there (a jump of colour). Each is set against the same levels in the tenth of a
second to both sides. Speech is full of places that top 95 % of their surroundings, and windows tend
to join where something begins; so four more kinds of places are judged: beside the joins, at the
same moments of the teacher's speech, and at the joins' own places in two renderings without joins,
the second from another seed's noise. Between those two, whatever stands out is the noise's doing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import comb

import numpy as np
from numpy.typing import NDArray

from chatterbox.api import SAMPLE_RATE
from chatterbox.training.recogniser import Samples

AROUND = SAMPLE_RATE // 10
"""How far the surroundings reach."""
APART = 3 * SAMPLE_RATE // 200
"""Nearer to a join than 15 ms, a place is part of it."""
STEP = SAMPLE_RATE // 200
CLICK = SAMPLE_RATE // 200
FLUX = SAMPLE_RATE // 50
FLUX_BANDS = 24
AUDIBLE_DB = -50.0
"""Below this level around a join there is nothing to hear."""
QUANTILE = 0.95
STANDS_OUT_DB = 3.0
ELSEWHERE = tuple(k * SAMPLE_RATE // 1000 for k in (-80, -60, 60, 80))
"""Where, from a join, speech is judged that has no join."""
_FEWEST_AROUND = 10

Floats = NDArray[np.float64]


def click_db(samples: Samples, place: int) -> float:
    """Energy of the second difference in the 5 ms around a sample."""
    part = samples[place - CLICK // 2 - 2 : place + CLICK // 2].astype(np.float64)
    return float(10 * np.log10(np.mean(np.diff(part, 2) ** 2) + 1e-12))


def flux_db(samples: Samples, place: int) -> float:
    """Mean change of the spectrum from the 20 ms before a sample to the 20 ms after it."""
    hann = np.hanning(FLUX)
    sides = np.stack([samples[place - FLUX : place], samples[place : place + FLUX]])
    power = np.abs(np.fft.rfft(sides * hann, axis=1)[:, 1:]) ** 2
    bands = np.stack([band.mean(1) for band in np.array_split(power, FLUX_BANDS, axis=1)], axis=1)
    before, after = 10 * np.log10(bands + 1e-7)
    return float(np.abs(after - before).mean())


LEVELS = {"click": click_db, "flux": flux_db}


@dataclass(frozen=True, slots=True)
class Place:
    """One level at one place."""

    level_db: float
    over_db: float
    """Above the median of the surroundings."""
    is_loud: bool
    """Above 95 % of the surroundings."""


def is_audible(samples: Samples, place: int) -> bool:
    """Whether there is anything to hear in the tenth of a second around a sample."""
    part = samples[max(0, place - AROUND // 2) : place + AROUND // 2].astype(np.float64)
    return bool(10 * np.log10(np.mean(part**2) + 1e-12) > AUDIBLE_DB)


def judged(samples: Samples, place: int, joins: Iterable[int]) -> dict[str, Place] | None:
    """Both levels at a place, against surroundings that no join is near; None where it is silent,
    or too near to an end.
    """
    near = [join for join in joins if abs(join - place) < AROUND + APART]
    spots = [
        spot
        for spot in range(place - AROUND, place + AROUND + 1, STEP)
        if FLUX <= spot <= len(samples) - FLUX
        and abs(spot - place) >= APART
        and all(abs(spot - join) >= APART for join in near)
    ]
    inside = FLUX <= place <= len(samples) - FLUX
    if not inside or len(spots) < _FEWEST_AROUND or not is_audible(samples, place):
        return None
    found = {}
    for name, level in LEVELS.items():
        around = np.array([level(samples, spot) for spot in spots])
        here = level(samples, place)
        is_loud = here > float(np.quantile(around, QUANTILE))
        found[name] = Place(here, here - float(np.median(around)), is_loud)
    return found


@dataclass(slots=True)
class Seams:
    """The joins of one kind over all texts."""

    joins: list[dict[str, Place]] = field(default_factory=list)
    wholes: list[dict[str, Place]] = field(default_factory=list)
    """The same places, rendered without joins."""
    others: list[dict[str, Place]] = field(default_factory=list)
    """The same again, from another seed's noise."""
    elsewhere: list[dict[str, Place]] = field(default_factory=list)
    teachers: list[dict[str, Place]] = field(default_factory=list)

    def add(
        self,
        samples: Samples,
        *,
        whole: Samples,
        other: Samples,
        joins: Sequence[int],
        every_join: Sequence[int],
    ) -> None:
        """`whole` and `other` are rendered without joins, `other` from another seed's noise;
        `every_join` are those of all kinds: no surroundings are taken near them.
        """
        for join in joins:
            here, there, third = (
                judged(rendering, join, every_join) for rendering in (samples, whole, other)
            )
            if here is None or there is None or third is None:
                continue
            self.joins.append(here)
            self.wholes.append(there)
            self.others.append(third)
            for offset in ELSEWHERE:
                place = join + offset
                if all(abs(place - other) >= APART for other in every_join):
                    found = judged(samples, place, every_join)
                    self.elsewhere += [found] if found is not None else []

    def add_teacher(self, samples: Samples, places: Sequence[int]) -> None:
        """Where the teacher says what the joins fall on."""
        found = (judged(samples, place, ()) for place in places)
        self.teachers += [places for places in found if places is not None]

    def summary(self) -> dict[str, dict[str, float]]:
        return {name: self._figures(name) for name in LEVELS}

    def _figures(self, name: str) -> dict[str, float]:
        joins, wholes, others, elsewhere, teachers = (
            [place[name] for place in places]
            for places in (self.joins, self.wholes, self.others, self.elsewhere, self.teachers)
        )
        usual = max(_loud_share(elsewhere), _loud_share(teachers), 1 - QUANTILE)
        return {
            "joins": len(joins),
            "over_surroundings_db": _median([place.over_db for place in joins]),
            "over_surroundings_elsewhere_db": _median([place.over_db for place in elsewhere]),
            "loud_share": _loud_share(joins),
            "loud_share_elsewhere": _loud_share(elsewhere),
            "loud_share_teacher": _loud_share(teachers),
            "loud_share_whole": _loud_share(wholes),
            "chance": at_least(sum(place.is_loud for place in joins), len(joins), usual),
            "worst_over_whole_db": max(_over(joins, wholes), default=0.0),
            "standing_out": _num_standing_out(joins, wholes),
            "standing_out_by_noise": _num_standing_out(others, wholes),
        }


def _num_standing_out(places: Sequence[Place], wholes: Sequence[Place]) -> int:
    """How many are loud, and louder than the same place in the whole rendering."""
    over_whole = zip(places, _over(places, wholes), strict=True)
    return sum(place.is_loud and over > STANDS_OUT_DB for place, over in over_whole)


def _over(places: Sequence[Place], wholes: Sequence[Place]) -> list[float]:
    return [a.level_db - b.level_db for a, b in zip(places, wholes, strict=True)]


def _loud_share(places: Sequence[Place]) -> float:
    return sum(place.is_loud for place in places) / max(1, len(places))


def at_least(count: int, tries: int, share: float) -> float:
    """Probability of `count` or more of `tries` when each has probability `share`."""
    terms = (comb(tries, k) * share**k * (1 - share) ** (tries - k) for k in range(count))
    return max(0.0, 1.0 - sum(terms))


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else 0.0
