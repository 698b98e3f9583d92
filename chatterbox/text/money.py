"""Amounts of money as written → as an American reader says them."""

import re
from typing import Final

from chatterbox.text.numbers import cardinal, spoken_number
from chatterbox.text.rules import BEFORE_NUMBER, INTEGER, MINUS, NUMBER, Rule, any_of
from chatterbox.text.units import CURRENCIES, PER, SCALES, UNITS, Currency

_SYMBOL: Final = any_of(CURRENCIES)
_CODE: Final = any_of(code for code in CURRENCIES if code.isalpha())
_MARK: Final = any_of(mark for mark in CURRENCIES if not mark.isalpha())
_SCALE: Final = rf"(?:\s?(?P<scale>{any_of(SCALES)})(?!\w))?"
_FIRST: Final = rf"{BEFORE_NUMBER}(?:(?P<first>{NUMBER})\s?[-–]\s?)?"


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
    if groups.get("first"):
        words = f"{spoken_number(groups['first'])} to {words}"
    if groups.get("last"):
        last = _amount(match["last"], currency, groups["scale"])
        words = f"{spoken_number(match['number'])} to {last}"
    if groups.get("noun"):
        words = f"{spoken_number(match['number'])} {currency.singular} {groups['noun']}"
    if groups.get("per"):
        per = match["per"]
        words += " per " + (PER.get(per) or UNITS.get(per, (per, ""))[0])
    return ("minus " if groups.get("sign") else "") + words


RULES: Final = (
    Rule(
        re.compile(
            rf"(?<!\w){MINUS}(?P<currency>{_MARK})\s?(?P<number>{INTEGER})[ -]"
            r"(?P<noun>bill|note|coin|ticket|fee|fine|prize|check|deposit|tip)\b"
        ),
        _money,
    ),
    Rule(
        re.compile(
            rf"(?<![A-Za-z\d]){MINUS}(?P<currency>{_SYMBOL})\s?(?P<number>{NUMBER})"
            rf"(?:\s?[-–]\s?(?:{_MARK})?(?P<last>{NUMBER}))?{_SCALE}(?:\s?/\s?(?P<per>[A-Za-z]{{1,9}})\b)?"
        ),
        _money,
    ),
    Rule(
        re.compile(rf"{_FIRST}{MINUS}(?P<number>{NUMBER}){_SCALE}\s?(?P<currency>{_MARK})(?!\w)"),
        _money,
    ),
    Rule(
        re.compile(rf"{_FIRST}{MINUS}(?P<number>{NUMBER}){_SCALE} (?P<currency>{_CODE})\b"),
        _money,
    ),
)
