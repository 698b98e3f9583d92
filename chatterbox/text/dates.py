"""Dates, years, decades and times of day as written → as an American reader says them."""

import re
from typing import Final

from chatterbox.text.numbers import cardinal, ordinal, year
from chatterbox.text.rules import AFTER_NUMBER, Rule, any_of, words

MONTHS: Final = words(
    "January February March April May June July August September October November December"
)
_MONTH_OF: Final = {
    **{name: name for name in MONTHS},
    **{name[:3]: name for name in MONTHS},
    "Sept": "September",
}
_MONTH: Final = any_of(_MONTH_OF)
_DAY: Final = r"(?:0?[1-9]|[12]\d|3[01])"
_TH: Final = r"(?:st|nd|rd|th)?"
_YEAR: Final = r"\d{4}"
_HOUR_MARK: Final = r"\s?([AaPp])(?:\.\s?[Mm]\.?|[Mm])(?![A-Za-z])"

_AFTER_PREPOSITION: Final = re.compile(
    r"(?:^|\b)(?:in|In|since|Since|by|By|until|till|from|From|of|during|During|before|Before|after"
    r"|After|around|circa|year|years|early|late|mid|to|and|summer|spring|winter|fall|autumn)[ ]$"
)
_COUNTED: Final = re.compile(
    r" (?:(?!(?:was|is|has|as|this|its|his|us|does|vs)\b)[a-z]{2,20}(?<![sui])s\b"
    r"|people|men|women|children)"
)


def _date(*, month: str, day: str, year_text: str | None = None) -> str:
    words = f"{_MONTH_OF[month]} {ordinal(int(day))}"
    return f"{words}, {year(int(year_text))}" if year_text else words


def _numeric_date(match: re.Match[str], *, month: int, day: int, year_text: str) -> str:
    if month > 12 and day <= 12:
        month, day = day, month
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match[0]
    if len(year_text) == 2:
        year_text = ("19" if int(year_text) > 50 else "20") + year_text
    return _date(month=MONTHS[month - 1], day=str(day), year_text=year_text)


def _iso_date(match: re.Match[str]) -> str:
    return _numeric_date(match, month=int(match[2]), day=int(match[3]), year_text=match[1])


def _iso_time(match: re.Match[str]) -> str:
    zone = " UTC" if match[3] else ""
    return f" at {_clock(int(match[1]), int(match[2]))}{zone}"


def _slash_date(match: re.Match[str]) -> str:
    return _numeric_date(match, month=int(match[1]), day=int(match[2]), year_text=match[3])


def _dot_date(match: re.Match[str]) -> str:
    return _numeric_date(match, month=int(match[2]), day=int(match[1]), year_text=match[3])


def _month_day(match: re.Match[str]) -> str:
    words = _date(month=match["month"], day=match["day"])
    if match["last"]:
        words += " to " + ordinal(int(match["last"]))
    if match["year"]:
        words += ", " + year(int(match["year"]))
    return words


def _day_month(match: re.Match[str]) -> str:
    words = f"the {ordinal(int(match['day']))} of {_MONTH_OF[match['month']]}"
    return f"{words}, {year(int(match['year']))}" if match["year"] else words


def _month_year(match: re.Match[str]) -> str:
    return f"{_MONTH_OF[match[1]]} {year(int(match[2]))}"


def _decade(match: re.Match[str]) -> str:
    century, decade = match[1] or "", cardinal(int(match[2]))
    if match[2] == "00":
        return f"{year(int(century + '00'))}s" if century else "two thousands"
    plural = decade.removesuffix("y") + "ies" if decade.endswith("y") else decade + "s"
    return f"{cardinal(int(century))} {plural}" if century else plural


def _years(match: re.Match[str]) -> str:
    last = int(match[2])
    return f"{year(int(match[1]))} to {year(last) if last > 99 else cardinal(last)}"


def _lone_year(match: re.Match[str]) -> str:
    number, text = int(match[0]), match.string
    before = text[max(0, match.start() - 12) : match.start()]
    is_certain = _AFTER_PREPOSITION.search(before) is not None
    if not is_certain and (number < 1100 or _COUNTED.match(text, match.end())):
        return cardinal(number)
    return year(number)


def _clock(hour: int, minute: int, half: str = "") -> str:
    suffix = f" {half.upper()}M" if half else ""
    if minute == 0:
        if half or hour > 12:
            return cardinal(hour) + (suffix or " hundred")
        return cardinal(hour) + " o'clock"
    return f"{cardinal(hour)} {'oh ' if minute < 10 else ''}{cardinal(minute)}{suffix}"


def _time(match: re.Match[str]) -> str:
    hour, minute, second, half = int(match[1]), int(match[2]), match[3], match[4] or ""
    if hour > 24:
        return match[0]
    if second is None:
        return _clock(hour, minute, half) + _stop_after(match)
    parts = [(hour, "hour"), (minute, "minute"), (int(second), "second")]
    said = [f"{cardinal(n)} {unit}{'' if n == 1 else 's'}" for n, unit in parts]
    return f"{said[0]}, {said[1]} and {said[2]}"


