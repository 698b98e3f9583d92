"""A text that is still being written → pieces that a speaker says in one go. No clock, no I/O.

The text is read one character at a time, so how it was split into deltas cannot matter. What
waits for what:

- a word, a comma, colon, full stop, `!` or `?`: for the white space after it;
- punctuation of scripts without spaces, and dashes: for the next character;
- `...`, and a stop before a closing quotation mark: for the first character of the next word
  (in lower case, the sentence goes on);
- `No.` and `etc.`, and a line break: likewise;
- `U.S.`, `Jan.`, `J.`: for the next word (only one that often starts a sentence makes it an end).

When a boundary has become certain, the number of the piece since the start or the last flush
decides whether to cut there:

- the first piece ends at a sentence; at a clause or comma after two words; after five words,
  before a word that may start a phrase. It is the one that somebody waits for;
- the second ends at a sentence, or at a clause or comma in the second half of its length;
- all others end at a sentence, or at a clause in the second half of their length.

A piece's greatest length is `first_max_chars`, then twice that, then `max_chars`. One that would
outgrow it is cut at its last clause; without one at its last comma, phrase or word; a single word
only at `max_chars`. Short sentences are not joined, because that means to wait for the next one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from chatterbox.api import TAGS
from daemon.speaking.punctuation import (
    BULLETS,
    LEANS_FORWARD,
    PHRASE_STARTERS,
    QUOTE_OPENERS,
    Doubt,
    Pause,
    breaks_between,
    end_of_token,
    is_word,
    may_grow,
    starts_sentence,
    sticks,
)

__all__ = ["Pause", "Piece", "Segmenter"]

_SHORT_LINE_CHARS: Final = 50
"""A line that ends sooner was ended on purpose, not wrapped."""
_FIRST_MIN_WORDS: Final = 2
_PHRASE_MIN_WORDS: Final = 5
_NOT_SPACE: Final = re.compile(r"\S")
_TAG_STARTS: Final = frozenset(
    tag[:place] for tag in TAGS for place, char in enumerate(tag) if char == " "
)
"""What of a tag may stand before a space."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Characters `start` up to `end` of the context's text, without the white space around them."""

    text: str
    start: int
    end: int
    pause: Pause


@dataclass(slots=True)
class _Boundary:
    """The end of a token, where a piece may end."""

    end: int
    pause: Pause
    num_words: int  # since the start of the context's text
    is_before_phrase: bool = False


@dataclass(slots=True)
class _OpenDoubt:
    boundary: _Boundary
    doubt: Doubt
    num_newlines: int = 0


