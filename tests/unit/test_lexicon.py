"""Lexicons: which words are replaced, what is left alone, and the way back to the text."""

import gc
import sys
import weakref
from collections import Counter
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.api import TAGS, Lexicon, phonemes_of
from chatterbox.text.lexicon import LONGEST_TEXT_CHARS, Rewritten, rewrite
from chatterbox.text.tags import with_tags

ENTRIES = {
    "nginx": "engine x",
    "SQL": "sequel",
    "US": "U.S.",
    "New York": "noo yawk",
    "New York City": "the big apple",
    "e-mail": "electronic mail",
    "don't": "do not",
    "don": "dawn",
    "C++": "see plus plus",
    "&": "and",
    "5G": "five gee",
    "café": "kaffay",
    "東京": "とうきょう",
    "서울": "소울",
}


def rewritten(text: str, *lexicons: dict[str, str], phonemes: str = "") -> Rewritten:
    made = tuple(Lexicon(entries) for entries in lexicons or (ENTRIES,))
    return rewrite(text, made, spared=with_tags(text, TAGS).places, phonemes=phonemes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Use nginx, NGINX or Nginx.", "Use engine x, engine x or engine x."),
        ("SQL's not sql, MySQL or SQLite.", "sequel's not sql, MySQL or SQLite."),
        ("SQL-based my_SQL SQL2", "sequel-based my_sequel SQL2"),
        ("Give us the US.", "Give us the U.S.."),
        ("New York City or New  York or New\nJersey", "the big apple or noo yawk or New\nJersey"),
        ("E-mail me", "electronic mail me"),
        ("Don't tell Don, Don's or don’t.", "do not tell dawn, dawn's or do not."),
        ("C++ and C+ and C", "see plus plus and C+ and C"),
        ("AT&T, C++11, &&, (&)", "AT and T, see plus plus 11, and and, (and)"),
        ("5G is not 15G", "five gee is not 15G"),
        ("Caf\u00e9 cafe\u0301 cafe", "kaffay kaffay cafe"),
        ("去東京都", "去とうきょう都"),
        ("서울역에", "소울역에"),
        ("", ""),
    ],
)
def test_whole_words_the_longest_first(text: str, said: str) -> None:
    """The rules of docs/text.md, each with the word beside it that it must not touch."""
    assert rewritten(text).text == said


def test_capitals_of_an_entry_count() -> None:
    """An entry without capitals is for every spelling, unless another one has just this one."""
    entries = {"polish": "pollish", "Polish": "pole-ish", "IT": "eye tee"}
    said = rewritten("Polish your POLISH, polish it; IT does.", entries).text
    assert said == "pole-ish your pollish, pollish it; eye tee does."


def test_the_first_lexicon_wins_but_a_longer_match_more() -> None:
    """What a client says about a word holds before the daemon's word; a longer name before both."""
    mine, daemons = {"york": "mine", "cat": "mine"}, {"York": "daemon's", "cat litter": "both"}
    assert rewritten("York cat, cat litter", mine, daemons).text == "mine mine, both"


def test_nothing_inside_a_tag_is_replaced() -> None:
    """[laugh] must reach the model as it is, also with an entry for the word."""
    assert rewritten("laugh [laugh]laugh", {"laugh": "laff"}).text == "laff [laugh]laff"


def test_what_was_replaced_is_not_read_again() -> None:
    """Guards against an entry that grows without end."""
    assert rewritten("a b", {"a": "b a", "b": "a"}).text == "b a a"


def test_the_way_back() -> None:
    """Word times are of the text as written: a replaced word is one thing."""
    text = "Oh, New York uses nginx."
    done = rewritten(text)
    assert done.text == "Oh, noo yawk uses engine x."

    def back(words: str) -> str:
        start = done.text.index(words)
        return text[slice(*done.as_written(start, start + len(words)))]

    assert back("Oh,") == "Oh,"
    assert back("noo") == back("yawk") == back("noo yawk") == "New York"
    assert back("uses") == "uses"
    assert back("x.") == "nginx."
    assert back("yawk uses engine") == "New York uses nginx"
    assert done.as_written(len(done.text), len(done.text)) == (len(text), len(text))


