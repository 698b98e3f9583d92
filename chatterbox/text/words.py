"""Abbreviations, Roman numerals, mixed case and symbols → words."""

import re
from collections.abc import Callable
from typing import Final

from chatterbox.text.numbers import cardinal, ordinal
from chatterbox.text.rules import Rule, any_of, words
from chatterbox.text.web import split_case

_TITLES: Final = {
    "Mr": "Mister",
    "Mrs": "Missus",
    "Ms": "Miz",
    "Prof": "Professor",
    "Gen": "General",
    "Sen": "Senator",
    "Gov": "Governor",
    "Capt": "Captain",
    "Cpt": "Captain",
    "Lt": "Lieutenant",
    "Col": "Colonel",
    "Sgt": "Sergeant",
    "Cpl": "Corporal",
    "Maj": "Major",
    "Rev": "Reverend",
    "Hon": "Honorable",
    "Pres": "President",
    "Mt": "Mount",
    "Ft": "Fort",
    "Fr": "Father",
    "Rep": "Representative",
}
_BEFORE_NUMBER: Final = {
    "no": "number",
    "nos": "numbers",
    "p": "page",
    "pp": "pages",
    "pg": "page",
    "vol": "volume",
    "vols": "volumes",
    "ch": "chapter",
    "fig": "figure",
    "figs": "figures",
    "sec": "section",
    "art": "article",
    "eq": "equation",
    "tel": "telephone",
    "ext": "extension",
    "apt": "apartment",
    "ste": "suite",
    "op": "opus",
    "ca": "about",
    "c": "about",
}
_IN_A_SENTENCE: Final = {
    "e.g.": "for example",
    "i.e.": "that is",
    "vs.": "versus",
    "cf.": "compare",
    "approx.": "approximately",
    "incl.": "including",
    "esp.": "especially",
    "a.k.a.": "also known as",
    "w.r.t.": "with respect to",
    "w/": "with",
    "w/o": "without",
    "b/c": "because",
    "vs": "versus",
}
_MAYBE_LAST: Final = {
    "etc.": "et cetera",
    "Etc.": "Et cetera",
    "et al.": "and others",
    "Jr.": "Junior",
    "Sr.": "Senior",
    "Inc.": "Incorporated",
    "Ltd.": "Limited",
    "Corp.": "Corporation",
    "Co.": "Company",
    "Bros.": "Brothers",
    "Dept.": "Department",
    "dept.": "department",
    "Univ.": "University",
    "Ave.": "Avenue",
    "Blvd.": "Boulevard",
    "Rd.": "Road",
    "Hwy.": "Highway",
    "Ln.": "Lane",
    "est.": "established",
    "avg.": "average",
    "Ph.D.": "P H D",
    "Jan.": "January",
    "Feb.": "February",
    "Mar.": "March",
    "Apr.": "April",
    "Jun.": "June",
    "Jul.": "July",
    "Aug.": "August",
    "Sep.": "September",
    "Sept.": "September",
    "Oct.": "October",
    "Nov.": "November",
    "Dec.": "December",
    "Mon.": "Monday",
    "Tue.": "Tuesday",
    "Tues.": "Tuesday",
    "Wed.": "Wednesday",
    "Thu.": "Thursday",
    "Thurs.": "Thursday",
    "Fri.": "Friday",
}
_SPELLED_WORDS: Final = {"PhD": "P H D", "JSON": "Jason", "iOS": "I O S", "N/A": "not applicable"}

_NUMBERED: Final = any_of(
    words("""
        Chapter Part Book Act Scene Volume Section Article Phase Type Class Appendix Level Title
        Table Figure Grade Stage Rocky Bowl War chapter part book act scene volume section article
        phase type class appendix level stage figure table
    """)
)
_RULERS: Final = any_of(
    words("""
        Henry Louis Elizabeth George Edward Richard William Charles James Mary Philip Catherine
        Peter Alexander Nicholas Napoleon Paul Pius Benedict Leo Francis Gregory Innocent Clement
        Urban Ferdinand Frederick Wilhelm Otto Ivan Haakon Harald Ramses Ptolemy Darius Xerxes Carl
        Gustav Christian Margaret Robert Malcolm Alfonso Joseph Leopold Pedro Felipe Juan Albert
    """)
)
_ROMAN: Final = r"(?=[IVXL])(?:XL|L?X{0,3})(?:IX|IV|V?I{0,3})(?!\w)"
_ROMAN_DIGITS: Final = {"I": 1, "V": 5, "X": 10, "L": 50}
_I_IS_A_NUMBER: Final = (
    r"(?=[,.;:!?)]|$| (?:of|and|was|is|ruled|reigned|died|in|became|to|had|who|began|ended)\b)"
)
_KNOWN_CASE: Final = frozenset(words("iPhone iPad iPod iMac iCloud iTunes eBay macOS iOS eBook"))
_KEPT_CAPITALS: Final = frozenset(words("UNESCO UNICEF"))


