"""A segment's text as written → as a good reader says it, plus what was skipped.

The result holds Latin letters, apostrophes, hyphens and the punctuation . , ! ? ; : — ... alone.
"""

import re
from dataclasses import dataclass
from typing import Final

from chatterbox.text import dates, quantities, words
from chatterbox.text.clean import Skipped, SkippedText, clean
from chatterbox.text.markdown import without_markup
from chatterbox.text.rules import Rule, apply
from chatterbox.text.web import spoken_addresses

# "3-4-3-4-…", "S'S'S…", "xAxA…": reading such a word takes a time that grows with the cube of its
# length, seconds in which nobody would be heard. The longest real ones have 45 letters.
_NO_WORD: Final = re.compile(r"(?<!\S)\S{49,}")
_JOINED: Final = re.compile(r"(?<=\w)['.-]+(?=\w)")
_TOO_LONG: Final = re.compile(r"(\S{48})(?=\S)")
_PUNCTUATION: Final = (
    Rule(re.compile(r"[ \t]*\n[ \t]*(?:\n\s*)+"), ". ", hint="\n"),
    Rule(re.compile(r"\s+"), " "),
    Rule(re.compile(r"(?<=\w)\((e?s)\)"), r"\1", hint="("),
    Rule(re.compile(r"\s?[()\[\]{}•]+\s?"), ", ", hint="()[]{}•"),
    Rule(re.compile(r"\s*(?:--+|—+)\s*|\s[-–]\s"), " — ", hint="-–—"),
    Rule(re.compile(r"–"), "-", hint="–"),
    Rule(re.compile(r"(?<!\w)-+|-+(?!\w)"), " ", hint="-"),
    Rule(re.compile(r"(?:[^\w\s'.,!?;:—-]|_)+"), " "),
    Rule(re.compile(r"\s+"), " "),
    Rule(re.compile(r"\.{4,}"), "...", hint="."),
    Rule(re.compile(r"[!?]{2,}"), lambda m: "?" if "?" in m[0] else "!", hint="!?"),
    Rule(re.compile(r"\s+(?=[.,!?;:])"), ""),
    Rule(
        re.compile(r"[,;:](?:\s?[,;:])+"),
        lambda m: m[0].strip()[-1] if "," not in m[0] else ",",
        hint=",;:",
    ),
    Rule(re.compile(r"[,;:]\s?(?=[.!?—])|(?<=[.!?])(?<!\.\.)\s?[,;:]+"), "", hint=",;:"),
    Rule(re.compile(r"(?<=— )[,;:] ?"), "", hint="—"),
    Rule(re.compile(r"([.!?]) (?=[.!?])"), r"\1", hint=".!?"),
    Rule(re.compile(r"(?<!\.)\.\.(?!\.)"), "...", hint="."),
    Rule(re.compile(r"(?<!\.)\.([!?])|([!?])\.+"), lambda m: m[1] or m[2], hint="."),
    Rule(re.compile(r"(?<=[,;:!?])(?=[^\W\d])"), " ", hint=",;:!?"),
    Rule(_NO_WORD, lambda m: _TOO_LONG.sub(r"\1 ", _JOINED.sub(" ", m[0]))),
)
_SPOKEN: Final = re.compile(r"[^\W_]")


@dataclass(frozen=True, slots=True)
class Normalised:
    """Spoken words; empty if there is nothing to say."""

    text: str
    skipped: tuple[SkippedText, ...] = ()


def normalise(text: str) -> Normalised:
    """Write out what is read aloud; never fails, whatever the text."""
    text, skipped = clean(text)
    text, left_out = spoken_addresses(without_markup(text))
    skipped += [SkippedText(Skipped.ADDRESS, path) for path in left_out]
    text = apply(words.BEFORE_NUMBERS, text)
    if any(map(str.isdigit, text)):
        text = apply(quantities.RULES, apply(dates.RULES, text))
    text = apply(words.SYMBOLS, apply(words.RULES, text))
    text = apply(_PUNCTUATION, text).lstrip(" .,!?;:—")
    if text.endswith((" ", "—")):
        dashed = text.rstrip()
        text = dashed.rstrip(" —,") + ("," if dashed.endswith("—") else "")
    return Normalised(text if _SPOKEN.search(text) else "", tuple(skipped))
