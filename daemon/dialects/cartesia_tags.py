"""The growing text of one Cartesia context in, the same text without Cartesia's tags out.

What is to be spelled is; emotions, volume and speed ask for what the model cannot do and are left
out. Pauses (`<break …/>`) pass: `daemon/speaking/markup.py` knows them. Transcripts are joined as
they are, so a tag may come in pieces: what may still become one is held back. No I/O.
"""

import re
from typing import Final

_SPELLED: Final = re.compile(r"<spell>([^<]*)</spell>")
_TAG: Final = re.compile(r"</?spell>|<(?:emotion|volume|speed)\b[^<>]*>")
_BEGINNINGS: Final = ("<spell>", "</spell>", "<emotion", "<volume", "<speed")
_UNCLOSED: Final = re.compile(r"<(?:emotion|volume|speed)\b[^<>]*")
_MOST_HELD_CHARS: Final = 200
"""What is not closed by then is no tag."""


class Tags:
    """Takes them out of one text."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, delta: str) -> str:
        """What is certain of the text so far."""
        text = self._held + delta
        place = _open_place(text)
        self._held = text[place:]
        return without_tags(text[:place])

    def finish(self) -> str:
        """The rest: no more text comes, or none that belongs to it."""
        held, self._held = self._held, ""
        return without_tags(held)


def without_tags(text: str) -> str:
    if "<" not in text:
        return text
    return _TAG.sub("", _SPELLED.sub(lambda found: " ".join(found[1].replace(" ", "")), text))


def _open_place(text: str) -> int:
    """Where what may still become a tag begins; the end of the text if there is nothing."""
    begin = text.rfind("<")
    if begin < 0:
        return len(text)
    spelled = text.rfind("<spell>")
    is_spelling = spelled >= 0 and "</spell>" not in text[spelled:]
    tail = text[begin:]
    may_be_tag = any(name != tail and name.startswith(tail) for name in _BEGINNINGS)
    may_be_tag = may_be_tag or bool(_UNCLOSED.fullmatch(tail))
    if is_spelling and (begin == spelled or may_be_tag):
        begin, may_be_tag = spelled, True
    return begin if may_be_tag and len(text) - begin <= _MOST_HELD_CHARS else len(text)
