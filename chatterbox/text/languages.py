"""A text and its language → the writing that the multilingual checkpoints were trained on.

Lower case, NFKD, then for some languages a step of their own. Four of these need a package that is
not part of this project, because of its licence or its size: the user installs it, or the language
is read without it, which is said once.
"""

import json
import logging
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

CANGJIE_FILE: Final = "Cangjie5_TC.json"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Assistant:
    """A package that one language is written better with."""

    module: str
    install: str
    effect: str
    """What is lost without it."""


ASSISTANTS: Final = {
    "he": Assistant("dicta_onnx", "dicta-onnx (declares no licence)", "no vowel marks are added"),
    "ja": Assistant("pykakasi", "pykakasi (GPL)", "kanji are not read as kana"),
    "ru": Assistant("russian_text_stresser", "russian_text_stresser", "no stress marks are added"),
    "zh": Assistant("spacy_pkuseg", "spacy-pkuseg", "words are not set apart"),
}


class Languages:
    """The languages of one checkpoint; `folder` may hold the table of Chinese glyph codes."""

    def __init__(self, languages: Sequence[str], folder: Path) -> None:
        self.default = languages[0]
        self._folder = folder
        self._steps: dict[str, Callable[[str], str]] = {
            "he": self._hebrew,
            "ja": self._japanese,
            "ko": str.strip,  # NFKD has already taken the syllables apart
            "ru": self._russian,
            "zh": self._chinese,
        }
        self._absent = {
            language
            for language, assistant in ASSISTANTS.items()
            if language in languages and find_spec(assistant.module) is None
        }
        for line in self.complaints(languages):
            _LOG.warning("%s", line)

    def complaints(self, languages: Sequence[str]) -> list[str]:
        """What these languages are read without, one line each."""
        lines = [
            f"language {language}: {ASSISTANTS[language].effect};"
            f" install {ASSISTANTS[language].install} for that"
            for language in sorted(self._absent)
        ]
        if "zh" in languages and not (self._folder / CANGJIE_FILE).is_file():
            lines.append(
                f"language zh: {self._folder / CANGJIE_FILE} is missing, so no Chinese character"
                " can be read"
            )
        return lines

    def written(self, text: str, language: str) -> str:
        """The text as the checkpoint's vocabulary spells it, without the language's tag."""
        text = unicodedata.normalize("NFKD", text.lower())
        step = self._steps.get(language)
        return step(text) if step else text

    def _hebrew(self, text: str) -> str:
        if "he" in self._absent:
            return text
        marked: str = self._dicta.add_diacritics(text)
        return marked

    def _russian(self, text: str) -> str:
        if "ru" in self._absent:
            return text
        marked: str = self._stresser.stress_text(text)
        return marked

    def _japanese(self, text: str) -> str:
        """Words with kanji become hiragana; a space sets off the particles は and へ, which sound
        differently from the syllables.
        """
        if "ja" in self._absent:
            return text
        written = []
        for word in self._kakasi.convert(text):
            kana = word["hira"]
            if not any("\u4e00" <= char <= "\u9fff" for char in word["orig"]):
                written.append(word["orig"])
            else:
                written.append(f" {kana}" if kana[:1] in ("は", "へ") else kana)
        return unicodedata.normalize("NFKD", "".join(written))

    def _chinese(self, text: str) -> str:
        """Words apart, and each character as the keys that Cangjie types it with."""
        if "zh" not in self._absent:
            text = " ".join(self._pkuseg.cut(text))
        return "".join(self._glyph(char) for char in text)

    def _glyph(self, char: str) -> str:
        keys = self._cangjie.get(char) if unicodedata.category(char) == "Lo" else None
        if keys is None:
            return char
        return "".join(f"[cj_{key}]" for key in keys) + "[cj_.]"

    @cached_property
    def _cangjie(self) -> dict[str, str]:
        """Glyph → keys; a digit tells apart glyphs that share their keys."""
        path = self._folder / CANGJIE_FILE
        if not path.is_file():
            return {}
        glyphs_of: dict[str, list[str]] = {}
        keys_of: dict[str, str] = {}
        for entry in json.loads(path.read_text(encoding="utf-8")):
            glyph, keys = entry.split("\t")[:2]
            sharing = glyphs_of.setdefault(keys, [])
            if glyph not in sharing:
                sharing.append(glyph)
            keys_of[glyph] = keys + (str(sharing.index(glyph)) if sharing[0] != glyph else "")
        return keys_of

    # Loaded when first needed: each takes seconds.

    @cached_property
    def _dicta(self) -> Any:
        return import_module("dicta_onnx").Dicta()

    @cached_property
    def _stresser(self) -> Any:
        return import_module("russian_text_stresser.text_stresser").RussianTextStresser()

    @cached_property
    def _kakasi(self) -> Any:
        return import_module("pykakasi").kakasi()

    @cached_property
    def _pkuseg(self) -> Any:
        return import_module("spacy_pkuseg").pkuseg()
