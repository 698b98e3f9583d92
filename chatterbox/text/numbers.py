"""Numbers as digits → numbers as an American reader says them."""

from functools import lru_cache
from typing import Final

from num2words import num2words

_MAX_DIGITS: Final = 15
"""A longer number is an identifier: nobody says it as a quantity."""

_DIGITS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@lru_cache(maxsize=4096)
def cardinal(number: int) -> str:
    """1234 → "one thousand two hundred thirty-four"."""
    words: str = num2words(abs(number)).replace(",", "").replace(" and ", " ")
    return words if number >= 0 else "minus " + words


@lru_cache(maxsize=1024)
def ordinal(number: int) -> str:
    """21 → "twenty-first"."""
    words: str = num2words(number, to="ordinal")
    return words.replace(",", "").replace(" and ", " ")


def digits(text: str) -> str:
    """Digits one by one; other characters are skipped."""
    return " ".join(_DIGITS[int(char)] for char in text if char.isdigit())


def pairs(number: int) -> str:
    """A number of three or four digits in two halves: 1080 → "ten eighty", 905 → "nine oh five"."""
    high, low = divmod(number, 100)
    if low == 0:
        return cardinal(high) + " hundred"
    return f"{cardinal(high)} {'oh ' if low < 10 else ''}{cardinal(low)}"


def year(number: int) -> str:
    """1905 → "nineteen oh five", 2005 → "two thousand five", 2019 → "twenty nineteen"."""
    if number % 1000 < 10 or not 1000 <= number <= 9999:
        return cardinal(number)
    return pairs(number)


def spoken_number(text: str) -> str:
    """ "1,234.50" → words; a number with leading zeros, or a very long one, digit by digit."""
    sign = "minus " if text.startswith("-") else ""
    whole, point, fraction = text.lstrip("-").replace(",", "").partition(".")
    if len(whole) > _MAX_DIGITS or (len(whole) > 1 and whole[0] == "0"):
        words = digits(whole)
    else:
        words = cardinal(int(whole)) if whole else ""
    if point:
        words = f"{words} point {digits(fraction)}"
    return (sign + words).strip().replace("  ", " ")


def is_one(text: str) -> bool:
    """Whether a noun after this number is singular."""
    return text.lstrip("-") == "1"


def name_number(text: str) -> str:
    """The number in a name: "MP3" → "three", "A380" → "three eighty", "X0123" → digits."""
    if len(text) in (3, 4) and text[0] != "0":
        return pairs(int(text))
    return spoken_number(text) if len(text) <= 2 else digits(text)
