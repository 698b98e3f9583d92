"""A text → the same text with the punctuation that the official checkpoints were trained on.

Three variants of one list of replacements. Knows no tokens.
"""

from dataclasses import dataclass
from typing import Final

EMPTY: Final = "You need to add some text for me to talk."
"""What the official front ends say for an empty text."""

_ELLIPSIS: Final = (("...", ", "), ("…", ", "))
_INNER_MARKS: Final = ((" - ", ", "), (";", ", "))
_DASHES_AND_QUOTES: Final = (
    ("—", "-"),
    ("–", "-"),
    (" ,", ","),
    ("“", '"'),
    ("”", '"'),
    ("‘", "'"),
    ("’", "'"),
)


@dataclass(frozen=True, slots=True)
class Punctuation:
    """Replacements, in order, and what may end a text."""

    replacements: tuple[tuple[str, str], ...]
    enders: tuple[str, ...] = (".", "!", "?", "-", ",")

    def normalise(self, text: str) -> str:
        """Never empty; ends with one of the enders."""
        if not text:
            return EMPTY
        # Only the very first character counts: after a space it stays as it is.
        if text[0].islower():
            text = text[0].upper() + text[1:]
        text = " ".join(text.split())
        for old, new in self.replacements:
            text = text.replace(old, new)
        text = text.rstrip(" ")
        return text if text.endswith(self.enders) else text + "."


ENGLISH: Final = Punctuation((*_ELLIPSIS, (":", ","), *_INNER_MARKS, *_DASHES_AND_QUOTES))
MULTILINGUAL: Final = Punctuation(
    ENGLISH.replacements, (*ENGLISH.enders, "、", "，", "。", "？", "！")
)
TURBO: Final = Punctuation((("…", ", "), (":", ","), *_DASHES_AND_QUOTES))
