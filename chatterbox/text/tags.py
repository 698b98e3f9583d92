"""A text and the tags that a model knows → the text with only those, where they are, what was left
out.

Characters keep their places: what is left out becomes as many spaces.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chatterbox.api import TAGS

_TAG: Final = re.compile("|".join(map(re.escape, TAGS)), re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Tagged:
    text: str
    places: tuple[tuple[int, int], ...] = ()
    """Characters of the tags that the model will say."""
    left_out: tuple[str, ...] = ()


def with_tags(text: str, known: Sequence[str]) -> Tagged:
    """The model's tags in lower case, as it knows them; without the others."""
    if "[" not in text:
        return Tagged(text)
    places: list[tuple[int, int]] = []
    left_out: dict[str, None] = {}

    def one(match: re.Match[str]) -> str:
        tag = match[0].lower()
        if tag in known:
            places.append(match.span())
            return tag
        left_out[tag] = None
        return " " * len(tag)

    return Tagged(_TAG.sub(one, text), tuple(places), tuple(left_out))
