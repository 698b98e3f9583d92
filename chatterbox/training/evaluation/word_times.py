"""When words are heard, by several witnesses, in; how far apart they are out. numpy only.

Witnesses: the teacher's own durations (exact), a recogniser, the names of the speech tokens, T3's
attention, an estimate.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

from chatterbox.config import TOKEN_RATE
from chatterbox.text.normalise import normalise
from chatterbox.text.places import words_of
from chatterbox.training.recogniser import HeardWord

SKIPPED_LOG = -2.0
"""Price of a text token that no speech token attends to most: they are shorter than one."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One word, bare: small letters alone."""

    text: str
    start_s: float
    end_s: float


def bare(word: str) -> str:
    return "".join(char for char in word.lower() if char.isalnum())


def heard(words: Iterable[HeardWord]) -> list[Timed]:
    """Of a recogniser's words those that are said as one word."""
    found = []
    for word in words:
        said = words_of(normalise(word.text).text)
        if len(said) == 1:
            found.append(Timed(bare(said[0]), word.start_s, word.end_s))
    return found


def pairs(told: Sequence[Timed], other: Sequence[Timed]) -> list[tuple[Timed, Timed]]:
    """The same words of two rows, in order."""
    matcher = SequenceMatcher(
        None, [word.text for word in told], [word.text for word in other], autojunk=False
    )
    return [
        (told[block.a + k], other[block.b + k])
        for block in matcher.get_matching_blocks()
        for k in range(block.size)
    ]


@dataclass(slots=True)
class Errors:
    """How far one witness is from another."""

    starts_ms: list[float] = field(default_factory=list)
    ends_ms: list[float] = field(default_factory=list)

    def add(self, told: Sequence[Timed], truth: Sequence[Timed]) -> None:
        for word, true in pairs(told, truth):
            self.starts_ms.append(1000 * (word.start_s - true.start_s))
            self.ends_ms.append(1000 * (word.end_s - true.end_s))

    def figures(self) -> dict[str, float]:
        """Median and 95th percentile of what they are off; the median with its sign is a habit that
        a constant would cure.
        """
        found: dict[str, float] = {"words": len(self.starts_ms)}
        for name, errors in (("start", self.starts_ms), ("end", self.ends_ms)):
            sizes = np.abs(errors)
            found[f"{name}_p50_ms"] = round(float(np.median(sizes)), 1)
            found[f"{name}_p95_ms"] = round(float(np.percentile(sizes, 95)), 1)
            found[f"{name}_late_ms"] = round(float(np.median(errors)), 1)
        return found


def ends_by_attention(weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """[speech tokens, text tokens] logarithms of one head → when each text token ends, in seconds:
    the likeliest way through the text that never goes back.
    """
    num_speech, num_text = weights.shape
    index = np.arange(num_text)
    skips = SKIPPED_LOG * index
    score = weights[0] + skips
    came_from = np.zeros((num_speech, num_text), np.int64)
    for step in range(1, num_speech):
        best = np.maximum.accumulate(score - skips)
        where = np.maximum.accumulate(np.where(score - skips == best, index, 0))
        gone_on = np.full(num_text, -np.inf)
        gone_on[1:] = best[:-1] + skips[:-1]
        stays = score >= gone_on
        came_from[step] = np.where(stays, index, np.concatenate([[0], where[:-1]]))
        score = np.where(stays, score, gone_on) + weights[step]
    place = int((score + skips[::-1]).argmax())
    ends = np.full(num_text, float(num_speech))
    for step in range(num_speech - 1, 0, -1):
        before = int(came_from[step][place])
        ends[before:place] = step
        place = before
    ends[:place] = 0.0
    return ends / TOKEN_RATE
