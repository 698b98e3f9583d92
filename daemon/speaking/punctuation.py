"""One token of a text → what its end means to somebody who reads it aloud. Pure tables and rules.

A token is a run of characters without white space; Han and kana characters are tokens one by one.
What a token cannot tell alone is a `Doubt`, which the segmenter settles with what follows.
"""
# ruff: noqa: RUF001 (the tables hold the look-alike punctuation of several scripts on purpose)

import re
import unicodedata
from enum import Enum, auto, unique
from typing import Final


@unique
class Pause(Enum):
    """How long a speaker waits after a piece; a larger value is a longer wait."""

    NONE = 0
    SHORT = 1  # comma
    CLAUSE = 2  # semicolon, colon, dash
    SENTENCE = 3
    PARAGRAPH = 4


class Doubt(Enum):
    """The end of a token that only the text after it can explain."""

    LINE = auto()  # a line break
    GOES_ON = auto()  # lower case after it: a clause, else a sentence
    ET_CETERA = auto()  # capital after it: a sentence, else nothing
    NUMBER = auto()  # digit after it: nothing, else a sentence
    ABBREVIATION = auto()  # a sentence only before a word that often starts one


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TITLES: Final = _words("""
    Mr Mrs Ms Mx Dr Prof St Gen Sen Rep Gov Capt Cpt Col Maj Lt Sgt Cpl Pvt Rev Fr Hon Pres Mt Ft
    Messrs Mme Mlle mr mrs ms dr prof
""")
_NEVER_LAST: Final = _words("e.g i.e eg ie vs cf viz resp esp approx incl")
_ABBREVIATIONS: Final = _words("""
    jan feb mar apr jun jul aug sept sep oct nov dec mon tue tues wed thu thur thurs fri
    inc ltd co corp llc bros dept univ est ave blvd rd jr sr ph.d al ed eds trans vol vols fig figs
    pp ch sec art op ca tel ext min max avg lb lbs oz ft hr hrs gal
""")
_NOT_BEFORE_DIGIT: Final = _words("no nos p sat sun")
SENTENCE_STARTERS: Final = _words("""
    A An The This That These Those There Here I You He She It We They My Your His Her Its Our Their
    One Some Many Most All Both Each Every Any No Not And But Or So Yet For If When While Where Why
    How What Who Which Whose Because Although Though Since After Before Until Once As At By In On
    From To With Without Under Over During Through However Then Now Also Still Even Just Only
    Perhaps Maybe Please Yes Well Oh Let Is Are Was Were Do Does Did Can Could Will Would Should May
    Might Have Has Had Meanwhile Moreover Therefore Thus Instead Today Yesterday Tomorrow
    I'm I've I'll It's That's There's He's She's We're They're You're Let's Don't
""")
PHRASE_STARTERS: Final = _words("""
    and but or nor so yet because although though while when whenever where which who whom whose
    that if unless until since before after with without within from into onto through throughout
    during between among against about above across along around behind below beside beyond despite
    for in on at by near over under toward towards like
""")
LEANS_FORWARD: Final = PHRASE_STARTERS | _words("""
    the a an this these those my your his her its our their to of as than not no very more most is
    are was were be been has have had will would can could should may might must do does did i you
    he she it we they
""")
"""After one of these a speaker does not pause, whatever comes next."""

_TERMINATORS: Final = ".!?…。！？｡؟۔।"
_FIRM_TERMINATORS: Final = frozenset("!?。！？｡؟۔।")
_COMMAS: Final = ",،、，､"
_COLONS: Final = ";:；：؛"
_QUOTE_CLOSERS: Final = "\"'”’»›」』"
_CLOSERS: Final = _QUOTE_CLOSERS + ")]}）】〉》*_`~"
_OPENERS: Final = "\"'“‘«‹「『([{（【〈《¿¡*_`~#"
_DASHES: Final = "—―⸺"
_LONE_DASHES: Final = frozenset({"-", "--", "---", "–", "—", "―"})
_WIDE_MARKS: Final = frozenset("。！？｡，、､；：」』）】〉》…" + _DASHES)
_NO_BREAK_BEFORE: Final = frozenset(
    _TERMINATORS + _COMMAS + _COLONS + _CLOSERS + _DASHES + "ー々ゝゞ%％"
)
_NO_BREAK_AFTER: Final = frozenset(_OPENERS) - frozenset(_QUOTE_CLOSERS)
_ENDS_WORD: Final = frozenset(_TERMINATORS + _COLONS + _CLOSERS + _DASHES)
_AROUND_WORD: Final = _OPENERS + _CLOSERS + _TERMINATORS + _COMMAS + _COLONS
_INITIALISM: Final = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]|[A-Z]")
_LIST_MARK: Final = re.compile(r"[(*_]*(?:\d{1,3}|[A-Za-z])[.)][*_]*")