def _roman(text: str) -> int:
    values = [_ROMAN_DIGITS[char] for char in text]
    following = [*values[1:], 0]
    return sum(-v if v < after else v for v, after in zip(values, following, strict=True))


def _keeps_stop(match: re.Match[str]) -> bool:
    """Whether an abbreviation's full stop also ends a sentence."""
    rest = match.string[match.end() : match.end() + 40].lstrip("\"')]} \n")
    return not rest or rest[0].isupper()


def _maybe_last(spoken: dict[str, str]) -> Callable[[re.Match[str]], str]:
    return lambda match: spoken[match[0]] + ("." if _keeps_stop(match) else "")


def _saint_or_street(match: re.Match[str]) -> str:
    before = match.string[max(0, match.start() - 40) : match.start()]
    after = match.string[match.end() : match.end() + 2]
    is_address = re.search(r"(?:\d|\b(?:on|at|of|off|down|along)) (?:[A-Z][a-z'-]+ ){1,2}$", before)
    if len(after) == 2 and after[1].isupper() and not is_address:
        return "Saint"
    return "Street" + ("." if _keeps_stop(match) else "")


def _doctor_or_drive(match: re.Match[str]) -> str:
    before = match.string[max(0, match.start() - 40) : match.start()]
    after = match.string[match.end() : match.end() + 2]
    is_address = re.search(r"\d (?:[A-Z][a-z'-]+ ){1,2}$", before)
    if is_address or (re.search(r"[A-Z][a-z]+ $", before) and not after[1:].isupper()):
        return "Drive" + ("." if _keeps_stop(match) else "")
    return "Doctor"


def _mixed_case(match: re.Match[str]) -> str:
    word = match[0]
    return word if word in _KNOWN_CASE else split_case(word)


def _capitals(match: re.Match[str]) -> str:
    word = match[0]
    is_word = word not in _KEPT_CAPITALS and not set("AEIOUY").isdisjoint(word)
    return word.lower() if is_word else word


BEFORE_NUMBERS: Final = (
    Rule(
        re.compile(rf"\b({any_of(_BEFORE_NUMBER)})\.\s?(?=#?\d)", re.I),
        lambda m: _like(m[1], _BEFORE_NUMBER[m[1].lower()]) + " ",
        hint=".",
    ),
    Rule(re.compile(r"(?<![\w&])#\s?(?=\d)"), "number ", hint="#"),
    Rule(re.compile(r"§§?\s?(?=\w)"), "section ", hint="§"),
    Rule(re.compile(r"(?<!\w)~\s?(?=[\d$€£])"), "about ", hint="~"),
    Rule(re.compile(r"(?<!\w)±\s?"), "plus or minus ", hint="±"),
)

RULES: Final = (
    Rule(re.compile(any_of(_SPELLED_WORDS) + r"(?!\w)"), lambda m: _SPELLED_WORDS[m[0]]),
    Rule(
        re.compile(rf"(?<![\w.])({any_of(_TITLES)})\.?(?=\s[A-Z])"),
        lambda m: _TITLES[m[1]],
    ),
    Rule(re.compile(r"\b(Mr|Mrs|Ms)\.(?=\s[a-z&])"), lambda m: _TITLES[m[1]], hint="M"),
    Rule(re.compile(r"\bSt\."), _saint_or_street, hint="."),
    Rule(re.compile(r"\bDr\.?(?!\w)"), _doctor_or_drive, hint="D"),
    Rule(
        re.compile(rf"(?<![\w.]){any_of(_IN_A_SENTENCE)}(?!\w)", re.I),
        lambda m: _like(m[0], _IN_A_SENTENCE[m[0].lower()]),
        hint="./v",
    ),
    Rule(re.compile(rf"(?<![\w.]){any_of(_MAYBE_LAST)}(?!\w)"), _maybe_last(_MAYBE_LAST), hint="."),
    Rule(
        re.compile(r"(?<![\w.])([ap])\.\s?m\.?(?!\w)", re.I), lambda m: m[1].upper() + "M", hint="."
    ),
    Rule(
        re.compile(rf"\b({_NUMBERED}) ({_ROMAN}|(?:i{{2,3}}|i?v|vi{{1,3}}|ix)\b)(?!['.]\w)"),
        lambda m: f"{m[1]} {cardinal(_roman(m[2].upper()))}",
        hint="IVXLivx",
    ),
    Rule(
        re.compile(rf"\b({_RULERS}) (?:((?!I\b){_ROMAN})|(I){_I_IS_A_NUMBER})(?!['.]\w)"),
        lambda m: f"{m[1]} the {ordinal(_roman(m[2] or m[3]))}",
        hint="IVXL",
    ),
    Rule(
        re.compile(r"(?<![\w.'-])(?:I{2,3}|VI{2,3}|XI{2,3}|XI?V|XVI{1,3})(?![\w'-])"),
        lambda m: cardinal(_roman(m[0])),
        hint="IVX",
    ),
    Rule(
        re.compile(
            r"\b(?:[a-z]{1,30}(?:[A-Z][a-z]{1,30}){1,10}[A-Z]?|(?:[A-Z]{1,8}[a-z]{1,30}){3,10}"
            r"|[A-Z]{3,8}[a-z]{2,30}(?:[A-Z][a-z]{1,30}){0,9})\b"
        ),
        _mixed_case,
    ),
    Rule(re.compile(r"\b[A-Z]{6,40}\b"), _capitals),
    Rule(
        re.compile(r"\b(he|He|him|his|His|she|her|hers)/(she|her|hers|he|him|his)\b"),
        r"\1 or \2",
        hint="/",
    ),
    Rule(re.compile(r"\band/or\b"), "and or", hint="/"),
    Rule(re.compile(r"(?<=[A-Z])/(?=[A-Z])"), " ", hint="/"),
    Rule(re.compile(r"(?<=\w) ?/ ?(?=\w)"), " slash ", hint="/"),
)