class Segmenter:
    """Cuts one context's text. The pieces tile it, but for the white space between them."""

    def __init__(self, *, max_chars: int, first_max_chars: int = 80) -> None:
        if max_chars < 1 or first_max_chars < 1:
            raise ValueError("max_chars and first_max_chars must be at least 1")
        self._max_chars = max_chars
        self._first_max_chars = min(first_max_chars, max_chars)
        self._text = ""  # from character `_base` of the context's text on
        self._base = 0
        # All positions count from the start of the context's text.
        self._pos = 0  # the next character to read
        self._piece_start = -1  # first character of the piece being built, -1: none yet
        self._token_start = -1  # first character of the token being read, -1: in white space
        self._line_start = 0
        self._opens_line = True
        self._leans_forward = False
        self._num_words = 0
        self._piece_first_word = 0
        self._boundaries: list[_Boundary] = []
        self._open: _OpenDoubt | None = None
        self._set_piece_index(0)

    @property
    def num_chars(self) -> int:
        """How much of the context's text was read."""
        return self._pos

    @property
    def pending(self) -> str:
        """The text that is in no piece yet."""
        return self._text[self._piece_start - self._base :] if self._piece_start >= 0 else ""

    def push(self, delta: str) -> list[Piece]:
        """Read more text; returns the pieces that became certain."""
        self._text += delta
        pieces = [piece for char in delta for piece in self._read(char)]
        self._forget()
        return pieces

    def flush(self, *, complete_words_only: bool = False) -> list[Piece]:
        """Give the rest; with `complete_words_only` all but a last word that may still grow.

        The next piece counts as a first one.
        """
        pieces = self._rest(complete_words_only=complete_words_only)
        self._set_piece_index(0)
        self._forget()
        return pieces

    def pass_over(self, num_chars: int) -> list[Piece]:
        """So many characters follow that are no words: give the rest, and count them."""
        pieces = self._rest(complete_words_only=False)
        self._forget()
        assert not self._text, "all text is in a piece, so that positions can move on"
        self._pos += num_chars
        self._base += num_chars
        return pieces

    def _rest(self, *, complete_words_only: bool) -> list[Piece]:
        pieces: list[Piece] = []
        if self._token_start >= 0 and not (complete_words_only and may_grow(self._token())):
            pieces += self._end_token()
        if self._boundaries:
            last = self._boundaries[-1]
            if self._open is not None:
                last.pause = Pause.SENTENCE
            pieces.append(self._cut(last))
        return pieces

    def _token(self) -> str:
        return self._text[self._token_start - self._base : self._pos - self._base]

    def _is_inside_tag(self) -> bool:
        """Whether a space now may belong to a tag such as [clear throat], which is one word."""
        if self._token_start < 0:
            return False
        token = self._token()
        return token[token.rfind("[") :].lower() in _TAG_STARTS

    def _set_piece_index(self, index: int) -> None:
        self._piece_index = index
        self._limit = self._max_chars
        if index < 2:
            self._limit = min(self._max_chars, self._first_max_chars << index)

    def _forget(self) -> None:
        """Drop the text that nothing refers to any more."""
        keep_from = self._piece_start if self._piece_start >= 0 else self._pos
        self._text = self._text[keep_from - self._base :]
        self._base = keep_from

    def _read(self, char: str) -> Iterator[Piece]:
        if char.isspace() and not (char == " " and self._is_inside_tag()):
            if self._token_start >= 0:
                yield from self._end_token(ends_line=char == "\n")
            if char == "\n":
                yield from self._end_line()
        else:
            if self._token_start >= 0:
                before = self._text[self._pos - self._base - 1]
                if not (before.isalnum() and char < "\x7f") and breaks_between(before, char):
                    yield from self._end_token()
            if self._token_start < 0:
                yield from self._start_token(char)
            if self._pos - self._piece_start >= self._limit:
                yield from self._cut_to_fit()
        self._pos += 1

    def _start_token(self, char: str) -> Iterator[Piece]:
        if self._open is not None:
            pause = self._resolve(self._open, char)
            if pause is not None:
                boundary = self._open.boundary
                self._open = None
                yield from self._settle(boundary, pause)
        self._token_start = self._pos
        if self._piece_start < 0:
            self._piece_start = self._pos
        if self._opens_line:
            self._line_start = self._pos

    def _end_token(self, *, ends_line: bool = False) -> Iterator[Piece]:
        token = self._token()
        self._token_start = -1
        if self._open is not None:
            boundary = self._open.boundary
            self._open = None
            if starts_sentence(token):
                yield from self._settle(boundary, Pause.SENTENCE)
        if token in PHRASE_STARTERS and self._boundaries and not self._leans_forward:
            yield from self._mark_phrase(self._boundaries[-1])
        end = end_of_token(token, opens_line=self._opens_line)
        if is_word(token, opens_line=self._opens_line):
            self._num_words += 1
        self._leans_forward = token.lower() in LEANS_FORWARD
        self._opens_line = False
        boundary = _Boundary(
            self._pos, end if isinstance(end, Pause) else Pause.NONE, self._num_words
        )
        self._boundaries.append(boundary)
        if isinstance(end, Doubt):
            self._open = _OpenDoubt(boundary, end)
        elif ends_line:
            self._open = _OpenDoubt(boundary, Doubt.LINE)
        else:
            yield from self._settle(boundary, end)

    def _end_line(self) -> Iterator[Piece]:
        self._opens_line = True
        if not self._boundaries:
            return
        if self._open is None:
            self._open = _OpenDoubt(self._boundaries[-1], Doubt.LINE)
        self._open.num_newlines += 1
        if self._open.num_newlines == 2:
            boundary = self._open.boundary
            self._open = None
            yield from self._settle(boundary, Pause.PARAGRAPH)

    def _resolve(self, waiting: _OpenDoubt, char: str) -> Pause | None:
        """What the next token's first character says of a doubt; None: its whole word is needed."""
        goes_on = char.islower()
        if waiting.num_newlines:
            is_short = waiting.boundary.end - self._line_start < _SHORT_LINE_CHARS
            if char in BULLETS or (is_short and not goes_on):
                return Pause.SENTENCE
        match waiting.doubt:
            case Doubt.LINE:
                return waiting.boundary.pause
            case Doubt.GOES_ON:
                return Pause.CLAUSE if goes_on else Pause.SENTENCE
            case Doubt.ET_CETERA:
                return Pause.SENTENCE if char.isupper() or char in QUOTE_OPENERS else Pause.NONE
            case Doubt.NUMBER:
                return Pause.NONE if char.isdigit() else Pause.SENTENCE
            case Doubt.ABBREVIATION:
                return Pause.NONE if goes_on or char.isdigit() else None

    def _mark_phrase(self, boundary: _Boundary) -> Iterator[Piece]:
        """A word that may start a phrase follows this boundary."""
        boundary.is_before_phrase = True
        num_words = boundary.num_words - self._piece_first_word
        if self._piece_index == 0 and num_words >= _PHRASE_MIN_WORDS:
            yield self._cut(boundary)

    def _settle(self, boundary: _Boundary, pause: Pause) -> Iterator[Piece]:
        """The meaning of a boundary has become certain: cut there, or remember it."""
        boundary.pause = pause
        num_words = boundary.num_words - self._piece_first_word
        num_chars = boundary.end - self._piece_start
        if pause.value >= Pause.SENTENCE.value:
            is_cut = num_words > 0
        elif self._piece_index == 0:
            is_cut = pause is not Pause.NONE and num_words >= _FIRST_MIN_WORDS
        else:
            cutting = (Pause.SHORT, Pause.CLAUSE) if self._piece_index == 1 else (Pause.CLAUSE,)
            is_cut = pause in cutting and num_words > 0 and 2 * num_chars >= self._limit
        if is_cut:
            yield self._cut(boundary)

    def _cut_to_fit(self) -> Iterator[Piece]:
        """The character being read makes the piece too long: cut at the best boundary so far."""
        is_forced = self._pos - self._piece_start >= self._max_chars
        min_words = self._piece_first_word + (0 if is_forced else _FIRST_MIN_WORDS)
        fitting = [b for b in self._boundaries if b.num_words >= min_words]
        late = [b for b in fitting if 3 * (b.end - self._piece_start) >= self._limit]
        for candidates in (
            [b for b in late if b.pause.value >= Pause.CLAUSE.value],
            [b for b in late if b.pause is Pause.SHORT],
            [b for b in late if b.is_before_phrase],
            fitting,
        ):
            if candidates:
                yield self._cut(candidates[-1])
                return
        if is_forced:
            yield self._cut_token()

    def _cut_token(self) -> Piece:
        """Cut inside a word longer than a piece may be, but not inside a composed character."""
        end = self._pos
        while end > self._token_start and sticks(self._text[end - self._base]):
            end -= 1
        if end == self._token_start:
            end = self._pos
        self._num_words += 1
        piece = self._cut(_Boundary(end, Pause.NONE, self._num_words))
        self._token_start = end
        self._piece_start = end
        return piece

    def _cut(self, boundary: _Boundary) -> Piece:
        start, end = self._piece_start, boundary.end
        piece = Piece(self._text[start - self._base : end - self._base], start, end, boundary.pause)
        rest = _NOT_SPACE.search(self._text, end - self._base, self._pos - self._base)
        self._piece_start = self._base + rest.start() if rest else self._token_start
        self._piece_first_word = boundary.num_words
        self._boundaries = [b for b in self._boundaries if b.end > end]
        if self._open is not None and self._open.boundary.end <= end:
            self._open = None
        self._set_piece_index(self._piece_index + 1)
        return piece
