"""A text as written and the words that are said for it in; which of the former each of the latter
stands for, out. Pure.

Each run of characters without white space is also read alone. From both ends of the text inwards,
where that gives what was said, places are certain; in between ("May" and "5" read alone are no
date) the two rows of words are aligned.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

Span = tuple[int, int]

_RUN: Final = re.compile(r"\S+")
_PLAIN: Final = re.compile(r"[A-Za-z']+[,.!?;:]*")
_MARKS: Final = re.compile(r"[^\w]+")
_MISSING: Final = 0.7
"""What a word on one side only costs; a pair of words costs at most 1."""


@dataclass(frozen=True, slots=True)
class Place:
    """Runs of the text, as character spans, that are said by words `first` up to `last`: mostly one
    run; several where that is not so ("CHF 20" is "twenty Swiss francs").
    """

    runs: tuple[Span, ...]
    first: int
    last: int


def words_of(spoken: str) -> list[str]:
    """The words of a spoken text, with the marks that touch them."""
    return [word for word in spoken.split() if any(map(str.isalnum, word))]


def places(text: str, said: Sequence[str], read_alone: Callable[[str], str]) -> list[Place]:
    """In order; every word said belongs to one place, and every run that says something is in one.
    `read_alone` gives what is said for one run.
    """
    if not said:
        return []
    runs = [_Run.read(text, found.span(), read_alone) for found in _RUN.finditer(text)]
    counts = _words_for(runs, [_bare(word) for word in said])
    found: list[Place] = []
    first = 0
    before: list[Span] = []
    """Runs without words that share those of the next run."""
    for run, count in zip(runs, counts, strict=True):
        if count:
            is_longer = count > len(run.words) or not found
            if not is_longer:
                found[-1] = replace(found[-1], runs=(*found[-1].runs, *before))
            found.append(
                Place((*before, run.span) if is_longer else (run.span,), first, first + count)
            )
            first += count
            before = []
        elif run.words:
            before.append(run.span)
    found[-1] = replace(found[-1], runs=(*found[-1].runs, *before))
    return found


@dataclass(frozen=True, slots=True)
class _Run:
    span: Span
    words: tuple[str, ...]
    """What is said for it alone."""

    @classmethod
    def read(cls, text: str, span: Span, read_alone: Callable[[str], str]) -> "_Run":
        written = text[slice(*span)]
        spoken = written if _PLAIN.fullmatch(written) else read_alone(written)
        return cls(span, tuple(map(_bare, words_of(spoken))))


def _bare(word: str) -> str:
    return _MARKS.sub("", word).lower()


def _words_for(runs: Sequence[_Run], said: Sequence[str]) -> list[int]:
    """How many of the words said belong to each run."""
    counts = [0] * len(runs)
    left, first = 0, 0
    while left < len(runs) and _starts_with(said[first:], runs[left].words):
        counts[left] = len(runs[left].words)
        first += counts[left]
        left += 1
    right, last = len(runs), len(said)
    while right > left and _starts_with(said[first:last][::-1], runs[right - 1].words[::-1]):
        right -= 1
        counts[right] = len(runs[right].words)
        last -= counts[right]
    if first < last:  # silent runs beside what is left may be said together with it
        while left and not runs[left - 1].words:
            left -= 1
        while right < len(runs) and not runs[right].words:
            right += 1
        if left == right:  # all runs are taken, words are left over: those of the nearest
            nearest = left - 1 if left else right
            counts[nearest] += last - first
        else:
            for owner in _owners(runs[left:right], said[first:last]):
                counts[left + owner] += 1
    return counts


def _starts_with(said: Sequence[str], words: Sequence[str]) -> bool:
    return list(said[: len(words)]) == list(words)


def _owners(runs: Sequence[_Run], said: Sequence[str]) -> list[int]:
    """The run of each word, by the cheapest alignment with what the runs say alone."""
    alone = [(word, index) for index, run in enumerate(runs) for word in run.words]
    rows = [[_MISSING * j for j in range(len(alone) + 1)]]
    for word in said:
        row = [rows[-1][0] + _MISSING]
        for j, (other, _) in enumerate(alone):
            paired = rows[-1][j] + _distance(word, other)
            row.append(min(paired, rows[-1][j + 1] + _MISSING, row[j] + _MISSING))
        rows.append(row)
    owners: list[int | None] = [None] * len(said)
    i, j = len(said), len(alone)
    while i and j:
        word, (other, owner) = said[i - 1], alone[j - 1]
        if rows[i][j] == rows[i - 1][j - 1] + _distance(word, other):
            i, j = i - 1, j - 1
            owners[i] = owner
        elif rows[i][j] == rows[i - 1][j] + _MISSING:
            i -= 1
        else:
            j -= 1
    return _filled(owners, runs)


def _distance(word: str, other: str) -> float:
    if word == other:
        return 0.0
    shared = 0
    while shared < min(len(word), len(other)) and word[shared] == other[shared]:
        shared += 1
    return 1.0 - 0.9 * shared / max(len(word), len(other))


def _filled(owners: Sequence[int | None], runs: Sequence[_Run]) -> list[int]:
    """A word without an owner belongs to a silent run between its neighbours' (the "-" of "3 - 2"
    is "to"), else to the run before, else to the one after.
    """
    known = [owner for owner in owners if owner is not None]
    filled: list[int] = []
    for index, owner in enumerate(owners):
        if owner is None:
            after = next((later for later in owners[index:] if later is not None), len(runs))
            before = filled[-1] if filled else -1
            silent = [k for k in range(before + 1, after) if not runs[k].words]
            if silent:
                owner = silent[0]
            elif before >= 0:
                owner = before
            else:
                owner = known[0] if known else 0
        filled.append(owner)
    return filled
