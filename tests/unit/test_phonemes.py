"""Text → phonemes → text tokens of the bundled voice."""
# ruff: noqa: RUF001 (phonemes look like other letters)

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from chatterbox.config import ModelConfig, TextConfig
from chatterbox.loading import load_front_end
from chatterbox.text.front_end import FrontEnd
from chatterbox.text.phonemes import FrontEndMissing, PhonemeFrontEnd
from tests.unit.test_places import TEXTS

SYMBOLS = ["<pad>", "<start>", *" !,.:;?—AIOQSTWYbdfhijklmnpstuvwzæðŋɐɑɔəɛɜɡɪɹɾʃʊʌʒʔʤʧˈˌθᵊᵻ"]


@pytest.fixture(scope="module")
def front_end() -> PhonemeFrontEnd:
    return PhonemeFrontEnd(SYMBOLS)


@pytest.mark.parametrize(
    ("text", "phonemes"),
    [
        ("Hello there.", "həlˈO ðˈɛɹ."),
        ("I said no.", "ˌI sˈɛd nˈO."),  # hibari alone says "number"
        ("Take plan B.", "tˈAk plˈæn bˈi."),  # hibari alone takes "B." for an initial
        ('"Hello," she (Ann) said...', "həlˈO, ʃi, ˈæn, sˈɛd."),
        ("He said no. I left.", "hˌi sˈɛd nˈO. ˌI lˈɛft."),
        ("'tis so.", "tˈiz sˌO."),
        ("Is it 3?", "ˌɪz ɪt θɹˈi?"),
        ("no stop", "nˈO stˈɑp"),
        ("Hello there,", "həlˈO ðˈɛɹ"),
        ("He left —", "hˌi lˈɛft"),
        ("He left...", "hˌi lˈɛft."),
        ("No way—really?", "nˈO wˈA, ɹˈiᵊli?"),  # "—" was next to never in the training text
        ("Well... I left.", "wˈɛl, ˌI lˈɛft."),
        ("NASA uses XML.", "nˈæsə jˈuzᵻz ˌɛksˌɛmˈɛl."),
        ("", ""),
        ("😀", ""),
        ("?!", ""),
    ],
)
def test_phonemes(front_end: PhonemeFrontEnd, text: str, phonemes: str) -> None:
    """Guards what the model is fed: as in training, a sentence with its end, a part without."""
    assert front_end(text) == phonemes


def test_tokens_are_places_in_the_symbol_table(front_end: PhonemeFrontEnd) -> None:
    """Guards the checkpoint's numbering; a shift by one would still sound like some language."""
    encoded = front_end.encode("No.")
    assert [SYMBOLS[token] for token in encoded.tokens] == list("nˈO.")
    assert encoded.warnings == []
    assert front_end.separator == SYMBOLS.index(" ")


def test_names_in_the_table_are_not_phonemes() -> None:
    """Guards against "<pad>" or an empty entry taking part in the lookup of characters."""
    front_end = PhonemeFrontEnd(["<pad>", "", "n"])
    assert front_end.tokens("n<>") == [2]
    assert front_end.separator is None


def test_a_phoneme_without_token_is_dropped_with_a_warning() -> None:
    """Guards a table that lacks a sound: the segment goes on, and says so."""
    encoded = PhonemeFrontEnd(list("nO.")).encode("No.")
    assert encoded.tokens == [0, 1, 2]
    assert [(warning.code, "ˈ" in warning.message) for warning in encoded.warnings] == [
        ("skipped_phonemes", True)
    ]


def test_skipped_text_reaches_the_warnings(front_end: PhonemeFrontEnd) -> None:
    """Guards the way of a warning from the cleaner to the client."""
    encoded = front_end.encode("Hi 😀.")
    assert [SYMBOLS[token] for token in encoded.tokens] == list("hˈI.")
    assert [warning.code for warning in encoded.warnings] == ["skipped_emoji"]


def test_nothing_to_say_is_an_empty_list(front_end: PhonemeFrontEnd) -> None:
    """Guards the engine's `UnspeakableText`: punctuation alone must not become tokens."""
    encoded = front_end.encode("😀 ... !")
    assert encoded.tokens == []
    assert encoded.warnings != []


