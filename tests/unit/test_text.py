"""Written English → spoken words: a reviewed table; what is skipped; no text is too odd."""
# ruff: noqa: RUF001 (the texts hold look-alike characters on purpose)

import re
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatterbox.text.clean import Skipped
from chatterbox.text.normalise import normalise
from chatterbox.text.numbers import cardinal, digits, ordinal, pairs, spoken_number, year

SPOKEN = re.compile(r"(?:[A-Za-zÀ-ÖØ-öø-ſ'.,!?;:—-]+(?: (?!$))?)*")


def _table() -> list[tuple[str, str]]:
    lines = (Path(__file__).parent / "spoken_forms.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if "\t" in line and not line.startswith("# ")]
    return [(written.replace("\\n", "\n"), spoken) for written, spoken in rows]


TABLE = _table()


@pytest.mark.parametrize(("written", "spoken"), TABLE, ids=[written for written, _ in TABLE])
def test_spoken_form(written: str, spoken: str) -> None:
    """Guards one written form against a rule that was changed for another one."""
    assert normalise(written).text == spoken


def test_the_table_is_large_and_has_no_duplicates() -> None:
    """Guards the table itself: a row lost in an edit, or one form with two readings."""
    assert len({written for written, _ in TABLE}) == len(TABLE) >= 200


@pytest.mark.parametrize("spoken", sorted({spoken for _, spoken in TABLE}))
def test_a_spoken_form_is_left_alone(spoken: str) -> None:
    """Guards against rules that mistake ordinary words for something written."""
    if "U.S." not in spoken and not re.search(r"\b[A-Z]\.", spoken):
        assert normalise(spoken).text == spoken


PLAIN = [
    "The quick brown fox jumps over the lazy dog, and then it rests for a while.",
    "Is it so? No, it isn't! She's John's sister; they've met: twice.",
    "I may march in May. Polish the Polish vase. Mark it. Sat there.",
    "No one said no. The end is near... or is it?",
    "A man, a plan — a canal.",
    "Well-known words, half-hearted, state-of-the-art.",
    "He was in the us army? Ask in person, min or max.",
    "Come in at one or two, one second, an inch or a foot.",
]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_prose_is_untouched(text: str) -> None:
    """Guards ordinary sentences, the great majority, against over-eager rules."""
    assert normalise(text).text == text


@pytest.mark.parametrize(
    ("text", "spoken", "skipped"),
    [
        ("Hi 😀👍🏽 there", "Hi there", {Skipped.EMOJI: "😀👍🏽"}),
        ("👨\u200d👩\u200d👧 family", "family", {Skipped.EMOJI: "👨👩👧"}),
        ("fine :) thanks", "fine thanks", {Skipped.EMOJI: ":)"}),
        ("Say 你好 and Привет.", "Say and.", {Skipped.SCRIPT: "你好Привет"}),
        ("你好。", "", {Skipped.SCRIPT: "你好"}),
        ("مرحبا, hello", "hello", {Skipped.SCRIPT: "مرحبا"}),
        ("a\x00b\x07c", "a b c", {Skipped.CONTROL: "\x00\x07"}),
        ("red \x1b[31mtext\x1b[0m", "red text", {}),
        ("q\u0308yz marks", "qyz marks", {}),
        ("zero\u200bwidth soft\u00adhyphen", "zerowidth softhyphen", {}),
        ("a \U000f0000 private use", "a private use", {Skipped.EMOJI: "\U000f0000"}),
        (
            "see https://example.com/" + "a1b2/" * 20 + "x now",
            "see example dot com now",
            {Skipped.ADDRESS: "/" + "a1b2/" * 20 + "x"},
        ),
        ("", "", {}),
        (" \n\t ", "", {}),
        ("!!! ... — ()", "", {}),
        ("😀", "", {Skipped.EMOJI: "😀"}),
    ],
)
def test_what_cannot_be_spoken_is_skipped_and_reported(
    text: str, spoken: str, skipped: dict[Skipped, str]
) -> None:
    """Guards against an error, or silence without a word, over characters that the voice lacks."""
    normalised = normalise(text)
    assert normalised.text == spoken
    assert {part.kind: part.sample for part in normalised.skipped} == skipped


def test_a_warning_shows_what_was_skipped_but_not_all_of_it() -> None:
    """Guards the client's log: a page of Chinese must not come back as a page-long warning."""
    (warning,) = normalise("你" * 1000).skipped
    assert warning.code == "skipped_script"
    assert "你你" in warning.message
    assert len(warning.message) < 120


@given(
    st.one_of(
        st.text(max_size=60),
        st.text(alphabet="0123456789.,:/-+$%°'\"xkKmMI VXaAs@#()[]*_`~^&<>=!?\n²½€", max_size=40),
        st.lists(st.sampled_from([written for written, _ in TABLE]), max_size=3).map("".join),
    )
)
@settings(max_examples=600, deadline=None)
def test_any_text_becomes_letters_and_punctuation(text: str) -> None:
    """Guards the phoneme dictionary: it gets no digit, no symbol and no doubled space, ever."""
    assert SPOKEN.fullmatch(normalise(text).text), repr(normalise(text).text)


@given(st.sampled_from(TABLE), st.integers(0, 60))
@settings(max_examples=300, deadline=None)
def test_a_text_cut_anywhere_can_be_spoken(row: tuple[str, str], cut: int) -> None:
    """Guards pieces: a flush may cut between any two characters of a number, link or markup."""
    for half in (row[0][:cut], row[0][cut:]):
        assert SPOKEN.fullmatch(normalise(half).text)


SHAPES = """
    a A 1 . , - _ * # ` [ ] ( ) < > / \\ ' " @ + = | ~ $ % & : a. 1. 1, A. 1- 1/ 1: a@ a/ $1 I X
    é 😀 你 Aa aA a1 http:// www. a.com/ [a]( ![ &amp; <b> 1,111 -1 1e1 ^1 v1. a_ __ ** !? ... — x^
    1.1.1.1 1× \x1b[ ² ½ 5' $1-
"""


@pytest.fixture(scope="module")
def plain_s() -> float:
    """How long this machine takes for 10,000 characters of prose."""
    return _seconds((" ".join(PLAIN) * 20)[:10_000])


@pytest.mark.parametrize(
    "shape", [*SHAPES.split(), " ", "\n", "1 ", "a ", "- ", "| ", "Jan. ", "on Elm "]
)
def test_cost_is_linear(shape: str, plain_s: float) -> None:
    """Guards against a pattern that backtracks: a message of 10,000 odd characters stalls all. The
    dearest that does not takes 16 times as long as prose, one that does hundreds of times.
    """
    assert _seconds(shape * (10_000 // len(shape))) < 60 * plain_s


def _seconds(text: str) -> float:
    """Of the processor, undisturbed."""
    found = []
    for _ in range(3):
        start = time.process_time()
        normalise(text)
        found.append(time.process_time() - start)
    return min(found)


def test_a_sentence_is_read_in_a_few_steps() -> None:
    """Guards first audio: the front end sits between the text and the first speech token."""
    text = "On January 5, 2019, at 9:30am, Dr. Smith paid $1,234.50 for 3.5 kg of apples & left."
    normalise(text)
    events: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: object) -> None:
        events[event] += 1

    sys.setprofile(count)
    normalise(text)
    sys.setprofile(None)
    assert events["call"] + events["c_call"] < 1500  # measured 600


@pytest.mark.parametrize("part", ["3-4-", "S'", "xA", "a.b-", "May-'s", "é", "'d", "No.-"])
def test_what_is_no_word_is_broken(part: str) -> None:
    """The dictionary takes a time that grows with the cube of a word's length: 240 characters of
    "3-4-" kept everybody silent for four seconds. Nothing of them is lost.
    """
    spoken = normalise(part * 200).text
    assert max(map(len, spoken.split())) <= 48
    short = re.sub(r"\W", "", normalise(part * 4).text)
    assert re.sub(r"\W", "", spoken) == short * 50


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (100, "one hundred"),
        (-7, "minus seven"),
        (1_001, "one thousand one"),
        (10**12, "one trillion"),
    ],
)
def test_cardinal(number: int, words: str) -> None:
    """Guards the American form: no "and", no commas."""
    assert cardinal(number) == words


def test_other_numbers() -> None:
    """Guards the readings that the rules build on."""
    assert ordinal(112) == "one hundred twelfth"
    assert digits("1-80") == "one eight zero"
    assert [pairs(n) for n in (100, 404, 1080)] == ["one hundred", "four oh four", "ten eighty"]
    assert [year(n) for n in (1000, 1900, 1901, 2000, 2009, 2010)] == [
        "one thousand",
        "nineteen hundred",
        "nineteen oh one",
        "two thousand",
        "two thousand nine",
        "twenty ten",
    ]
    assert spoken_number("-1,000.05") == "minus one thousand point zero five"
