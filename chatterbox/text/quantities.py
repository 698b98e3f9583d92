"""Money, percentages, units, ratios, phone numbers, versions and plain numbers → words."""

import re
from typing import Final

from chatterbox.text.numbers import (
    cardinal,
    digits,
    is_one,
    ordinal,
    pairs,
    small_or_digits,
    spoken_number,
)
from chatterbox.text.rules import BEFORE_NUMBER, INTEGER, NUMBER, Rule, any_of
from chatterbox.text.units import CURRENCIES, PER, SCALES, UNITS, Currency

_SYMBOL: Final = any_of(CURRENCIES)
_CODE: Final = any_of(code for code in CURRENCIES if code.isalpha())
_MARK: Final = any_of(mark for mark in CURRENCIES if not mark.isalpha())
_SCALE: Final = rf"(?:\s?(?P<scale>{any_of(SCALES)})(?!\w))?"
_UNIT: Final = any_of(UNITS)
_PER: Final = any_of(PER)
_MINUS: Final = r"(?:(?<![\w)])(?P<sign>-))?"
_FRACTION_NAMES: Final = {2: ("half", "halves"), 4: ("quarter", "quarters")}
_POWERS: Final = {"2": " squared", "3": " cubed"}
_SUPERSCRIPTS: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def _amount(number: str, currency: Currency, scale: str | None) -> str:
    whole, _, cents = number.partition(".")
    if scale:
        return f"{spoken_number(number)} {SCALES[scale]} {currency.plural}"
    if not currency.cent or len(cents) not in (1, 2):
        return f"{spoken_number(number)} {currency.noun(number)}"
    num_cents = int(cents.ljust(2, "0"))
    said_cents = f"{cardinal(num_cents)} {currency.cent if num_cents == 1 else currency.cents}"
    said_whole = f"{spoken_number(whole)} {currency.noun(whole)}"
    if num_cents == 0:
        return said_whole
    return said_cents if whole == "0" else f"{said_whole} and {said_cents}"


def _money(match: re.Match[str]) -> str:
    currency = CURRENCIES[match["currency"]]
    groups = match.groupdict()
    words = _amount(match["number"], currency, groups.get("scale"))
    if groups.get("last"):
        last = _amount(match["last"], currency, groups["scale"])
        words = f"{spoken_number(match['number'])} to {last}"
    if groups.get("noun"):
        words = f"{spoken_number(match['number'])} {currency.singular} {groups['noun']}"
    if groups.get("per"):
        words += " per " + PER.get(match["per"], match["per"])
    return ("minus " if groups.get("sign") else "") + words


def _unit_name(unit: str, *, is_single: bool) -> str:
    singular, plural = UNITS[unit]
    return singular if is_single else plural


def _measure(match: re.Match[str]) -> str:
    number, last = match["number"], match["last"]
    is_single = match["link"] == "-" or (last is None and is_one(number))
    words = spoken_number(number) + (f" to {spoken_number(last)}" if last else "")
    if match["power"]:
        words += {"2": " square", "3": " cubic"}[match["power"].strip("^").translate(_SUPERSCRIPTS)]
    words += " " + _unit_name(match["unit"], is_single=is_single)
    if match["per"]:
        words += " per " + (PER.get(match["per"]) or UNITS[match["per"]][0])
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
    exponent = (match[2] or match[3]).translate(_SUPERSCRIPTS)
    return match[1] + (_POWERS.get(exponent) or f" to the power of {spoken_number(exponent)}")


def _scientific(match: re.Match[str]) -> str:
    exponent = match[2].replace("+", "")
    return f"{spoken_number(match[1])} times ten to the power of {spoken_number(exponent)}"


def _glued(match: re.Match[str]) -> str:
    """A number and the letters around it: MP3, 5G, x86, B2B, 3D."""
    parts = re.findall(r"\d+|[^\W\d_]+", match[0])
    return " ".join(small_or_digits(part) if part.isdigit() else part for part in parts)


def _number(match: re.Match[str]) -> str:
    return ("minus " if match["sign"] else "") + spoken_number(match["number"])


def _address(text: str) -> str:
    return " dot ".join(digits(part) for part in text.split("."))


def _lines(text: str) -> str:
    return f"{pairs(int(text[:-1]))} {text[-1]}"


