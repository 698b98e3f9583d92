"""Text before the tokenizer's model is the reference's, in every variant; the vocabularies
themselves are not in the fixtures, so small ones are made here.
"""

import json
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from chatterbox.text.languages import ASSISTANTS, CANGJIE_FILE, Languages
from chatterbox.text.official import (
    SPACE,
    UNKNOWN,
    EnglishFrontEnd,
    MultilingualFrontEnd,
    TurboFrontEnd,
    VocabularyError,
    gpt2_tokenizer,
    json_tokenizer,
)
from chatterbox.text.punc_norm import ENGLISH, MULTILINGUAL, TURBO
from chatterbox.text.speech_need import pieces_within, speech_need
from tests.model.parity import read_json

VARIANTS = {"english": ENGLISH, "turbo": TURBO, "multilingual": MULTILINGUAL}
TAGS = {"[laugh]": 1000, "[clear throat]": 1001}
LIMITS = {"most_speech": 900, "most_tokens": 400}


def _letters_tokenizer(extra: tuple[str, ...] = ()) -> Tokenizer:
    """One token a character, as far as ASCII goes, and the pieces in brackets."""
    pieces = [UNKNOWN, SPACE, "[fr]", "[zh]", *extra, *map(chr, range(33, 127))]
    vocabulary = {piece: token for token, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN))
    tokenizer.add_special_tokens([piece for piece in pieces if len(piece) > 1])
    return tokenizer


def _languages(folder: Path, *languages: str) -> Languages:
    return Languages(languages, folder)


@pytest.mark.parametrize("variant", VARIANTS)
def test_punctuation(variant: str) -> None:
    """Another order of the replacements, or those of another variant, change what is read."""
    for case in read_json("text.json"):
        ours = VARIANTS[variant].normalise(case["text"])
        assert ours == case[f"punc_norm_{variant}"], ascii(case["text"])


def test_string_of_the_english_tokenizer() -> None:
    """Spaces are a token of their own; two in a row are two of them."""
    front_end = EnglishFrontEnd(_letters_tokenizer(), **LIMITS)
    for case in read_json("text.json"):
        assert front_end.model_text(case["text"]) == case["english_string_given_to_bpe"]


def test_string_of_the_multilingual_tokenizer(tmp_path: Path) -> None:
    """Lower case before NFKD before the tag: the tag would otherwise be lost or lowered."""
    front_end = MultilingualFrontEnd(_letters_tokenizer(), _languages(tmp_path, "fr"), **LIMITS)
    strings = {
        name.split("_")[1]: name
        for name in read_json("text.json")[0]
        if name.startswith("multilingual_")
    }
    assert strings
    for case in read_json("text.json"):
        for language, name in strings.items():
            assert front_end.model_text(case["text"], language) == case[name]


def test_the_json_vocabulary_is_read(tmp_path: Path) -> None:
    """Tokens are those of the file, the separator too; unknown characters are said."""
    path = tmp_path / "tokenizer.json"
    with pytest.raises(VocabularyError, match=r"tokenizer\.json: no such file"):
        json_tokenizer(path)
    original = _letters_tokenizer()
    original.save(str(path))
    front_end = EnglishFrontEnd(json_tokenizer(path), **LIMITS)
    encoded = front_end.encode("hi you")
    assert [original.id_to_token(token) for token in encoded.tokens] == [
        *"Hi",
        SPACE,
        *"you.",
    ]
    assert front_end.separator == original.token_to_id(SPACE)
    assert not encoded.warnings
    assert [warning.code for warning in front_end.encode("hi ж").warnings] == ["unknown_characters"]


