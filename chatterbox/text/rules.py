"""A text and a list of rewriting rules → the text with the rules applied in order.

Rules are regular expressions that stay linear: a quantified part never overlaps its neighbour,
and a number or word starts only where the character before it is none of its own.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

NUMBER: Final = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
INTEGER: Final = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
BEFORE_NUMBER: Final = r"(?<![\w.])(?<!\d,)"
MINUS: Final = r"(?:(?<![\w)])(?P<sign>-))?"
AFTER_NUMBER: Final = r"(?!\w|[.,]\d)"


@dataclass(frozen=True, slots=True)
class Rule:
    """Everything that `pattern` matches becomes what `spoken` makes of it."""

    pattern: re.Pattern[str]
    spoken: str | Callable[[re.Match[str]], str]
    hint: str = ""
    """The rule is tried only on a text that holds one of these characters; empty: on all."""


def apply(rules: Iterable[Rule], text: str) -> str:
    for rule in rules:
        if not rule.hint or any(char in text for char in rule.hint):
            text = rule.pattern.sub(rule.spoken, text)
    return text


def any_of(words: Iterable[str]) -> str:
    """A pattern for any of the words, the longest first."""
    return "(?:" + "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)) + ")"


def words(text: str) -> list[str]:
    """A table of words written as one string."""
    return text.split()
