"""What the engine asks of a front end: the text of a segment → text tokens of one checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TextWarning:
    """Something in the text is not spoken as written; `code` is for programs, `message` for
    people.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """Text tokens `first` up to `last` say these runs of characters of the text: mostly one word.
    Pauses around it belong to none.
    """

    runs: tuple[tuple[int, int], ...]
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """Text tokens of one segment, without what frames a sequence."""

    tokens: Sequence[int]
    warnings: Sequence[TextWarning]
    parts: Sequence[Sequence[int]] = ()
    """The same text as several generations, where the front end knows that one could not hold its
    speech; empty for one.
    """
    words: Sequence[TokenSpan] = ()
    """Which tokens say which words, in order; empty where the front end does not know."""


class FrontEnd(Protocol):
    """Text → tokens. Slow parts are loaded at the first call, which warm-up makes."""

    @property
    def separator(self) -> int | None:
        """The token between words, where a long sequence may be cut; None for nowhere."""

    @property
    def tags(self) -> Sequence[str]:
        """Those of `TAGS` that have a token of their own."""

    @property
    def phonemes(self) -> str:
        """The alphabet of `sounds`; empty where words have to do."""

    def encode(
        self,
        text: str,
        language: str | None = None,
        sounds: Mapping[str, str] | None = None,
    ) -> Encoded:
        """`language` is one of the checkpoint's; None is its first. `sounds`: words of the text, of
        small letters, that sound as these phonemes.
        """