@pytest.fixture
def gpt2_folder(tmp_path: Path) -> Path:
    """A byte-level vocabulary in the files of GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = Path(__file__).read_text(encoding="utf-8")
    tokenizer.train_from_iterator(text.splitlines(), trainer)
    tokenizer.model.save(str(tmp_path))
    vocabulary = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    while len(vocabulary) < 1000:
        vocabulary[f"<filler {len(vocabulary)}>"] = len(vocabulary)
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (tmp_path / "added_tokens.json").write_text(json.dumps(TAGS), encoding="utf-8")
    return tmp_path


def test_turbo_reads_tags_as_one_token_wherever_they_stand(gpt2_folder: Path) -> None:
    """A tag that falls apart into letters is spoken as a word in brackets."""
    tokenizer = gpt2_tokenizer(gpt2_folder)
    front_end = TurboFrontEnd(tokenizer, **LIMITS)
    for text in ("[laugh] oh", "oh [laugh]", "oh[laugh]oh [clear throat]."):
        tokens = front_end.encode(text).tokens
        assert tokens.count(TAGS["[laugh]"]) == 1
        assert tokenizer.decode(tokens, skip_special_tokens=False) == TURBO.normalise(text)
    assert TAGS["[laugh]"] not in front_end.encode("they laugh").tokens
    assert front_end.encode("oh [clear throat]").tokens.count(TAGS["[clear throat]"]) == 1


def test_turbo_reads_any_text(gpt2_folder: Path) -> None:
    """Byte pairs know every character; a wrong pre-tokenizer loses spaces or accents."""
    tokenizer = gpt2_tokenizer(gpt2_folder)
    for text in ("Two  spaces.", "naïve 日本 🙂 end.", " lead."):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_a_vocabulary_that_does_not_fit_its_tags_is_refused(gpt2_folder: Path) -> None:
    """Token numbers that are off by one would speak other tags."""
    (gpt2_folder / "added_tokens.json").write_text('{"[laugh]": 1001}', encoding="utf-8")
    with pytest.raises(VocabularyError, match=r"\[laugh\] cannot be token 1001"):
        gpt2_tokenizer(gpt2_folder)
    (gpt2_folder / "merges.txt").unlink()
    with pytest.raises(VocabularyError, match=r"merges\.txt: no such file"):
        gpt2_tokenizer(gpt2_folder)


def test_nothing_to_say_is_no_tokens() -> None:
    """The reference has a stock sentence for an empty text; nobody wants to hear it."""
    front_end = EnglishFrontEnd(_letters_tokenizer(), **LIMITS)
    for text in ("", " ", "...", "🙂", "—"):
        assert not front_end.encode(text).tokens


@pytest.mark.parametrize(
    "text",
    [
        "word " * 300,
        "7,654,321 " * 40,
        "今日はとても良い天気ですね。" * 30,
        "x" * 3000,
        "5" * 200,
        "\u200b" * 50 + "a" * 900,
        "a" + "\u200b" * 2000,
    ],
)
def test_a_generation_never_needs_more_than_the_cap(text: str) -> None:
    """The model stops at its cap; what did not fit would be lost without a word."""
    pieces = pieces_within(text, LIMITS["most_speech"])
    assert "".join(pieces) == text
    assert all(speech_need(piece) <= LIMITS["most_speech"] for piece in pieces)
    front_end = EnglishFrontEnd(_letters_tokenizer(), **LIMITS)
    encoded = front_end.encode(text)
    parts = encoded.parts or [encoded.tokens]
    assert len(parts) >= len(pieces)
    assert all(len(part) <= LIMITS["most_tokens"] for part in parts)
    assert [token for part in parts for token in part] == encoded.tokens


def test_a_part_without_words_is_not_spoken() -> None:
    """Asked to speak a row of stars, the models make something up."""
    front_end = EnglishFrontEnd(_letters_tokenizer(), **LIMITS)
    encoded = front_end.encode("one " + "*" * 200 + " two")
    assert len(encoded.parts) == 2
    assert encoded.tokens[: len("One")] == front_end.encode("one").tokens[: len("One")]


def test_cuts_fall_between_words() -> None:
    """A word cut in two is spoken as two."""
    for piece in pieces_within("several words here " * 60, 300)[:-1]:
        assert piece.endswith(" ")


def test_every_part_has_its_language(tmp_path: Path) -> None:
    """The tag leads each generation, not only the first of a long text."""
    tokenizer = _letters_tokenizer()
    front_end = MultilingualFrontEnd(tokenizer, _languages(tmp_path, "fr"), **LIMITS)
    encoded = front_end.encode("bonjour tout le monde " * 40)
    assert len(encoded.parts) > 1
    assert {part[0] for part in encoded.parts} == {tokenizer.token_to_id("[fr]")}


# Languages with a step of their own. Their packages are the user's; here they are stood in for.


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No assistant is installed, whatever this machine has."""
    monkeypatch.setattr("chatterbox.text.languages.find_spec", lambda _name: None)


