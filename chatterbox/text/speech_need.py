"""A text → how much speech it may take, and pieces of it that one generation can hold.

The official checkpoints stop after a fixed number of speech tokens. A text that needs more would
lose its end, so it is cut before, where a speaker could breathe.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

# Speech tokens (25 a second) that a slow speaker takes for one character.
_LETTER: Final = 2.5  # ten letters a second; usual are fifteen
_WIDE: Final = 9.0  # one Han character, kana or Hangul syllable is a syllable or two
_UNVOWELLED: Final = 4.0  # scripts that write few vowels, or a vowel as a mark
_DIGIT: Final = 15.0  # "seven hundred thousand"
_SIGN: Final = 12.0  # "per cent"
_PAUSE: Final = 6.0
_SPACE: Final = 0.5

_BREATHS: Final = re.compile(r"[^\s、。，！？]*[\s、。，！？]*")


def speech_need(text: str) -> float:
    """Speech tokens that are enough for this text, spoken slowly."""
    return sum(_need_of(char) for char in text)


def densest(languages: Sequence[str]) -> dict[str, float]:
    """Speech tokens of one character, for the languages whose characters take more than a
    letter.
    """
    needs = {"ja": _WIDE, "zh": _WIDE, "ko": _WIDE, "ar": _UNVOWELLED, "he": _UNVOWELLED}
    needs["hi"] = _UNVOWELLED
    return {language: needs[language] for language in languages if language in needs}


def pieces_within(text: str, most: float) -> list[str]:
    """The text in pieces that need at most `most` speech tokens each, cut after white space or
    punctuation where there is any. Joined, they are the text.
    """
    pieces, piece, need = [], "", 0.0
    for unit in _units(text, most):
        unit_need = speech_need(unit)
        if piece and need + unit_need > most:
            pieces.append(piece)
            piece, need = "", 0.0
        piece += unit
        need += unit_need
    return [*pieces, piece] if piece else pieces


def _units(text: str, most: float) -> Iterator[str]:
    """Words with what follows them; characters where a word alone is too long."""
    for match in _BREATHS.finditer(text):
        if speech_need(match[0]) <= most:
            yield match[0]
        else:
            yield from match[0]


def _need_of(char: str) -> float:
    if char.isspace():
        return _SPACE
    category = unicodedata.category(char)
    if category.startswith("N"):
        return _DIGIT
    if unicodedata.east_asian_width(char) in "WF" and category == "Lo":
        return _WIDE
    if category.startswith("L"):
        return _UNVOWELLED if category == "Lo" else _LETTER
    if category.startswith("M") or category in ("Cf", "Cc"):
        return 0.0
    return _PAUSE if category.startswith("P") else _SIGN
