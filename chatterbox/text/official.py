"""A checkpoint folder and its text settings → the front end of an official variant.

Text → punctuation → the string that the variant's tokenizer expects → text tokens. The
vocabularies are files of the checkpoint; none of them is here.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from chatterbox.api import TAGS
from chatterbox.text.front_end import Encoded, TextWarning
from chatterbox.text.languages import Languages
from chatterbox.text.punc_norm import ENGLISH, MULTILINGUAL, TURBO
from chatterbox.text.speech_need import pieces_within

SPACE: Final = "[SPACE]"
UNKNOWN: Final = "[UNK]"


class VocabularyError(ValueError):
    """A file of the checkpoint's tokenizer is not there or does not fit; the message says which."""


class OfficialFrontEnd(ABC):
    """What the official variants share: a text that needs too much speech is cut before it is read.

    `most_speech` and `most_tokens` are what one generation can hold, in speech and text tokens.
    """

    def __init__(self, tokenizer: Tokenizer, *, most_speech: int, most_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._most_speech = most_speech
        self._most_tokens = most_tokens
        self._unknown = tokenizer.token_to_id(UNKNOWN)
        self._tags = tuple(tag for tag in TAGS if tokenizer.token_to_id(tag) is not None)

    @property
    def tags(self) -> Sequence[str]:
        """Those that the vocabulary holds."""
        return self._tags

    @property
    def phonemes(self) -> str:
        """None: these models read letters."""
        return ""

    @property
    @abstractmethod
    def separator(self) -> int | None:
        """The token between words; None where it is part of the words."""

    @abstractmethod
    def model_text(self, text: str, language: str | None = None) -> str:
        """The string that the tokenizer's model is given."""

    def encode(
        self,
        text: str,
        language: str | None = None,
        sounds: Mapping[str, str] | None = None,
    ) -> Encoded:
        """No tokens if nothing in the text can be spoken."""
        assert not sounds, "there are no phonemes to say it with"
        pieces = pieces_within(text, self._most_speech)
        parts = [part for piece in pieces for part in self._parts(piece, language)]
        tokens = [token for part in parts for token in part]
        return Encoded(tokens, self._warnings(tokens), parts if len(parts) > 1 else ())

    def _parts(self, piece: str, language: str | None) -> list[list[int]]:
        """Tokens of a piece; in halves as long as they are too many, however little they sound."""
        if not any(char.isalnum() for char in piece):
            return []  # asked to speak nothing, the models make something up
        tokens: list[int] = self._tokenizer.encode(self.model_text(piece, language)).ids
        if len(tokens) <= self._most_tokens or len(piece) == 1:
            return [tokens]
        middle = len(piece) // 2
        cut = piece.rfind(" ", 0, middle) + 1 or middle
        return self._parts(piece[:cut], language) + self._parts(piece[cut:], language)

    def _warnings(self, tokens: list[int]) -> list[TextWarning]:
        count = 0 if self._unknown is None else tokens.count(self._unknown)
        if not count:
            return []
        message = f"{count} characters are unknown to the model and may sound like anything"
        return [TextWarning("unknown_characters", message)]


class EnglishFrontEnd(OfficialFrontEnd):
    """The English checkpoint: its own JSON vocabulary of 704 pieces, spaces written as a token."""

    @property
    def separator(self) -> int | None:
        separator: int | None = self._tokenizer.token_to_id(SPACE)
        return separator

    def model_text(self, text: str, language: str | None = None) -> str:
        return ENGLISH.normalise(text).replace(" ", SPACE)


class TurboFrontEnd(OfficialFrontEnd):
    """Turbo and Nano: GPT-2's byte pairs, and tags such as [laugh] as tokens of their own."""

    @property
    def separator(self) -> int | None:
        return None

    def model_text(self, text: str, language: str | None = None) -> str:
        return TURBO.normalise(text)


class MultilingualFrontEnd(OfficialFrontEnd):
    """The multilingual checkpoints. The order counts: lower case, NFKD, then the language's own
    step, which therefore sees letters and their marks apart; the language's tag comes last.
    """

    def __init__(
        self, tokenizer: Tokenizer, languages: Languages, *, most_speech: int, most_tokens: int
    ) -> None:
        super().__init__(tokenizer, most_speech=most_speech, most_tokens=most_tokens)
        self._languages = languages

    @property
    def separator(self) -> int | None:
        separator: int | None = self._tokenizer.token_to_id(SPACE)
        return separator

    def model_text(self, text: str, language: str | None = None) -> str:
        language = language or self._languages.default
        written = self._languages.written(MULTILINGUAL.normalise(text), language)
        return f"[{language}]{written}".replace(" ", SPACE)


def json_tokenizer(path: Path) -> Tokenizer:
    """The English or multilingual vocabulary."""
    if not path.is_file():
        raise VocabularyError(f"{path}: no such file; the checkpoint's tokenizer belongs there")
    return Tokenizer.from_file(str(path))


def gpt2_tokenizer(folder: Path) -> Tokenizer:
    """GPT-2's byte pairs (`vocab.json`, `merges.txt`) and the tags of `added_tokens.json`."""
    files = [folder / name for name in ("vocab.json", "merges.txt", "added_tokens.json")]
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise VocabularyError(
            f"{missing[0]}: no such file; the checkpoint's tokenizer belongs there"
        )
    vocabulary, merges, added = files
    tokenizer = Tokenizer(BPE.from_file(str(vocabulary), str(merges)))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tags: dict[str, int] = json.loads(added.read_text(encoding="utf-8"))
    in_order = sorted(tags, key=tags.__getitem__)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in in_order])
    wrong = [tag for tag in in_order if tokenizer.token_to_id(tag) != tags[tag]]
    if wrong:
        raise VocabularyError(
            f"{added}: {wrong[0]} cannot be token {tags[wrong[0]]}; is it of another vocabulary?"
        )
    return tokenizer
