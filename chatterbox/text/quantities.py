"""Money, percentages, units, ratios, phone numbers, versions and plain numbers → words."""

import re
from typing import Final

from chatterbox.text import money
from chatterbox.text.numbers import (
    cardinal,
    digits,
    is_one,
    name_number,
    ordinal,
    pairs,
    spoken_number,
)
from chatterbox.text.rules import BEFORE_NUMBER, INTEGER, MINUS, NUMBER, Rule, any_of
from chatterbox.text.units import PER, UNITS

_UNIT: Final = any_of(UNITS)
_PER: Final = any_of(PER)
_FRACTION_NAMES: Final = {2: ("half", "halves"), 4: ("quarter", "quarters")}
_POWERS: Final = {"2": " squared", "3": " cubed"}


def _unit_name(unit: str, *, is_single: bool) -> str:
    singular, plural = UNITS[unit]
    return singular if is_single else plural


def _measure(match: re.Match[str]) -> str:
    number, last = match["number"], match["last"]
    is_single = match["link"] == "-" or (last is None and is_one(number))
    words = spoken_number(number) + (f" to {spoken_number(last)}" if last else "")
    if match["power"]:
        words += {"2": " square", "3": " cubic"}[match["power"].strip("^")]
    words += " " + _unit_name(match["unit"], is_single=is_single)
    if match["per"]:
        words += " per " + (PER.get(match["per"]) or UNITS[match["per"]][0])
        words += " squared" if match["squared"] else ""
    return ("minus " if match["sign"] else "") + words


def _feet_inches(match: re.Match[str]) -> str:
    feet = f"{cardinal(int(match[1]))} {'foot' if match[1] == '1' or match[2] else 'feet'}"
    return f"{feet} {cardinal(int(match[2]))}" if match[2] else feet


def _degrees(match: re.Match[str]) -> str:
    name = {"C": " Celsius", "F": " Fahrenheit", "K": " Kelvin", None: ""}[match["scale"]]
    words = spoken_number(match["number"])
    words += " degree" if is_one(match["number"]) else " degrees"
    return ("minus " if match["sign"] else "") + words + name


def _percent(match: re.Match[str]) -> str:
    last = f" to {spoken_number(match['last'])}" if match["last"] else ""
    mark = "percent" if match["mark"] == "%" else "per mille"
    return f"{'minus ' if match['sign'] else ''}{spoken_number(match['number'])}{last} {mark}"


def _fraction(match: re.Match[str]) -> str:
    whole, top, bottom = match[1], int(match[2]), int(match[3])
    if match["unit"]:
        unit = _unit_name(match["unit"], is_single=whole is None)
        return f"{_fraction_words(whole, top, bottom)} {unit}"
    return _fraction_words(whole, top, bottom)


def _fraction_words(whole: str | None, top: int, bottom: int) -> str:
    if not 0 < top < bottom or bottom > 100:
        said = f"{cardinal(top)} over {cardinal(bottom)}"
        return f"{cardinal(int(whole))} {said}" if whole else said
    names = _FRACTION_NAMES.get(bottom, (ordinal(bottom), ordinal(bottom) + "s"))
    if whole and top == 1:
        article = "an" if bottom == 8 else "a"
        return f"{cardinal(int(whole))} and {article} {names[0]}"
    said = f"{cardinal(top)} {names[0] if top == 1 else names[1]}"
    return f"{cardinal(int(whole))} and {said}" if whole else said


def _phone(match: re.Match[str]) -> str:
    groups = re.findall(r"\d+", match[0])
    said = [
        f"{cardinal(int(group[0]))} hundred" if group in ("800", "900") else digits(group)
        for group in groups
    ]
    return ("plus " if match[0].startswith("+") else "") + ", ".join(said)


def _version(match: re.Match[str]) -> str:
    parts = " point ".join(spoken_number(part) for part in match[2].split("."))
    return f"version {parts}" if match[1] else parts


def _named_version(match: re.Match[str]) -> str:
    return match[1] + " " + " point ".join(spoken_number(part) for part in match[2].split("."))


def _range(match: re.Match[str]) -> str:
    if "=" in match.string and " - " in match[0]:
        return f"{match[1]} minus {match[2]}"
    return f"{match[1]} to {match[2]}"