def _install(monkeypatch: pytest.MonkeyPatch, name: str, members: Mapping[str, object]) -> None:
    module = ModuleType(name)
    module.__dict__.update(members)
    module.__spec__ = SimpleNamespace()  # type: ignore[assignment]  # find_spec wants one
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.usefixtures("absent")
def test_absent_assistants_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Silence, as in the reference, leaves the user with a bad accent and no reason for it."""
    languages = _languages(tmp_path, "fr", "he", "ja", "ko", "ru", "zh")
    for language in ("he", "ja", "ru", "zh", "he"):
        assert languages.written("Ab", language) == "ab"
    for language, assistant in ASSISTANTS.items():
        told = [line for line in caplog.messages if f"language {language}: " in line]
        assert sum(assistant.install in line for line in told) == 1
    assert sum(CANGJIE_FILE in line for line in caplog.messages) == 1
    caplog.clear()
    _languages(tmp_path, "fr", "de")
    assert not caplog.messages


@pytest.mark.usefixtures("absent")
def test_chinese_characters_become_cangjie_keys(tmp_path: Path) -> None:
    """Glyphs that share their keys are told apart by a digit, from the second on."""
    entries = ["日\ta", "曰\ta\tignored", "明\tab"]
    (tmp_path / CANGJIE_FILE).write_text(json.dumps(entries), encoding="utf-8")
    languages = _languages(tmp_path, "zh")
    assert languages.written("日曰明か!", "zh") == (
        "[cj_a][cj_.][cj_a][cj_1][cj_.][cj_a][cj_b][cj_.]か!"
    )


@pytest.mark.usefixtures("absent")
def test_korean_is_letters(tmp_path: Path) -> None:
    """The vocabulary holds the letters of Hangul, not its syllables."""
    assert _languages(tmp_path, "ko").written(" 한 ", "ko") == unicodedata.normalize("NFKD", "한")


def test_chinese_words_are_set_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The segmenter sees the text before the glyphs are spelled."""
    (tmp_path / CANGJIE_FILE).write_text(json.dumps(["日\ta"]), encoding="utf-8")
    cutter = SimpleNamespace(cut=lambda text: [text[:1], text[1:]])
    _install(monkeypatch, "spacy_pkuseg", {"pkuseg": lambda: cutter})
    assert _languages(tmp_path, "zh").written("日本", "zh") == "[cj_a][cj_.] 本"


def test_japanese_kanji_become_kana(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only words with kanji are rewritten; a leading は or へ is set off; voiced kana part."""
    words = [
        {"orig": "花", "hira": "はな"},
        {"orig": "ガ", "hira": "が"},
        {"orig": "見る", "hira": "みる"},
    ]
    _install(
        monkeypatch, "pykakasi", {"kakasi": lambda: SimpleNamespace(convert=lambda _text: words)}
    )
    written = _languages(tmp_path, "ja").written("花ガ見る", "ja")
    assert written == unicodedata.normalize("NFKD", " はなガみる")


def test_hebrew_and_russian_get_their_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The assistants see the text in lower case, after NFKD."""
    dicta = SimpleNamespace(add_diacritics=lambda text: f"<{text}>")
    _install(monkeypatch, "dicta_onnx", {"Dicta": lambda: dicta})
    stresser = SimpleNamespace(stress_text=lambda text: f"({text})")
    _install(monkeypatch, "russian_text_stresser", {})
    _install(
        monkeypatch,
        "russian_text_stresser.text_stresser",
        {"RussianTextStresser": lambda: stresser},
    )
    languages = _languages(tmp_path, "he", "ru")
    assert languages.written("É", "he") == "<e\u0301>"
    assert languages.written("Да", "ru") == "(да)"
