"""The text of a segment → phonemes of General American English → text tokens of the bundled voice.

The dictionary and the rules for reading are hibari's G2P, loaded when first needed (0.3 s).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Final, cast

from chatterbox.text.front_end import Encoded, TextWarning, TokenSpan
from chatterbox.text.normalise import normalise
from chatterbox.text.places import Place, places, words_of

_STOPS: Final = ".!?;:,—"
_SILENT: Final = str.maketrans("", "", '"“”()')
"""Marks that the dictionary passes through and nobody hears."""
_PAUSES: Final = _STOPS + "…"

_NO_SOUND: Final = _PAUSES + '"“”() '

_GROUP: Final = re.compile(rf"[^{_PAUSES} ]+")
"""What is said without a pause or a space in it."""

_RARE_PAUSE: Final = re.compile(r" ?(?:—|…|\.\.\.)")
"""Pauses inside a sentence that the voice hardly met in training: it reads them as commas."""
_HISSES: Final = ("s", "z", "ʃ", "ʒ", "ʧ", "ʤ")
_VOICELESS: Final = ("p", "t", "k", "f", "θ")


class FrontEndMissing(RuntimeError):
    """The package that reads English is not installed."""


class PhonemeFrontEnd:
    """Reads English text. `symbols[i]` is the phoneme character of text token i.

    Entries of any other length than one, such as "<stop>", are no phonemes.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self._token_of = {char: token for token, char in enumerate(symbols) if len(char) == 1}
        self._g2p: Callable[..., str] | None = None

    @property
    def separator(self) -> int | None:
        """The token between words."""
        return self._token_of.get(" ")

    @property
    def tags(self) -> Sequence[str]:
        """None: this voice laughs at nothing."""
        return ()

    @property
    def phonemes(self) -> str:
        """What a lexicon may spell a word with: every sound, and no pause."""
        return "".join(char for char in self._token_of if char not in _NO_SOUND)

    def encode(
        self,
        text: str,
        language: str | None = None,
        sounds: Mapping[str, str] | None = None,
    ) -> Encoded:
        """Text tokens of a segment of English, and what of it will not be heard; none if that is
        all of it.
        """
        normalised = normalise(text)
        phonemes = self._phonemes(normalised.text, sounds)
        warnings = [TextWarning(skipped.code, skipped.message) for skipped in normalised.skipped]
        unknown = "".join(sorted(set(phonemes) - self._token_of.keys()))
        if unknown:
            message = f"the voice has no sound for the phonemes {unknown!r}"
            warnings.append(TextWarning("skipped_phonemes", message))
        said = words_of(normalised.text)
        found = places(text, said, lambda run: normalise(run).text)
        return Encoded(
            self.tokens(phonemes), warnings, words=self._token_spans(phonemes, found, said, sounds)
        )

    def __call__(self, text: str) -> str:
        """The phonemes of a text, with its punctuation; empty if there is nothing to say."""
        return self._phonemes(normalise(text).text)

    def tokens(self, phonemes: str) -> list[int]:
        """Text tokens; a phoneme without one is left out."""
        return [self._token_of[char] for char in phonemes if char in self._token_of]

    def _token_spans(
        self,
        phonemes: str,
        found: Sequence[Place],
        said: Sequence[str],
        sounds: Mapping[str, str] | None,
    ) -> list[TokenSpan]:
        """The text tokens of each place; the words `said` were to become phonemes."""
        tokens = [0, *accumulate(char in self._token_of for char in phonemes)]
        bounds = [(tokens[at.start()], tokens[at.end()]) for at in _GROUP.finditer(phonemes)]
        if not bounds:
            return []
        before = self._groups_before(said, len(bounds), sounds)
        spans = []
        for place in found:
            begin = min(before[place.first], len(bounds) - 1)
            end = max(begin + 1, before[place.last])
            spans.append(TokenSpan(place.runs, bounds[begin][0], bounds[end - 1][1]))
        return spans

    def _groups_before(
        self, said: Sequence[str], num_groups: int, sounds: Mapping[str, str] | None
    ) -> list[int]:
        """How many groups of phonemes come before each word, and before the end. A word is one
        group, but for those that the dictionary parts: "O'Brien", "PyTorch", "wi-fi".
        """
        if num_groups == len(said):
            return list(range(num_groups + 1))
        alone = [len(_GROUP.findall(self._phonemes(word, sounds))) for word in said]
        if sum(alone) != num_groups:  # read alone they sound otherwise
            return [place * num_groups // len(said) for place in range(len(said) + 1)]
        return [0, *accumulate(alone)]

    def _phonemes(self, spoken: str, sounds: Mapping[str, str] | None = None) -> str:
        body = spoken.rstrip(_STOPS + " ")
        if not body:
            return ""
        # A final "B." would be taken for an initial and lose its full stop. Of a piece that ends
        # inside a sentence the voice has learned the bare words; the pause is the daemon's.
        stops = spoken[len(body) :].strip(" ,;:—").replace("...", ".")
        g2p = self._g2p or self._load()
        # hibari's own normaliser stays off: it reads "I said no." as "I said number."
        phonemes = g2p(_linked(body, sounds or {}), normalize_text=False).translate(_SILENT)
        phonemes = _RARE_PAUSE.sub(",", " ".join(phonemes.split()))
        return phonemes + stops if phonemes else ""

    def _load(self) -> Callable[..., str]:
        try:
            from hibari.g2p import G2P
        except ImportError as error:
            raise FrontEndMissing(
                "the bundled voice reads English with the package hibari-tts, which is not"
                " installed: pip install hibari-tts"
            ) from error
        self._g2p = cast("Callable[..., str]", G2P())
        return self._g2p


def _linked(spoken: str, sounds: Mapping[str, str]) -> str:
    """The way that hibari is told of a word's sounds."""
    if not sounds:
        return spoken
    known = re.compile(rf"(?<![^\W\d_])({'|'.join(sounds)})('s)?(?![^\W\d_])")

    def one(match: re.Match[str]) -> str:
        sound = sounds[match[1]]
        return f"[{match[0]}](/{sound}{_ending(sound) if match[2] else ''}/)"

    return known.sub(one, spoken)


def _ending(sound: str) -> str:
    """How "'s" is said after it."""
    if sound.endswith(_HISSES):
        return "ᵻz"
    return "s" if sound.endswith(_VOICELESS) else "z"