def _power(match: re.Match[str]) -> str:
    said = _POWERS.get(match[2]) or f" to the power of {spoken_number(match[2])}"
    return match[1] + said


def _scientific(match: re.Match[str]) -> str:
    exponent = match[2].replace("+", "")
    return f"{spoken_number(match[1])} times ten to the power of {spoken_number(exponent)}"


def _glued(match: re.Match[str]) -> str:
    """A number and the letters around it: MP3, 5G, x86, B2B, 3D."""
    parts = re.findall(r"\d+|[^\W\d_]+", match[0])
    return " ".join(name_number(part) if part.isdigit() else part for part in parts)


def _number(match: re.Match[str]) -> str:
    words = ("minus " if match["sign"] else "") + spoken_number(match["number"])
    start, end = match.span()
    before, after = match.string[max(0, start - 1) : start], match.string[end : end + 1]
    return f"{' ' if before.isalpha() else ''}{words}{' ' if after.isalpha() else ''}"


def _address(text: str) -> str:
    return " dot ".join(digits(part) for part in text.split("."))


def _pixels(match: re.Match[str]) -> str:
    return f"{pairs(int(match[1]))} by {pairs(int(match[2]))}"


def _lines(text: str) -> str:
    return f"{pairs(int(text[:-1]))} {text[-1]}"