def test_every_table_row_is_pronounceable(front_end: PhonemeFrontEnd) -> None:
    """Guards words that the dictionary would drop in silence."""
    for word in ("Missus", "Miz", "hertz", "kilowatt", "Celsius", "et cetera", "hashtag", "rubles"):
        assert len(front_end.tokens(front_end(word))) > len(word) // 2


def test_it_is_a_front_end() -> None:
    """Guards the engine's contract: what `config.json` names is what this file tests."""
    front_end: FrontEnd = load_front_end(
        Path(), ModelConfig(name="any", text=TextConfig(symbols=tuple(SYMBOLS)))
    )
    assert isinstance(front_end, PhonemeFrontEnd)
    assert front_end.separator == SYMBOLS.index(" ")


def test_every_word_has_its_tokens(front_end: PhonemeFrontEnd) -> None:
    """Guards word times: each place has sounds of its own, in order, and no pause at its edges."""
    for text in TEXTS:
        encoded = front_end.encode(text)
        sounds = [SYMBOLS[token] for token in encoded.tokens]
        assert bool(encoded.words) == bool(sounds)
        for left, right in pairwise(encoded.words):
            assert left.last <= right.first
            assert left.runs[-1][1] <= right.runs[0][0]
        for word in encoded.words:
            edges = sounds[word.first], sounds[word.last - 1]
            assert not {*edges} & set(" .,!?;:—"), text
        covered = {k for word in encoded.words for k in range(word.first, word.last)}
        left_over = {sounds[k] for k in range(len(sounds)) if k not in covered}
        assert left_over <= set(" .,!?;:—"), text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("He paid $5.", "He=hˌi paid=pˈAd $5.=fˈIv dˈɑləɹz"),
        (
            "Well... I left, e.g. then.",
            "Well...=wˈɛl I=ˌI left,=lˈɛft e.g.=fɔɹ ɪɡzˈæmpəl then.=ðˈɛn",
        ),
        ("😀 No way—really?", "No=nˈO way—really?=wˈA, ɹˈiᵊli"),
        ("Hello — …no.", "Hello=həlˈO …no.=nˈO"),  # one group of sounds, with a pause in it
        (
            "We met O'Brien on wi-fi today.",
            "We=wˌi met=mˈɛt O'Brien=ˈO bɹˈIən on=ˌɔn wi-fi=wˈI fˌI today.=tədˈA",
        ),
    ],
)
def test_words_and_their_phonemes(front_end: PhonemeFrontEnd, text: str, words: str) -> None:
    """Guards the way from characters to tokens: off by one, and each word begins in its pause."""
    encoded = front_end.encode(text)
    told = [
        "+".join(text[start:end] for start, end in word.runs)
        + "="
        + "".join(SYMBOLS[token] for token in encoded.tokens[word.first : word.last])
        for word in encoded.words
    ]
    assert " ".join(told) == words


def test_a_sentence_is_read_once(
    front_end: PhonemeFrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards first audio: reading stands between the text and the first speech token. Words are
    read one by one only where one of them is parted."""
    read: list[str] = []
    g2p = front_end._g2p or front_end._load()

    def listening(text: str, **options: object) -> str:
        read.append(text)
        return g2p(text, **options)

    monkeypatch.setattr(front_end, "_g2p", listening)
    front_end.encode("The quick brown fox jumps over the lazy dog.")
    assert read == ["The quick brown fox jumps over the lazy dog"]
    read.clear()
    front_end.encode("The quick O'Brien.")
    assert read == ["The quick O'Brien", "The", "quick", "O'Brien"]


BLOCKED = """
import sys
sys.modules["hibari"] = sys.modules["hibari.g2p"] = None
from chatterbox.text.phonemes import FrontEndMissing, PhonemeFrontEnd
try:
    PhonemeFrontEnd([])("Hello.")
except FrontEndMissing as error:
    sys.exit(0 if "pip install hibari-tts" in str(error) else 3)
sys.exit(4)
"""


def test_a_missing_package_is_named() -> None:
    """Guards the newcomer: which package is missing, and how to get it."""
    assert issubclass(FrontEndMissing, RuntimeError)
    assert subprocess.run([sys.executable, "-c", BLOCKED], check=False).returncode == 0


def test_importing_the_module_loads_no_dictionary() -> None:
    """Guards the start-up of daemons that run another checkpoint: hibari only when needed."""
    code = """
import sys, chatterbox.text.phonemes
sys.exit("hibari" in sys.modules or "torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