def _like(written: str, spoken: str) -> str:
    """The spoken form with a capital if the written one had it."""
    return spoken[0].upper() + spoken[1:] if written[0].isupper() else spoken


SYMBOLS: Final = (
    Rule(re.compile(r"(?<=\b[a-z])\(([a-z](?:, ?[a-z]){0,4})\)"), r" of \1", hint="("),
    Rule(re.compile(r"(?<=\b[A-Za-z]):(?=[A-Za-z]\b)"), " to ", hint=":"),
    Rule(re.compile(r"(?<=\s)-(?=[A-Za-z](?:\s|$))"), "dash ", hint="-"),
    Rule(re.compile(r"(?<=\w)–(?=[a-z])"), " to ", hint="–"),
    Rule(re.compile(r"(?<!\w)'n'(?!\w)"), "and", hint="'"),
    Rule(re.compile(r"<=>|<->"), " to and from ", hint="<"),
    Rule(re.compile(r"[-=]+>"), " to ", hint=">"),
    Rule(re.compile(r"<-+"), " from ", hint="<"),
    Rule(re.compile(r"!==?|≠"), " is not equal to ", hint="!≠"),
    Rule(re.compile(r"<=|≤"), " less than or equal to ", hint="<≤"),
    Rule(re.compile(r">=|≥"), " greater than or equal to ", hint=">≥"),
    Rule(re.compile(r"={1,3}(?=\s|\w|$)"), " equals ", hint="="),
    Rule(re.compile(r"(?<=\w)\s?<\s?(?=[\w-])"), " less than ", hint="<"),
    Rule(re.compile(r"(?<=\w)\s?>\s?(?=[\w-])"), " greater than ", hint=">"),
    Rule(re.compile(r"(?<=\w)\s?&\s?(?=\w)|(?<=\s)&(?=\s)"), " and ", hint="&"),
    Rule(re.compile(r"(?<=[\w)])\s?\+(?=[\s\w(]|$)|(?<!\S)\+(?=[\s\w])"), " plus ", hint="+"),
    Rule(
        re.compile(r"(?<=[\w)])\s?×\s?(?=[\w(])|(?<=\w)\s\*\s(?=\w)|(?<=\d)\*(?=\d)"),
        " times ",
        hint="×*",
    ),
    Rule(re.compile(r"÷"), " divided by ", hint="÷"),
    Rule(re.compile(r"±"), " plus or minus ", hint="±"),
    Rule(re.compile(r"≈"), " approximately ", hint="≈"),
    Rule(re.compile(r"√\s?"), " the square root of ", hint="√"),
    Rule(re.compile(r"∞"), " infinity ", hint="∞"),
    Rule(re.compile(r"(?<=\s)@(?=\s)|(?<=\w)@(?=\w)"), " at ", hint="@"),
    Rule(re.compile(r"(?<!\S)#(?=[\s.,!?]|$)"), "hash", hint="#"),
    Rule(re.compile(r"%"), " percent ", hint="%"),
    Rule(re.compile(r"°"), " degrees ", hint="°"),
    Rule(re.compile(r"(?<=[^\W_])_+(?=[^\W_])"), " ", hint="_"),
    Rule(re.compile(r"(?<!\S)'(?!(?:em|til|cause|bout|tis|twas|n)\b)|'(?!\w)"), "", hint="'"),
)