RULES: Final = (
    Rule(
        re.compile(
            r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?)?(?:\d[ .-])?\(\d{3}\)[ .-]?\d{3}[ .-]\d{4}(?![\w-])"
            r"|(?<![\w.+-])(?:(?:\+\d{1,3}|1)[ .-])?\d{3}([ .-])\d{3}\1\d{4}(?![\w-])"
            r"|(?<![\w.+-])\+\d{1,3}(?:[ .-]?\d{2,5}){2,5}(?![\w-])"
            r"|(?<![\w.+-])\d{3}-\d{4}(?![\w-])"
            r"|(?<![\w.+-])0\d{2,4}(?: \d{3,4}){1,2}(?![\w-])"
            r"|(?<![\w.+-])\d{3}-\d{2}-\d{4}(?![\w-])"
            r"|(?<![\w.+-])\d{4}([ -])\d{4}\2\d{4}\2\d{4}(?![\w-])"
        ),
        _phone,
        hint="-+( .",
    ),
    Rule(
        re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})(?!\w|\.\d)"),
        lambda m: _address(m[1]),
        hint=".",
    ),
    Rule(
        re.compile(r"(?<![\w.])([vV](?:er)?\.? ?)(\d{1,4}(?:\.\d{1,5}){0,4})(?!\w|\.\d)"),
        _version,
        hint="vV",
    ),
    Rule(re.compile(r"(?<![\w.])()(\d{1,4}(?:\.\d{1,5}){2,4})(?!\w|\.\d)"), _version, hint="."),
    Rule(
        re.compile(
            r"\b([Vv]ersion|Python|Node|CUDA|Android|iOS|macOS|Ubuntu|Java)"
            r" (\d{1,3}(?:\.\d{1,3}){1,2})(?!\w|\.\d)"
        ),
        _named_version,
        hint=".",
    ),
    *money.RULES,
    Rule(
        re.compile(
            r"\b([Rr]oom|[Ee]rror|[Ff]light|[Rr]oute|[Hh]ighway|Interstate|Boeing|Airbus|[RG]TX)"
            r" ([1-9]\d{2,3})(?!\w|[.,:]\d)"
        ),
        lambda m: f"{m[1]} {name_number(m[2])}",
    ),
    Rule(re.compile(r"\b([Cc]all|[Dd]ial) (\d11)\b"), lambda m: f"{m[1]} {digits(m[2])}"),
    Rule(re.compile(r"(?<![\w.])(\d{1,4})([a-z])(?=\s?[-+=*/^)])"), r"\1 \2"),
    Rule(re.compile(rf"{BEFORE_NUMBER}({NUMBER})e([+-]?\d{{1,3}})(?!\w)"), _scientific, hint="e"),
    Rule(
        re.compile(
            rf"{BEFORE_NUMBER}{MINUS}(?P<number>{NUMBER})\s?%?(?:\s?[-–]\s?(?P<last>{NUMBER}))?\s?(?P<mark>[%‰])"
        ),
        _percent,
        hint="%‰",
    ),
    Rule(
        re.compile(
            rf"{BEFORE_NUMBER}{MINUS}(?P<number>{NUMBER})\s?°\s?(?:(?P<scale>[CFK])(?!\w))?"
        ),
        _degrees,
        hint="°",
    ),
    Rule(
        re.compile(
            rf"(?<![\w./])(?:(\d{{1,3}}) )?(\d{{1,3}})/(\d{{1,3}})"
            rf"(?:\s?(?P<unit>{_UNIT})(?!\w)|(?![\w/]|\.\d))"
        ),
        _fraction,
        hint="/",
    ),
    Rule(re.compile(r"(\d\.\d)/(\d{1,3})(?![\w/]|\.\d)"), r"\1 out of \2", hint="/"),
    Rule(re.compile(r"(?<!\w)(\d)'\s?(\d{1,2})?\"?(?![\w'])"), _feet_inches, hint="'"),
    Rule(
        re.compile(
            rf"{BEFORE_NUMBER}{MINUS}(?P<number>{NUMBER})(?:\s?[-–]\s?(?P<last>{NUMBER}))?"
            r"(?P<link>[ -]?)"
            rf"(?P<unit>{_UNIT})(?P<power>\^?[23](?!\d))?(?:/(?P<per>{_PER})(?P<squared>\^2)?)?"
            r"(?![\w^])"
        ),
        _measure,
    ),
    Rule(
        re.compile(rf"{BEFORE_NUMBER}({INTEGER})(?:st|nd|rd|th)\b"),
        lambda m: ordinal(int(m[1].replace(",", "")[:15])),
        hint="sdh",
    ),
    Rule(
        re.compile(r"(?<![\w.])(\d{1,6}|[A-Za-z]{1,2})\^\(?(-?\d{1,3})\)?(?!\w)"),
        _power,
        hint="^",
    ),
    Rule(re.compile(r"(?<![\w.])(\d{3,4})[x×](\d{3,4})(?!\w)"), _pixels, hint="x×"),
    Rule(re.compile(r"(?<![\w.])(\d{1,4}(?:\.\d)?)(?:[x×]| x )(?=\d)"), r"\1 by ", hint="x×"),
    Rule(re.compile(rf"{BEFORE_NUMBER}({NUMBER})[xX×](?!\w)"), r"\1 times", hint="xX×"),
    Rule(
        re.compile(rf"{BEFORE_NUMBER}({NUMBER})k\b"),
        lambda m: spoken_number(m[1]) + " thousand",
        hint="k",
    ),
    Rule(
        re.compile(rf"{BEFORE_NUMBER}(\d{{2,3}}|\d+\.\d+)K\b"),
        lambda m: spoken_number(m[1]) + " thousand",
        hint="K",
    ),
    Rule(
        re.compile(rf"{BEFORE_NUMBER}({NUMBER})M\b(?! [A-Z])"),
        lambda m: spoken_number(m[1]) + " million",
        hint="M",
    ),
    Rule(
        re.compile(rf"{BEFORE_NUMBER}({NUMBER})(?:B|bn)\b(?! [A-Z])"),
        lambda m: spoken_number(m[1]) + " billion",
        hint="Bb",
    ),
    Rule(re.compile(r"(?<![\w:.])(\d{1,3}):(\d{1,3})(?![\w:]|\.\d)"), r"\1 to \2", hint=":"),
    Rule(
        re.compile(rf"(?<![\w.-])({NUMBER})(?:\s?–\s?| - |-)(?={NUMBER}(?![\w-]|\.\d))({NUMBER})"),
        _range,
        hint="-–",
    ),
    Rule(re.compile(r"\b(1080|720|480|2160|1440)[pi]\b"), lambda m: _lines(m[0]), hint="pi"),
    Rule(re.compile(r"(?<=[A-Z])-(?=\d)"), " ", hint="-"),
    Rule(
        re.compile(r"(?<![^\W_])(?=[^\W_]{0,12}\d)(?=\d{0,12}[^\W\d_])[^\W_]{2,20}(?![^\W_])"),
        _glued,
    ),
    Rule(re.compile(rf"{MINUS}(?<!\d)(?P<number>{NUMBER}|\.\d{{1,15}}(?!\d))"), _number),
)
