"""Unicode text → Latin letters, digits, ASCII punctuation, some symbols; plus what was skipped.

Knows characters, not words. What an English voice cannot say is replaced by a space and reported.
"""
# ruff: noqa: RUF001 (the tables hold look-alike characters on purpose)

import html
import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Skipped(StrEnum):
    """Why a part of a text is not spoken."""

    EMOJI = "emoji"
    SCRIPT = "script"
    CONTROL = "control"
    SYMBOL = "symbol"
    ADDRESS = "address"


_DESCRIPTIONS: Final = {
    Skipped.EMOJI: "emoji",
    Skipped.SCRIPT: "characters of a script that this voice does not speak",
    Skipped.CONTROL: "control characters",
    Skipped.SYMBOL: "symbols",
    Skipped.ADDRESS: "the rest of a long web address",
}
_SAMPLE_CHARS: Final = 24


@dataclass(frozen=True, slots=True)
class SkippedText:
    """A part of the text that will not be heard."""

    kind: Skipped
    sample: str

    @property
    def code(self) -> str:
        return f"skipped_{self.kind}"

    @property
    def message(self) -> str:
        shown = self.sample[:_SAMPLE_CHARS] + ("…" if len(self.sample) > _SAMPLE_CHARS else "")
        return f"skipped {_DESCRIPTIONS[self.kind]}: {shown!r}"


_SAME: Final = {
    **dict.fromkeys("’‘ʼ´‛′", "'"),
    **dict.fromkeys("“”„‟«»‹›″", '"'),
    **dict.fromkeys("‐‑‒−", "-"),
    **dict.fromkeys("―⸺⸻", "—"),
    **dict.fromkeys("。｡।۔", ". "),
    **dict.fromkeys("、，､،", ", "),
    **dict.fromkeys("！", "! "),
    **dict.fromkeys("？؟", "? "),
    **dict.fromkeys("；؛", "; "),
    **dict.fromkeys("：", ": "),
    **dict.fromkeys("（【「『〈《", " ("),
    **dict.fromkeys("）】」』〉》", ") "),
    **dict.fromkeys("®©™℠¶†‡", ""),
    **dict.fromkeys("•‣◦·∙▪▫●○■□►▶◆", " • "),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad\ufe0e\ufe0f\u200e\u200f", ""),
    **dict.fromkeys("¿¡", ""),
    **dict.fromkeys("→⇒⟶", " -> "),
    **dict.fromkeys("←⇐", " <- "),
    "…": "...",
    "⁄": "/",
    "∕": "/",
    "÷": " ÷ ",
    "⋅": " × ",
    "№": "No. ",
    "℃": "°C",
    "℉": "°F",
    "ï": "i",  # naïve, Zürich: the lexicon has these words without the dots
    "ü": "u",
    "Ü": "U",
    "ß": "ss",
    "æ": "ae",
    "Æ": "Ae",
    "œ": "oe",
    "Œ": "Oe",
}
_KEPT: Final = frozenset("°€£¥₹₩₽₿₺₴₪₫฿₱¢±÷×≈≤≥≠∞√§–—•‰")
_GREEK: Final = {
    char: unicodedata.name(char).rpartition(" ")[2].lower().replace("lamda", "lambda")
    for char in "αβγδεζηθικλμνξοπρστυφχψωΓΔΘΛΞΠΣΦΨΩ"
}
_LONE_GREEK: Final = re.compile(rf"(?<![^\W\d_])[{''.join(_GREEK)}](?![^\W\d_])")
_MICRO_UNIT: Final = re.compile(r"(?<=[\d ])μ(?=(?:m|s|g|l|L|A|V|W|F)\b)")
_OHM: Final = re.compile(r"(?<=\d)( ?[kM]?)Ω")
_SUPERSCRIPT: Final = re.compile(r"(?<=[\w)])[⁻²³¹⁰⁴-⁹]{1,4}")
_SUPERSCRIPT_DIGITS: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_FOOTNOTE: Final = re.compile(r"(?<=[^\W\d_]{3})[²³¹⁰⁴-⁹]{1,4}")
_DIGIT_GROUP: Final = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_ESCAPE: Final = re.compile(r"\x1b\[[0-9;]{0,20}[A-Za-z]")
_ODD_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]+")
_EMOTICON: Final = re.compile(
    r"(?<!\S)(?:[:;=8]['o-]?[()DPpO3|/\\*\]\[]|<3|\^_\^|:'\(|xD|XD)(?!\w)"
)
_ENTITY: Final = re.compile(r"&(?:[A-Za-z]{2,8}|#\d{1,6}|#x[0-9A-Fa-f]{1,6});")


def clean(text: str) -> tuple[str, list[SkippedText]]:
    """The speakable characters of a text, and what was left out."""
    skipped: dict[Skipped, list[str]] = {}

    def skip(kind: Skipped, sample: str) -> str:
        skipped.setdefault(kind, []).append(sample)
        return " "

    if "&" in text:
        text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    text = _ESCAPE.sub("", text)
    text = _ODD_CONTROL.sub(lambda match: skip(Skipped.CONTROL, match[0]), text)
    text = _EMOTICON.sub(lambda match: skip(Skipped.EMOJI, match[0]), text)
    if not text.isascii():
        text = _DIGIT_GROUP.sub("", unicodedata.normalize("NFC", text))
        text = _OHM.sub(r"\1ohm", _MICRO_UNIT.sub("u", text.replace("\u00b5", "\u03bc")))
        text = _SUPERSCRIPT.sub(_raised, _FOOTNOTE.sub("", text))
        text = _LONE_GREEK.sub(lambda match: f" {_GREEK[match[0]]} ", text)
        text = _clean_characters(text, skipped)
    return text, [SkippedText(kind, "".join(parts)) for kind, parts in skipped.items()]


def _raised(match: re.Match[str]) -> str:
    return "^" + match[0].translate(_SUPERSCRIPT_DIGITS)


def _clean_characters(text: str, skipped: dict[Skipped, list[str]]) -> str:
    kept: list[str] = []
    for char in text:
        if char.isascii() or char in _KEPT:
            kept.append(char)
        elif char in _SAME:
            kept.append(_SAME[char])
        else:
            spoken = _plain(char)
            if isinstance(spoken, Skipped):
                skipped.setdefault(spoken, []).append(char)
                spoken = " "
            kept.append(spoken)
    return "".join(kept)


def _plain(char: str) -> str | Skipped:
    """A character as one or more that the voice knows, or why it has none."""
    category = unicodedata.category(char)
    if category.startswith("M"):
        return ""  # a mark on a letter that has no composed form
    if category.startswith("Z"):
        return " "
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category in ("Cc", "Cf"):
        return Skipped.CONTROL
    if category.startswith("L") and unicodedata.name(char, "").startswith("LATIN") and char < "ƀ":
        return char
    folded = unicodedata.normalize("NFKD", char)
    if char in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞":
        return " " + folded.replace("⁄", "/")
    ascii_only = "".join(part for part in folded if part.isascii())
    if ascii_only:
        return ascii_only
    if category.startswith(("L", "N")):
        return Skipped.SCRIPT
    return Skipped.EMOJI if category in ("So", "Sk", "Cn", "Co", "Cs") else Skipped.SYMBOL