@given(st.text(alphabet="ab A'’-.\n[]laugh", max_size=40), st.data())
def test_the_way_back_never_leaves_the_text(text: str, data: st.DataObject) -> None:
    """Whatever is replaced: places stay inside, in order, and what was left alone is the same."""
    done = rewritten(text, {"a": "b b", "ab": "", "A b": "x", "laugh": "y", "-": "x y"})
    length = len(done.text)
    start = data.draw(st.integers(0, length))
    end = data.draw(st.integers(start, length))
    old_start, old_end = done.as_written(start, end)
    assert 0 <= old_start <= old_end <= len(text)
    for place, char in enumerate(done.text):
        one = text[slice(*done.as_written(place, place + 1))]
        assert one == char or char in "bxy "


def test_phonemes_become_words_of_their_own() -> None:
    """A front end that knows phonemes is told which words stand for which."""
    entries = {"Kubernetes": "/kubɛɹ/", "pods": "/ʁ/"}
    text = "Kubernetes zqxa pods, Kubernetes"
    done = rewritten(text, entries, phonemes="kubɛɹ")
    first, second = done.sounds
    assert done.text == f"{first} zqxa pods, {second}"
    assert first not in text
    assert set(done.sounds.values()) == {"kubɛɹ"}
    assert done.unsaid == ("pods",)
    assert done.as_written(0, len(first)) == (0, len("Kubernetes"))
    assert rewritten(text, entries).unsaid == ("Kubernetes", "pods")
    amid = rewritten("AT&T", {"&": "/ɛn/"}, phonemes="ɛn")
    assert amid.text == f"AT {next(iter(amid.sounds))} T"


def test_a_single_slash_is_no_phoneme() -> None:
    """ "/" and "//" are what somebody may want a sign to be said as."""
    assert [phonemes_of(said) for said in ("/a/", "/", "//", "a/b", "/a")] == ["a"] + [None] * 4


def test_cost_is_linear() -> None:
    """Guards against a text that is slow: twice as long may take twice the time, not four times;
    and against entries being tried one by one."""
    few = Lexicon({"a a a a a b": "x"})
    many = Lexicon({**few.entries, **{f"a{number} b": "x" for number in range(5000)}})
    text = "a a a a a a1 " * 100
    rewrite("", (few, many), spared=(), phonemes="")
    assert num_calls(text * 4, few) < 5 * num_calls(text, few)
    assert num_calls(text, many) < 2 * num_calls(text, few)


def num_calls(text: str, lexicon: Lexicon) -> int:
    """Of functions, built-in ones too, to rewrite a text."""
    events: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: object) -> None:
        events[event] += 1

    sys.setprofile(count)
    rewrite(text, (lexicon,), spared=(), phonemes="")
    sys.setprofile(None)
    return events["call"] + events["c_call"]


def test_a_text_does_not_grow_without_bound() -> None:
    """240 characters became 24,000 by a client's lexicon, which took half a minute to read, on the
    thread on which everybody's speech is made, and half an hour to say.
    """
    text = "a b " * 60
    done = rewritten(text, {"a": "x" * 200, "b": "c"})
    assert len(done.text) <= LONGEST_TEXT_CHARS
    assert done.text.count("x" * 200) == 3
    assert done.text.count("a ") == 57
    assert done.text.count("c") == 60
    assert done.no_room == ("a",)
    phonemes = rewritten(text, {"a": f"/{'x' * 198}/"}, phonemes="x")
    assert sum(map(len, phonemes.sounds.values())) <= LONGEST_TEXT_CHARS
    assert phonemes.no_room == ("a",)
    assert phonemes.text.count("a ") + len(phonemes.sounds) >= 60


def test_a_lexicon_that_is_gone_is_forgotten() -> None:
    """Every context may bring its own: what was made of them must not pile up."""
    lexicon = Lexicon({"a": "b"})
    assert rewrite("a", (lexicon,), spared=(), phonemes="").text == "b"
    gone = weakref.ref(lexicon)
    del lexicon
    gc.collect()
    assert gone() is None


# --- tags -----------------------------------------------------------------------------------------


def test_tags_of_the_model_stay_and_others_leave() -> None:
    """Left in, a voice would say "laugh"; with another length, words would be marked wrong."""
    text = "Ha [LAUGH] ha [clear throat][sic]."
    tagged = with_tags(text, ("[laugh]",))
    assert tagged.text == "Ha [laugh] ha " + " " * 14 + "[sic]."
    assert [tagged.text[slice(*place)] for place in tagged.places] == ["[laugh]"]
    assert tagged.left_out == ("[clear throat]",)
    assert with_tags(text, TAGS).text == text.lower().replace("ha", "Ha", 1)
