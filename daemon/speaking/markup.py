"""Growing text in, the same text and its `<break …/>` tags as pauses out. No clock, no I/O.

The one tag of SSML that is read here, because it asks for silence, which is the daemon's to make.
docs/text.md says what a tag may look like. Inside one the text is read one character at a time, so
how it was split into deltas cannot matter; what may still become a tag is held back.
"""

import re
from dataclasses import dataclass
from typing import Final

_NAMES: Final = ("<break", "</break")
_AFTER_NAME: Final = frozenset(" \t\r\n/>")
_LONGEST_TAG_CHARS: Final = 100
"""What is not closed by then is no tag."""
_TAG: Final = re.compile(
    r"""<break(?P<attributes>(?:\s+[\w:-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'))*)\s*/?>""", re.IGNORECASE
)
_END_TAG: Final = re.compile(r"</break\s*>", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(r"""([\w:-]+)\s*=\s*["']([^"']*)["']""")
_TIME: Final = re.compile(r"\+?(\d{1,9}(?:\.\d{1,9})?|\.\d{1,9})\s*(ms|s)", re.IGNORECASE)
_STRENGTH_MS: Final = {
    "none": 0,
    "x-weak": 100,
    "weak": 200,
    "medium": 400,
    "strong": 800,
    "x-strong": 1200,
}
_USUAL_STRENGTH: Final = "medium"


@dataclass(frozen=True, slots=True)
class Break:
    """So many characters of the text that are no words but a pause."""

    num_chars: int
    duration_ms: int | None
    """None: what it asks for is not known, and nothing but the tag itself is left out."""
    tag: str


class Markup:
    """Takes the tags out of one text."""

    def __init__(self) -> None:
        self._held = ""  # from a "<" on, as long as it may become a tag

    def push(self, delta: str) -> list[str | Break]:
        """What became certain, in order; together it is all the text so far but what is held."""
        found: list[str | Break] = []
        plain_from = 0
        place = 0
        while place < len(delta):
            if not self._held:
                place = delta.find("<", place)
                if place < 0:
                    break
                _add_text(found, delta[plain_from:place])
                self._held = "<"
            else:
                self._take(delta[place], found)
            place += 1
            plain_from = place
        _add_text(found, delta[plain_from:] if not self._held else "")
        return found

    def finish(self) -> list[str | Break]:
        """No more text comes: half a tag is left out, half a name of one is text."""
        held, self._held = self._held, ""
        if not held:
            return []
        return [Break(len(held), None, held) if _has_name(held) else held]

    def _take(self, char: str, found: list[str | Break]) -> None:
        """One more character of what may be a tag."""
        if char == "<":
            found += self.finish()
            self._held = char
            return
        self._held += char
        if not _may_be_tag(self._held) or len(self._held) > _LONGEST_TAG_CHARS:
            _add_text(found, self._held)
            self._held = ""
        elif char == ">":
            found.append(Break(len(self._held), _duration_ms(self._held), self._held))
            self._held = ""


def _add_text(found: list[str | Break], text: str) -> None:
    if not text:
        return
    if found and isinstance(found[-1], str):
        found[-1] += text
    else:
        found.append(text)


def _may_be_tag(held: str) -> bool:
    return any(name.startswith(held.lower()) for name in _NAMES) or _has_name(held)


def _has_name(held: str) -> bool:
    lower = held.lower()
    return any(
        lower.startswith(name) and (len(held) == len(name) or held[len(name)] in _AFTER_NAME)
        for name in _NAMES
    )


def _duration_ms(tag: str) -> int | None:
    if _END_TAG.fullmatch(tag):
        return 0
    match = _TAG.fullmatch(tag)
    if match is None:
        return None
    values = {name.lower(): value.strip() for name, value in _ATTRIBUTE.findall(match[1])}
    if "time" not in values:
        asked = values.get("strength", "" if values else _USUAL_STRENGTH)
        return _STRENGTH_MS.get(asked.lower())
    time = _TIME.fullmatch(values["time"])
    if time is None:
        return None
    return round(float(time[1]) * (1000 if time[2].lower() == "s" else 1))
