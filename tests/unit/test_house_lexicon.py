"""Lexicons of operators and clients: what is taken, what is refused and how."""

import logging
from pathlib import Path

import pytest

from daemon.config import ConfigError
from daemon.speaking.lexicon import BadEntry, HouseLexicon, new_lexicon, read_lexicon

FILE = """
nginx = "engine x"
"New York" = "noo yawk"
Qat = "/kat/"

[de]
nginx = "endschin ex"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "lexicon.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_language_comes_before_all_languages(tmp_path: Path) -> None:
    """The same name is said otherwise in German; the rest of the file holds there too."""
    house = read_lexicon(written(tmp_path, FILE))
    german, general = house.of("de")
    assert german.entries == {"nginx": "endschin ex"}
    assert general.entries == {"nginx": "engine x", "New York": "noo yawk", "Qat": "/kat/"}
    assert house.of("fr") == (general,)
    assert read_lexicon(None).of("de") == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nginx = 5", "'nginx' must be a text, not 5"),
        ("nginx = ''", "'nginx' must have 1 to 200 characters"),
        ("' ' = 'x'", "a word must have 1 to 64 characters"),
        ("nginx = ", "Invalid value"),
        ("a = 'x'\na = 'y'", "Cannot overwrite"),
        ("[de]\n[de.at]\na = 'x'", "'at' must be a text"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    """An operator reads which entry is wrong, before the model is loaded."""
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=r"lexicon\.toml") as caught:
        read_lexicon(path)
    assert complaint in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A typing mistake in the path must not mean a daemon without its lexicon."""
    with pytest.raises(ConfigError, match=r"gone\.toml"):
        read_lexicon(tmp_path / "gone.toml")


@pytest.mark.parametrize(
    "entries",
    [
        {"x" * 65: "y"},
        {"x": "y" * 201},
        {"": "y"},
        {"x": "\n"},
        {"x": "a\x00b"},
        {"x": "/a b/"},
    ],
)
def test_what_a_client_may_not_send(entries: dict[str, str]) -> None:
    """Bounds of size, and phonemes that word times could not follow."""
    with pytest.raises(BadEntry):
        new_lexicon(entries)


def test_phonemes_that_the_model_lacks_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """In the log of the start, not as a warning to every client that says the word."""
    house = HouseLexicon(
        new_lexicon({"Qat": "/kat/", "a/b": "a / b"}), {"de": new_lexicon({"Qat": "/kot/"})}
    )
    with caplog.at_level(logging.WARNING):
        official = house.for_model("turbo", phonemes="")
        assert house.for_model("tiny", phonemes="kato").of("de")[1].entries["Qat"] == "/kat/"
    assert [lexicon.entries for lexicon in official.of("de")] == [{}, {"a/b": "a / b"}]
    assert [record.getMessage() for record in caplog.records] == [
        "lexicon: model turbo has no such phonemes as those of Qat, Qat; read as written"
    ]
