"""A text and lexicons → the text with the words that they know replaced, and the way back.

A lexicon is read once into a tree of the parts of its words, so a text is searched in one pass
whatever the number of entries. The rules are those of docs/text.md: whole words, the longest match,
capitals as written or, in an entry without any, of any kind.
"""

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

from chatterbox.api import Lexicon, phonemes_of

_APOSTROPHES: Final = "'’"
_UNSPACED: Final = "\u3000"
"""From here on, scripts have no spaces: every character is a part of its own."""
LONGEST_TEXT_CHARS: Final = 1000
"""What a text may grow to: it is read on the thread on which everybody's speech is made."""
_PLACEHOLDER: Final = "zqx"
"""Begins words that no text holds; they keep the place of phonemes while the text is normalised."""


@dataclass(slots=True)
class _Node:
    """What may follow the parts before it, and what is said if nothing does."""

    next: dict[str, "_Node"] = field(default_factory=dict)
    said: str | None = None

    def add(self, parts: Sequence[str], said: str) -> None:
        node = self
        for part in parts:
            node = node.next.setdefault(part, _Node())
        if node.said is None:
            node.said = said

    def longest(self, parts: Sequence[str], start: int) -> tuple[int, str] | None:
        """How many parts from `start` on are an entry, and what is said for it."""
        node, found = self, None
        for place in range(start, len(parts)):
            after = node.next.get(parts[place])
            if after is None:
                break
            node = after
            if node.said is not None:
                found = place + 1 - start, node.said
        return found


@dataclass(frozen=True, slots=True)
class _Compiled:
    as_written: _Node
    any_case: _Node


_COMPILED: Final[WeakKeyDictionary[Lexicon, _Compiled]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class _Part:
    """Characters that a lexicon takes or leaves as one."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class _Edit:
    """Characters of the text as written, and those of the new one that stand for them."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A text in which some words are replaced."""

    text: str
    sounds: Mapping[str, str] = field(default_factory=dict)
    """Words of `text` that stand for phonemes."""
    unsaid: tuple[str, ...] = ()
    """Words whose phonemes the model does not take; they are as written."""
    no_room: tuple[str, ...] = ()
    """Words that are as written because the text would have become too long."""
    edits: tuple[_Edit, ...] = ()

    def as_written(self, start: int, end: int) -> tuple[int, int]:
        """The characters that these of `text` stand for; a replaced word is one thing."""
        if end <= start:
            return (place := self._old(start)[0]), place
        return self._old(start)[0], self._old(end - 1)[1]

    def _old(self, place: int) -> tuple[int, int]:
        """The character or the replaced word that one character stands for."""
        index = bisect_right(self.edits, place, key=lambda edit: edit.new_start) - 1
        if index < 0:
            return place, place + 1
        edit = self.edits[index]
        if place < edit.new_end:
            return edit.old_start, edit.old_end
        place += edit.old_end - edit.new_end
        return place, place + 1


def rewrite(
    text: str, lexicons: Sequence[Lexicon], *, spared: Sequence[tuple[int, int]], phonemes: str
) -> Rewritten:
    """`spared` are stretches, in order, that no lexicon touches; `phonemes` as in `EngineInfo`."""
    if not lexicons:
        return Rewritten(text)
    draft = _Draft(text, phonemes)
    for start, end, said in _found(text, lexicons, spared):
        draft.replace(start, end, said)
    return draft.finished()


class _Draft:
    """A text up to the last word that was replaced."""

    def __init__(self, text: str, phonemes: str) -> None:
        self._text = text
        self._phonemes = frozenset(phonemes)
        self._pieces: list[str] = []
        self._edits: list[_Edit] = []
        self._sounds: dict[str, str] = {}
        self._unsaid: dict[str, None] = {}
        self._no_room: dict[str, None] = {}
        self._room = max(0, LONGEST_TEXT_CHARS - len(text))
        self._done = 0  # characters of the text, and of what is said instead
        self._length = 0

    def replace(self, start: int, end: int, said: str) -> None:
        """If the model and the room allow it."""
        word, sound = self._text[start:end], phonemes_of(said)
        growth = len(said) - len(word)
        if sound is not None and not self._phonemes.issuperset(sound):
            self._unsaid[word] = None
        elif growth > self._room:
            self._no_room[word] = None
        else:
            self._room -= growth
            if sound is not None:
                said = _placeholder(self._text, len(self._sounds))
                self._sounds[said] = sound
            self._put(start, end, said)

    def _put(self, start: int, end: int, said: str) -> None:
        between = self._text[self._done : start]
        # "&" said as "and" must not make one word of "AT&T".
        if _joins(between or "".join(self._pieces[-1:]), said):
            said = " " + said
        if _joins(said, self._text[end : end + 1]):
            said += " "
        self._pieces += [between, said]
        new_start = self._length + len(between)
        self._length = new_start + len(said)
        self._edits.append(_Edit(start, end, new_start, self._length))
        self._done = end

    def finished(self) -> Rewritten:
        return Rewritten(
            "".join([*self._pieces, self._text[self._done :]]),
            sounds=self._sounds,
            unsaid=tuple(self._unsaid),
            no_room=tuple(self._no_room),
            edits=tuple(self._edits),
        )


def _joins(before: str, after: str) -> bool:
    """Whether two texts that touch each other make one word of two."""
    edge = before[-1:], after[:1]
    return all(map(str.isalnum, edge)) and max(edge) < _UNSPACED


def _placeholder(text: str, number: int) -> str:
    """A word of letters that is not in the text."""
    letters = "".join(chr(ord("a") + int(digit)) for digit in str(number))
    word = _PLACEHOLDER + letters
    while word in text.lower():
        word += "q"
    return word


def _found(
    text: str, lexicons: Sequence[Lexicon], spared: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int, str]]:
    compiled = [_compiled(lexicon) for lexicon in lexicons]
    done = 0
    for start, end in [*spared, (len(text), len(text))]:
        parts = _parts(text[done:start])
        written = [part.text for part in parts]
        lower = [part.text.lower() for part in parts]
        place = 0
        while place < len(parts):
            matches = [
                match
                for one in compiled
                for match in (
                    one.as_written.longest(written, place),
                    one.any_case.longest(lower, place),
                )
                if match is not None
            ]
            if not matches:
                place += 1
                continue
            num_parts, said = max(matches, key=lambda match: match[0])  # of equals the first
            last = parts[place + num_parts - 1]
            yield done + parts[place].start, done + last.end, said
            place += num_parts
        done = end