def _hour(match: re.Match[str]) -> str:
    words = f"{cardinal(int(match[2]))} {match[3].upper()}M{_stop_after(match)}"
    return f"{cardinal(int(match[1]))} to {words}" if match[1] else words


def _stop_after(match: re.Match[str]) -> str:
    """The full stop of "p.m." that is also the end of a sentence."""
    rest = match.string[match.end() : match.end() + 2]
    ends = not rest.strip() or (rest[0] == " " and rest[1].isupper())
    return "." if match[0].endswith(".") and ends else ""


def _follows_iso_date(match: re.Match[str]) -> bool:
    start = match.start()
    return bool(re.fullmatch(r"\d{4}-\d{2}-\d{2}", match.string[max(0, start - 10) : start]))


RULES: Final = (
    Rule(re.compile(r"\b24/7\b"), "twenty-four seven", hint="/"),
    Rule(re.compile(r"\b9/11\b"), "nine eleven", hint="/"),
    Rule(re.compile(r"(?<=:[0-5]\d)\s?[-–]\s?(?=\d{1,2}:[0-5]\d)"), " to ", hint=":"),
    Rule(
        re.compile(
            r"(?<=\d)[T ](\d{2}):(\d{2})(?::\d{2}(?:\.\d{1,9})?)?(Z)?(?:[+-]00:00)?(?=[\s,.;)]|$)"
        ),
        lambda match: _iso_time(match) if _follows_iso_date(match) else match[0],
        hint=":",
    ),
    Rule(re.compile(r"(?<![\w-])(\d{4})-(\d{2})-(\d{2})(?![\w-])"), _iso_date, hint="-"),
    Rule(
        re.compile(r"(?<![\w/])(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})(?![\w/])"), _slash_date, hint="/"
    ),
    Rule(re.compile(r"(?<![\w.])(\d{1,2})\.(\d{1,2})\.(\d{4})(?!\w|\.\d)"), _dot_date, hint="."),
    Rule(
        re.compile(
            r"\b((?:[Oo]n|[Bb]y|[Uu]ntil|[Ss]ince|[Bb]efore|[Aa]fter|due) )"
            r"(0?[1-9]|1[0-2])/(0?[1-9]|[12]\d|3[01])(?![\w/]|\.\d)"
        ),
        lambda match: match[1] + _date(month=MONTHS[int(match[2]) - 1], day=match[3]),
        hint="/",
    ),
    Rule(
        re.compile(
            rf"\b(?P<month>{_MONTH})\.?\s(?P<day>{_DAY}){_TH}(?:\s?[-–]\s?(?P<last>{_DAY}){_TH})?"
            rf"(?:,?\s(?P<year>{_YEAR}))?(?![\w:%]|[.,]\d)"
        ),
        _month_day,
    ),
    Rule(
        re.compile(
            rf"(?<![\w.,:/-])(?:[Tt]he )?(?P<day>{_DAY}){_TH}\s(?:of\s)?(?P<month>{_MONTH})\b"
            rf"(?:\.(?=\s[a-z\d]))?(?:,?\s(?P<year>{_YEAR})\b)?"
        ),
        _day_month,
    ),
    Rule(re.compile(rf"\b({_MONTH})\.?,?\s({_YEAR})(?!\w|[.,]\d)"), _month_year),
    Rule(
        re.compile(rf"(?<![\w:.])(\d{{1,2}}):([0-5]\d)(?::([0-5]\d))?(?:{_HOUR_MARK})?(?![\d:])"),
        _time,
        hint=":",
    ),
    Rule(
        re.compile(rf"(?<![\w:.,$])(?:(\d{{1,2}})\s?[-–]\s?)?(1[0-2]|[1-9]){_HOUR_MARK}"),
        _hour,
        hint="mM",
    ),
    Rule(re.compile(r"(?<=\b[AP]M)\s?[-–]\s?(?=\w)"), " to ", hint="M"),
    Rule(
        re.compile(r"(?<!\w)(\d{1,2}) o'clock"), lambda match: cardinal(int(match[1])) + " o'clock"
    ),
    Rule(re.compile(r"(?<![\w.,])(?:(1\d|20)|')(\d0)'?s\b"), _decade, hint="s"),
    Rule(re.compile(r"(?<![\w.,])()([2-9]0)s\b"), _decade, hint="s"),
    Rule(
        re.compile(
            rf"(?<![\w.,$€£-])(1[0-9]\d\d|20\d\d)\s?[-–/]\s?(1\d\d\d|20\d\d|\d\d){AFTER_NUMBER}"
        ),
        _years,
        hint="-–/",
    ),
    Rule(
        re.compile(
            rf"(?<![\w.,$€£¥₹#/:+=*×÷<>~^-])(?:1\d\d\d|20\d\d){AFTER_NUMBER}(?![-/%°]|\s?[×÷*+=^])"
        ),
        _lone_year,
    ),
)
