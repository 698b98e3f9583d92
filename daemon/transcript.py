"""Stretches of spoken text and how much audio was heard → how much text that was. Pure.

Inside a stretch time is divided in proportion to characters, then cut back to the end of a word.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from chatterbox.api import SAMPLE_RATE

_TYPICAL_SAMPLES_PER_CHAR = SAMPLE_RATE / 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """One segment whose audio has begun; `start` and `end` are its character span."""

    text: str
    start: int
    end: int
    start_sample: int
    num_samples: int
    is_ended: bool


def num_chars_heard(stretches: Sequence[Stretch], played_samples: float) -> int:
    """The position after the last whole word within the first `played_samples` samples."""
    begun = [item for item in stretches if item.start_sample < played_samples]
    if not begun:
        return 0
    last = begun[-1]
    played_in_last = played_samples - last.start_sample
    if last.is_ended and played_in_last >= last.num_samples:
        return last.end
    fraction = played_in_last / _expected_samples(last, stretches)
    return last.start + _whole_words(last.text, int(min(1.0, fraction) * len(last.text)))


def _expected_samples(stretch: Stretch, stretches: Sequence[Stretch]) -> float:
    """How long it will be: known once it has ended, else from the pace so far."""
    if stretch.is_ended:
        return stretch.num_samples
    ended = [item for item in stretches if item.is_ended]
    num_chars = sum(len(item.text) for item in ended)
    num_samples = sum(item.num_samples for item in ended)
    pace = num_samples / num_chars if num_chars else _TYPICAL_SAMPLES_PER_CHAR
    return max(pace * len(stretch.text), stretch.num_samples + 1)


def _whole_words(text: str, num_chars: int) -> int:
    """The largest cut up to `num_chars` that ends a word; in a script without spaces, such as
    Chinese, every place does."""
    if num_chars >= len(text):
        return len(text)
    cut = num_chars
    while cut > 0 and _is_inside_word(text[cut - 1], text[cut]):
        cut -= 1
    return len(text[:cut].rstrip())


def _is_inside_word(before: str, after: str) -> bool:
    return not before.isspace() and not after.isspace() and before < "\u3000" and after < "\u3000"