def _compiled(lexicon: Lexicon) -> _Compiled:
    compiled = _COMPILED.get(lexicon)
    if compiled is None:
        compiled = _COMPILED[lexicon] = _Compiled(_Node(), _Node())
        for word, said in lexicon.entries.items():
            for shape in {unicodedata.normalize(form, word.strip()) for form in ("NFC", "NFD")}:
                tree = compiled.any_case if shape == shape.lower() else compiled.as_written
                tree.add([part.text for part in _parts(shape)], said.strip())
    return compiled


def _parts(text: str) -> list[_Part]:
    """Words, white space (as one space each) and single other characters."""
    parts: list[_Part] = []
    start = 0
    while start < len(text):
        end = start + 1
        if text[start].isspace():
            while end < len(text) and text[end].isspace():
                end += 1
            parts.append(_Part(start, end, " "))
        else:
            while end < len(text) and _goes_on(text, end):
                end += 1
            parts.append(_Part(start, end, text[start:end].replace("’", "'")))
        start = end
    return parts


def _goes_on(text: str, place: int) -> bool:
    """Whether the character at `place` is of one word with the one before it."""
    before, char = text[place - 1], text[place]
    if unicodedata.category(char).startswith("M"):
        return True
    if max(before, char) >= _UNSPACED:
        return False
    if char in _APOSTROPHES:
        return before.isalnum() and _is_inner_apostrophe(text, place)
    if before in _APOSTROPHES:
        return char.isalnum() and place >= 2 and _is_inner_apostrophe(text, place - 1)
    is_word = before.isalnum() or unicodedata.category(before).startswith("M")
    return is_word and char.isalnum()


def _is_inner_apostrophe(text: str, place: int) -> bool:
    """That of "don't", but not the one of "Anna's", whose word is Anna."""
    if place + 1 >= len(text) or not text[place - 1].isalnum() or not text[place + 1].isalnum():
        return False
    is_last = place + 2 >= len(text) or not text[place + 2].isalnum()
    return not (text[place + 1] in "sS" and is_last)