QUOTE_OPENERS: Final = frozenset("\"'“‘«‹「『¿¡")
BULLETS: Final = frozenset("-*•‣◦·+#>|–—")


def is_wide(char: str) -> bool:
    """Han or kana: scripts without spaces between words."""
    return "\u3040" <= char <= "\u9fff" or "\uf900" <= char <= "\ufaff"


def sticks(char: str) -> bool:
    """Whether a character is one with the character before it."""
    return unicodedata.combining(char) != 0 or char in "\u200d\ufe0e\ufe0f"


def breaks_between(before: str, after: str) -> bool:
    """Whether a token ends between two characters that no white space separates."""
    if after in _NO_BREAK_BEFORE or before in _NO_BREAK_AFTER:
        return False
    if before in _WIDE_MARKS or is_wide(before) or is_wide(after):
        return True
    return after in "¿¡" and before in _FIRM_TERMINATORS


def may_grow(token: str) -> bool:
    """Whether more text could still belong to the token, as far as a reader would guess."""
    last = token[-1]
    if is_wide(last):
        return False
    if last in _COMMAS:
        return token[-2:-1].isdigit()
    return last not in _ENDS_WORD


def is_word(token: str, *, opens_line: bool) -> bool:
    """Whether the token is spoken: no lone punctuation, no "2." before an item of a list."""
    return any(map(str.isalnum, token)) and not (opens_line and _LIST_MARK.fullmatch(token))


def starts_sentence(token: str) -> bool:
    return token.strip(_AROUND_WORD) in SENTENCE_STARTERS


def end_of_token(token: str, *, opens_line: bool) -> Pause | Doubt:
    """What the end of a token means, as far as the token alone can tell."""
    if opens_line and (_LIST_MARK.fullmatch(token) or token in _LONE_DASHES):
        return Pause.NONE
    core = token.rstrip(_CLOSERS)
    if not core or (core != token and not any(map(str.isalnum, core)) and core[-1] in _COLONS):
        return Pause.NONE  # a quotation mark by itself, or ":)"
    last = core[-1]
    if last in _COMMAS:
        return Pause.SHORT
    if last in _COLONS or last in _DASHES or core.endswith("--") or core in _LONE_DASHES:
        return Pause.CLAUSE
    word = core.rstrip(_TERMINATORS)
    stops = core[len(word) :]
    if not stops:
        return Pause.NONE
    end: Pause | Doubt = Pause.SENTENCE
    if not _FIRM_TERMINATORS.intersection(stops):
        end = _end_of_full_stop(word) if stops == "." else Doubt.GOES_ON
    is_quoted = any(char in _QUOTE_CLOSERS for char in token[len(core) :])
    return Doubt.GOES_ON if is_quoted and end is Pause.SENTENCE else end


def _end_of_full_stop(word: str) -> Pause | Doubt:
    """What a single full stop after `word` means."""
    bare = word.lstrip(_OPENERS).rpartition("-")[2]
    lower = bare.lower()
    if bare in _TITLES or lower in _NEVER_LAST:
        return Pause.NONE
    if lower == "etc":
        return Doubt.ET_CETERA
    if lower in _NOT_BEFORE_DIGIT:
        return Doubt.NUMBER
    if lower in _ABBREVIATIONS or _INITIALISM.fullmatch(bare):
        return Doubt.ABBREVIATION
    return Pause.SENTENCE
