"""Tags and lexicons before each kind of front end: what is said, what not, and for which words."""
# ruff: noqa: RUF001 (phonemes look like other letters)

import string

import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE

from chatterbox.api import Lexicon, Segment, SegmentId
from chatterbox.text.front_end import Encoded, FrontEnd
from chatterbox.text.official import EnglishFrontEnd, TurboFrontEnd
from chatterbox.text.phonemes import PhonemeFrontEnd
from chatterbox.text.reading import read

SYMBOLS = ["<pad>", *" !,.:;?—AIOQSTWYbdfhijklmnpstuvwzæðŋɐɑɔəɛɜɡɪɹɾʃʊʌʒʔʤʧˈˌθᵊᵻ"]
PHONEMES = PhonemeFrontEnd(SYMBOLS)
LIMITS = {"most_speech": 1000, "most_tokens": 500}


def letters(*tags: str) -> Tokenizer:
    """One token a character, and the tags."""
    chars = string.printable + "Ġ"
    tokenizer = Tokenizer(BPE(vocab={char: i for i, char in enumerate(chars)}, merges=[]))
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in tags])
    return tokenizer


def encoded(front_end: FrontEnd, text: str, entries: dict[str, str] | None = None) -> Encoded:
    lexicons = (Lexicon(entries),) if entries else ()
    return read(front_end, Segment(id=SegmentId(1), text=text, voice="one", lexicons=lexicons))


def said(text: str, entries: dict[str, str] | None = None) -> str:
    """The phonemes that the bundled voice is given."""
    return "".join(SYMBOLS[token] for token in encoded(PHONEMES, text, entries).tokens)


def words(text: str, entries: dict[str, str]) -> list[tuple[str, str]]:
    """Words as written, and the phonemes that they take the time of."""
    found = encoded(PHONEMES, text, entries)
    return [
        (
            " ".join(text[start:end] for start, end in word.runs),
            "".join(SYMBOLS[token] for token in found.tokens[word.first : word.last]),
        )
        for word in found.words
    ]


def test_a_respelling_is_read_like_any_text() -> None:
    """It passes the normaliser and the dictionary: "5" in it is a number, its stops are kept."""
    assert said("I like SQL.", {"SQL": "sequel 5"}) == said("I like sequel 5.")
    assert said("Is it SQL?", {"SQL": "square"}) == said("Is it square?") != said("Is it SQL?")


def test_phonemes_are_said_as_they_are() -> None:
    """Between other words, before a stop, twice, in brackets and with an ending."""
    entries = {"Qat": "/kˈɑt/"}
    assert said("Qat.", entries) == "kˈɑt."
    assert said("a Qat, a (Qat)!", entries) == "ɐ kˈɑt, ɐ, kˈɑt!"
    assert said("qat", entries) == said("qat")
    assert said("Qat-like", {"Qat": "/kˈɑt/"}).startswith("kˈɑt")


@pytest.mark.parametrize(
    ("sound", "owned"), [("dˈɔɡ", "dˈɔɡz"), ("kˈæt", "kˈæts"), ("ɹˈOz", "ɹˈOzᵻz"), ("bˈi", "bˈiz")]
)
def test_what_is_owned_by_a_word_in_phonemes(sound: str, owned: str) -> None:
    """The ending of "dog's" is that of "dogs", not of "cats"."""
    entries = {"Qat": f"/{sound}/"}
    for text in ("Qat's cup", "Qat’s cup"):
        assert said(text, entries) == f"{owned} kˈʌp"


def test_times_are_of_the_words_as_written() -> None:
    """A page marks the words that it shows, and "sequel" is not among them."""
    entries = {"SQL": "ess cue ell", "New York": "/nujˈɔk/", "and so on": "more"}
    assert words("Ask AT&T.", {"&": "and"}) == [("Ask", "ˈæsk"), ("AT&T.", "ˌAtˈi ænd tˈi")]
    assert words("Run SQL, in New York and so on for $5.", entries) == [
        ("Run", "ɹˈʌn"),
        ("SQL,", "ˈɛs kjˈu ˈɛl"),
        ("in", "ɪn"),
        ("New York", "nujˈɔk"),
        ("and so on", "mˈɔɹ"),
        ("for", "fɔɹ"),
        ("$5.", "fˈIv dˈɑləɹz"),
    ]


def test_the_voice_without_tags_leaves_them_out() -> None:
    """Guards against "laugh" and "clear throat" being read aloud, and against silence about it."""
    found = encoded(PHONEMES, "Oh [laugh], [Clear Throat] well.")
    assert "".join(SYMBOLS[token] for token in found.tokens) == said("Oh, well.")
    assert [(warning.code, warning.message) for warning in found.warnings] == [
        ("skipped_tag", "left out: this model has no [laugh]"),
        ("skipped_tag", "left out: this model has no [clear throat]"),
    ]
    assert not encoded(PHONEMES, "[laugh].").tokens


def test_turbo_is_given_its_tags() -> None:
    """Also written in capitals, and beside a word that the lexicon knows; others are left out."""
    tokenizer = letters("[laugh]", "[clear throat]")
    front_end = TurboFrontEnd(tokenizer, **LIMITS)
    assert front_end.tags == ("[clear throat]", "[laugh]")
    found = encoded(front_end, "Ha[LAUGH] laugh [sigh]", {"laugh": "laff", "ha": "hah"})
    laugh = tokenizer.token_to_id("[laugh]")
    assert found.tokens.count(laugh) == 1
    assert (
        tokenizer.decode([token for token in found.tokens if token != laugh], False).replace(
            " ", ""
        )
        == "Hahlaff."
    )
    assert [warning.code for warning in found.warnings] == ["skipped_tag"]


def test_a_lexicon_may_put_in_tags() -> None:
    """ "haha" as a laugh: a model that has one laughs, another says neither "haha" nor "laugh"."""
    entries = {"haha": "[Laugh]", "lol": "[laugh]"}
    found = encoded(PHONEMES, "Well, haha, lol, yes.", entries)
    assert "".join(SYMBOLS[token] for token in found.tokens) == said("Well, yes.")
    assert [warning.code for warning in found.warnings] == ["skipped_tag"]
    tokenizer = letters("[laugh]")
    laughing = encoded(TurboFrontEnd(tokenizer, **LIMITS), "haha no lol", entries)
    assert laughing.tokens.count(tokenizer.token_to_id("[laugh]")) == 2
    assert not laughing.warnings


def test_a_word_without_room_is_read_as_written_and_told() -> None:
    """Words that are dropped without a word would be missed by nobody but the listener."""
    found = encoded(PHONEMES, "Say a " + "b " * 20, {"b": "be " * 66, "a": "eh"})
    assert [warning.code for warning in found.warnings] == ["lexicon_too_long"]
    assert "'b'" in found.warnings[0].message


@pytest.mark.parametrize("front_end", [EnglishFrontEnd, TurboFrontEnd])
def test_official_models_take_words_only(front_end: type[EnglishFrontEnd | TurboFrontEnd]) -> None:
    """Phonemes would be spelled out as letters: the word is read as written, and it is said why."""
    reader = front_end(letters(), **LIMITS)
    entries = {"SQL": "sequel", "Qat": "/kˈɑt/"}
    found = encoded(reader, "SQL Qat", entries)
    assert found.tokens == encoded(reader, "sequel Qat").tokens
    assert [warning.code for warning in found.warnings] == ["lexicon_phonemes"]
    assert "'Qat'" in found.warnings[0].message
