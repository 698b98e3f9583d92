"""The training corpus: what of WordNet and of our patterns becomes a text, and what never may."""

import random
from pathlib import Path

import pytest

from chatterbox.training import corpus, phrases

GLOSSES = {
    "noun": ('feline mammal with soft fur and claws (domestic); "the cat sat by the fire"'),
    "verb": (
        "utter aloud in a clear voice"
        '; "she said \'Hello\' to me"; "to be or not to be"- Shakespeare'
    ),
    "adj": 'above average in size or number; "a big house" ; "how big it is!"',
    "adv": 'quickly or rapidly and without delay; "how fast can you run?"',
}


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    for part, gloss in GLOSSES.items():
        licence = "  1 This software and database is being provided | not a gloss\n"
        line = f"00001 03 n 01 word 0 000 | {gloss}\n"
        (tmp_path / f"data.{part}").write_text(licence + line, encoding="latin-1")
    return tmp_path


def test_examples_are_sentences_without_quoted_authors(wordnet: Path) -> None:
    """Guards against quotations of authors (their text is not WordNet's to license) and ragged
    ends.
    """
    assert corpus.wordnet_examples(wordnet) == [
        "The cat sat by the fire.",
        "She said 'Hello' to me.",
        "A big house.",
        "How big it is!",
        "How fast can you run?",
    ]


def test_definitions_lose_their_brackets(wordnet: Path) -> None:
    """Guards against spoken bracket remarks such as "(domestic)" and the licence's lines."""
    assert "Feline mammal with soft fur and claws." in corpus.wordnet_definitions(wordnet)
    assert not any("software" in text for text in corpus.wordnet_definitions(wordnet))


def test_no_held_out_text_is_trained(wordnet: Path) -> None:
    """Guards the evaluation: a trained-on sentence would flatter the word error rate."""
    example = corpus.held_out()[20].text
    gloss = f'00005 03 n 01 x 0 000 | thing; "{example.lower()}"\n'
    with (wordnet / "data.noun").open("a", encoding="latin-1") as file:
        file.write(gloss)
    assert corpus.fingerprint(example) in {
        corpus.fingerprint(text) for text in corpus.wordnet_examples(wordnet)
    }
    held = [corpus.fingerprint(item.text) for item in corpus.held_out()]
    for text in corpus.training_texts(wordnet, num_texts=2000, seed=3):
        assert not any(mark in corpus.fingerprint(text) for mark in held), text


def test_same_seed_same_corpus(wordnet: Path) -> None:
    """Guards resuming: shards that were made before must belong to the same texts."""
    first = corpus.training_texts(wordnet, num_texts=300, seed=5)
    assert first == corpus.training_texts(wordnet, num_texts=300, seed=5)
    assert first != corpus.training_texts(wordnet, num_texts=300, seed=6)
    assert len({corpus.fingerprint(text) for text in first}) == 300


def test_every_pattern_can_be_filled() -> None:
    """Guards against a field in a pattern that nobody fills: it would be spoken as "{...}"."""
    rng = random.Random(0)
    texts = [corpus.filled(pattern, rng) for pattern in phrases.PATTERNS for _ in range(20)]
    assert not [text for text in texts if "{" in text or "  " in text or text[-1] not in '.!?"']


def test_corpus_has_every_shape_that_the_engine_gets(wordnet: Path) -> None:
    """Guards against a voice that knows only whole sentences of one length."""
    texts = corpus.training_texts(wordnet, num_texts=2000, seed=7)
    assert max(len(text) for text in texts) <= corpus.MAX_CHARS
    assert sum(len(text) > 150 for text in texts) > 100
    assert sum(len(text) < 15 for text in texts) > 50
    assert sum(text[-1].isalpha() for text in texts) > 100, "pieces cut without punctuation"
    assert sum(text.endswith("?") for text in texts) > 50
    assert sum(any(char.isdigit() for char in text) for text in texts) > 200


def test_joined_texts_keep_one_voice() -> None:
    """Guards against joins such as "does., yet" that no writer makes."""
    rng = random.Random(1)
    for _ in range(200):
        text = corpus.joined(['"I do," he said.', "Where is it?", "It is here."], rng)
        assert not any(wrong in text for wrong in (".,", "?,", ".:", "..", ".;")), text


def test_held_out_set_has_its_strata() -> None:
    """Guards the evaluation set against silent edits: a hundred texts in four strata, none
    too small.
    """
    items = corpus.held_out()
    assert len(items) == 100
    assert len({corpus.fingerprint(item.text) for item in items}) == 100
    assert {item.stratum for item in items} == {"plain", "dialogue", "long", "figures"}
    for stratum in ("plain", "dialogue", "long", "figures"):
        assert sum(item.stratum == stratum for item in items) >= 10, stratum
    assert {item.kind for item in items if item.stratum == "figures"} == {"number", "date", "name"}
    assert sum(item.text.endswith("?") for item in items) >= 10
