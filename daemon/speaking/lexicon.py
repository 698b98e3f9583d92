"""How words are said, from the operator's TOML file or from a client's `open` → checked lexicons.

What an entry may be: docs/text.md. How words are found in a text is the model's business.
"""

import logging
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chatterbox.api import Lexicon, phonemes_of
from daemon.config import ConfigError

LONGEST_WORD_CHARS: Final = 64
LONGEST_SAID_CHARS: Final = 200
_log = logging.getLogger(__name__)


class BadEntry(ValueError):
    """An entry that cannot be used; the message names it."""


def new_lexicon(entries: Mapping[str, str]) -> Lexicon:
    """Raises `BadEntry` for the first that does not fit."""
    checked = {}
    for word, said in entries.items():
        checked[_text(word, "a word", longest=LONGEST_WORD_CHARS)] = said = _text(
            said, f"what is said for {word!r}", longest=LONGEST_SAID_CHARS
        )
        if any(map(str.isspace, phonemes_of(said) or "")):
            raise BadEntry(f"the phonemes of {word!r} hold white space")
    return Lexicon(checked)


def _text(value: str, name: str, *, longest: int) -> str:
    stripped = value.strip()
    if not 1 <= len(stripped) <= longest:
        raise BadEntry(f"{name} must have 1 to {longest} characters: {value[:longest]!r}")
    if any(unicodedata.category(char) == "Cc" for char in stripped):
        raise BadEntry(f"{name} holds a control character: {value!r}")
    return stripped


@dataclass(frozen=True, slots=True)
class HouseLexicon:
    """The operator's."""

    general: Lexicon | None = None
    of_language: Mapping[str, Lexicon] = field(default_factory=dict)

    def of(self, language: str) -> tuple[Lexicon, ...]:
        """Those of a language before those of all."""
        found = (self.of_language.get(language), self.general)
        return tuple(lexicon for lexicon in found if lexicon is not None)

    def for_model(self, model: str, *, phonemes: str) -> "HouseLexicon":
        """Without the entries that this model cannot say, which the log tells once."""
        unsaid: list[str] = []
        general = None if self.general is None else _sayable(self.general, phonemes, unsaid)
        of_language = {
            language: _sayable(lexicon, phonemes, unsaid)
            for language, lexicon in self.of_language.items()
        }
        if unsaid:
            _log.warning(
                "lexicon: model %s has no such phonemes as those of %s; read as written",
                model,
                ", ".join(unsaid),
            )
        return HouseLexicon(general, of_language)


def _sayable(lexicon: Lexicon, phonemes: str, unsaid: list[str]) -> Lexicon:
    entries = {}
    for word, said in lexicon.entries.items():
        if not set(phonemes_of(said) or "") <= set(phonemes):
            unsaid.append(word)
        else:
            entries[word] = said
    return Lexicon(entries)


def read_lexicon(path: Path | None) -> HouseLexicon:
    """Raises `ConfigError` with the file's name and what is wrong in it."""
    if path is None:
        return HouseLexicon()
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        of_language = {
            language: _lexicon_of(table)
            for language, table in found.items()
            if isinstance(table, dict)
        }
        general = _lexicon_of(
            {word: said for word, said in found.items() if word not in of_language}
        )
        return HouseLexicon(general, of_language)
    except (OSError, ValueError) as error:
        raise ConfigError(f"lexicon {path}: {error}") from error


def _lexicon_of(table: Mapping[str, object]) -> Lexicon:
    entries: dict[str, str] = {}
    for word, said in table.items():
        if not isinstance(said, str):
            raise BadEntry(f"what is said for {word!r} must be a text, not {said!r}")
        entries[word] = said
    return new_lexicon(entries)