MONEY_RULES: Final = (
    Rule(
        re.compile(
            rf"(?<!\w){_MINUS}(?P<currency>{_MARK})\s?(?P<number>{INTEGER})[ -]"
            r"(?P<noun>bill|note|coin|ticket|fee|fine|prize|check|deposit|tip)\b"
        ),
        _money,
    ),
    Rule(
        re.compile(
            rf"(?<![A-Za-z\d]){_MINUS}(?P<currency>{_SYMBOL})\s?(?P<number>{NUMBER})"
            rf"(?:\s?[-–]\s?(?:{_MARK})?(?P<last>{NUMBER}))?{_SCALE}(?:\s?/\s?(?P<per>[A-Za-z]{{1,9}})\b)?"
        ),
        _money,
    ),
    Rule(
        re.compile(
            rf"{BEFORE_NUMBER}{_MINUS}(?P<number>{NUMBER}){_SCALE}\s?(?P<currency>{_MARK})(?!\w)"
        ),
        _money,
    ),
    Rule(
        re.compile(rf"{BEFORE_NUMBER}{_MINUS}(?P<number>{NUMBER}){_SCALE} (?P<currency>{_CODE})\b"),
        _money,
    ),
)

RULES: Final = (
    Rule(
        re.compile(
            r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?)?(?:\d[ .-])?\(\d{3}\)[ .-]?\d{3}[ .-]\d{4}(?![\w-])"
            r"|(?<![\w.+-])(?:(?:\+\d{1,3}|1)[ .-])?\d{3}([ .-])\d{3}\1\d{4}(?![\w-])"
            r"|(?<![\w.+-])\+\d{1,3}(?:[ .-]?\d{2,5}){2,5}(?![\w-])"
            r"|(?<![\w.+-])\d{3}-\d{4}(?![\w-])"
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
    *MONEY_RULES,
    Rule(re.compile(rf"{BEFORE_NUMBER}({NUMBER})e([+-]?\d{{1,3}})(?!\w)"), _scientific, hint="e"),
    Rule(
        re.compile(
            rf"{BEFORE_NUMBER}{_MINUS}(?P<number>{NUMBER})\s?%?(?:\s?[-–]\s?(?P<last>{NUMBER}))?\s?(?P<mark>[%‰])"
        ),
        _percent,
        hint="%‰",
    ),
    Rule(
        re.compile(
            rf"{BEFORE_NUMBER}{_MINUS}(?P<number>{NUMBER})\s?°\s?(?:(?P<scale>[CFK])(?!\w))?"
        ),
        _degrees,
        hint="°",
    ),
    Rule(re.compile(r"(?<!\w)(\d)'\s?(\d{1,2})?\"?(?![\w'])"), _feet_inches, hint="'"),
    Rule(
        re.compile(
            rf"{BEFORE_NUMBER}{_MINUS}(?P<number>{NUMBER})(?:\s?[-–]\s?(?P<last>{NUMBER}))?"
            r"(?P<link>[ -]?)"
            rf"(?P<unit>{_UNIT})(?P<power>\^?[23²³](?![\d]))?(?:/(?P<per>{_PER}))?(?![\w²³])"
        ),
        _measure,
    ),
    Rule(re.compile(r"\b24/7\b"), "twenty-four seven", hint="/"),
    Rule(re.compile(r"\b9/11\b"), "nine eleven", hint="/"),
    Rule(
        re.compile(r"(?<![\w./])(?:(\d{1,3}) )?(\d{1,3})/(\d{1,3})(?![\w/]|\.\d)"),
        _fraction,
        hint="/",
    ),
    Rule(
        re.compile(rf"{BEFORE_NUMBER}({INTEGER})(?:st|nd|rd|th)\b"),
        lambda m: ordinal(int(m[1].replace(",", "")[:15])),
        hint="sdh",
    ),
    Rule(
        re.compile(r"(?<![\w.])(\d{1,6}|[a-z])(?:\^\(?(-?\d{1,3})\)?|([⁻⁰¹²³⁴-⁹]{1,4}))(?!\w)"),
        _power,
        hint="^⁰¹²³⁴⁵⁶⁷⁸⁹",
    ),
    Rule(re.compile(r"(?<![\w.])(\d{1,4}) ?[x×] ?(?=\d)"), r"\1 by ", hint="x×"),
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
        re.compile(rf"{BEFORE_NUMBER}({NUMBER})M\b"),
        lambda m: spoken_number(m[1]) + " million",
        hint="M",
    ),
    Rule(
        re.compile(rf"{BEFORE_NUMBER}({NUMBER})(?:B|bn)\b"),
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
    Rule(re.compile(rf"{_MINUS}(?<!\d)(?P<number>{NUMBER}|\.\d{{1,15}}(?!\d))"), _number),
)
