"""The segmenter: texts and their pieces; arrival does not matter, no text is lost."""

import random
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.speaking.segmenter import Pause, Piece, Segmenter

NASTY = [
    "",
    "   \n\n \t ",
    "Hello",
    "Hello there, this is a test. And one more! Dr. Smith paid $3.14 for version 1.2.3. He.",
    '"Really?" she asked. "Yes!" he said. "No." Then (he left.) "So... what?" Hm... ok... Fine…',
    "In the U.S. Army. He lives in the U.S. The end came at 5 p.m. on Jan. 5. J. R. R. Tolkien.",
    "No. 5 is alive. No. It is not, e.g. here, i.e. there. Cats, dogs, etc. are fine. Etc. Then",
    "Ingredients:\n- two eggs\n- flour\n\n1. Mix it all.\r\n2. Bake it.\n\n\nEnjoy\nyour\nToday",
    "你好，世界。今天天气很好！我们去公园吧？「好的。」他说。Mixed 文字 with words。",
    "¡Hola!¿Qué tal? Muy bien—gracias—a todos. — No. -- Yes - or not - maybe –",
    "Visit https://example.com/a.b?c=d. Then mail bob@example.com, please; at 10:30: done :) ;)",
    "I think that the weather in the north of the country is cold tomorrow and so take a coat " * 3,
    "x" * 70 + " " + "y" * 130 + ". e\u0301" + "e\u0301" * 50,
    "...!!! ?? — ,,, . . . *** ### () [] 😀😀 👨\u200d👩\u200d👧 ok",
    "A.B.C. a.b. 1. 2) (3) - * • # > |x| **1.** _a._ `c.` ~d.~",
    "\u00a0nbsp\u00a0here\u2028line\u2029para\x0bvt\x0cff\x1cfs\x00nul\u200b.",
]


def split_with(deltas: list[str], **limits: int) -> list[Piece]:
    segmenter = Segmenter(**{"max_chars": 60, "first_max_chars": 30, **limits})
    return [piece for delta in deltas for piece in segmenter.push(delta)] + segmenter.flush()


def assert_tiles(text: str, pieces: list[Piece]) -> None:
    end = 0
    for piece in pieces:
        assert text[end : piece.start].strip() == ""
        assert piece.text == text[piece.start : piece.end] == piece.text.strip() != ""
        end = piece.end
    assert text[end:].strip() == ""


@pytest.mark.parametrize("text", NASTY)
def test_every_split_in_two_gives_the_same_pieces(text: str) -> None:
    """Guards against a decision that depends on where a delta ended."""
    whole = split_with([text])
    assert_tiles(text, whole)
    assert split_with(list(text)) == whole
    for cut in range(1, len(text)):
        assert split_with([text[:cut], text[cut:]]) == whole


@given(
    text=st.text(alphabet=st.sampled_from("aZ1 .,?!:;-—…\"'()\n。，你好é😀\u0301"), max_size=120),
    cuts=st.lists(st.integers(0, 120), max_size=8),
    max_chars=st.integers(1, 50),
    first_max_chars=st.integers(1, 50),
)
@settings(max_examples=400, deadline=None)
def test_arrival_does_not_matter_and_no_text_is_lost(
    text: str, cuts: list[int], max_chars: int, first_max_chars: int
) -> None:
    """Guards split invariance, tiling and the size limit on texts that nobody would think of."""
    limits = {"max_chars": max_chars, "first_max_chars": first_max_chars}
    bounds = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    deltas = [text[a:b] for a, b in pairwise(bounds)]
    pieces = split_with(deltas, **limits)
    assert pieces == split_with([text], **limits)
    assert_tiles(text, pieces)
    assert all(len(piece.text) <= max_chars for piece in pieces)


@given(
    steps=st.lists(
        st.one_of(
            st.text(alphabet=st.sampled_from('ab. ,\nU"1。你—'), max_size=12),
            st.sampled_from([True, False]),
        ),
        max_size=20,
    )
)
@settings(max_examples=300, deadline=None)
def test_flushes_anywhere_lose_nothing(steps: list[str | bool]) -> None:
    """Guards the positions after a flush: text said twice, or never."""
    segmenter = Segmenter(max_chars=20, first_max_chars=10)
    pieces: list[Piece] = []
    for step in steps:
        if isinstance(step, str):
            pieces += segmenter.push(step)
        else:
            pieces += segmenter.flush(complete_words_only=step)
    pieces += segmenter.flush()
    assert_tiles("".join(step for step in steps if isinstance(step, str)), pieces)
    assert segmenter.pending == ""


N, S, C, E, P = Pause.NONE, Pause.SHORT, Pause.CLAUSE, Pause.SENTENCE, Pause.PARAGRAPH

EXAMPLES: list[tuple[str, list[tuple[str, Pause]]]] = [
    ("One two three. Four", [("One two three.", E), ("Four", N)]),
    ("Yes. No. Maybe.", [("Yes.", E), ("No.", E), ("Maybe.", E)]),
    # The first piece: a comma after two words, a phrase after five.
    ("Well, of course, sir.", [("Well, of course,", S), ("sir.", E)]),
    ("Hello there, sir.", [("Hello there,", S), ("sir.", E)]),
    ("As follows: this.", [("As follows:", C), ("this.", E)]),
    (
        "I saw the old man with a stick, and the dog. He saw me too, and went.",
        [
            ("I saw the old man", N),
            ("with a stick, and the dog.", E),
            ("He saw me too, and went.", E),
        ],
    ),
    (
        "It is what I looked at for a while.",  # no cut between "at" and "for"
        [("It is what I looked", N), ("at for a while.", E)],
    ),
    (
        "He left the house because of that and so on.",  # "of", "that" and "so" lean forward
        [("He left the house because of that and so on.", E)],
    ),
    ("... Hello. ! You.", [("... Hello.", E), ("! You.", E)]),  # nothing to say: not a piece
    # Full stops that end nothing.
    ("Dr. Smith met Mr. Wu. He", [("Dr. Smith met Mr. Wu.", E), ("He", N)]),
    ("It costs 3.14 or 1,000.50 now.", [("It costs 3.14 or 1,000.50 now.", E)]),
    ("Take 3. Then 4.", [("Take 3.", E), ("Then 4.", E)]),
    ("Version 1.2.3 is out. Get it.", [("Version 1.2.3 is out.", E), ("Get it.", E)]),
    ("At 5 p.m. on Jan. 5 we go.", [("At 5 p.m. on Jan. 5 we go.", E)]),
    ("He left at 5 p.m. The end.", [("He left at 5 p.m.", E), ("The end.", E)]),
    ("The U.S. Army won.", [("The U.S. Army won.", E)]),
    ("In the U.S. The end.", [("In the U.S.", E), ("The end.", E)]),
    ("J. R. R. Tolkien wrote.", [("J. R. R. Tolkien wrote.", E)]),
    ("Take plan B. It works.", [("Take plan B.", E), ("It works.", E)]),
    ("No. 5 is alive.", [("No. 5 is alive.", E)]),
    ("No. That is wrong.", [("No.", E), ("That is wrong.", E)]),
    ("Cats etc. are fine.", [("Cats etc. are fine.", E)]),
    ("Cats, dogs, etc. They", [("Cats, dogs,", S), ("etc.", E), ("They", N)]),
    ("Use tools, e.g. a saw.", [("Use tools,", S), ("e.g. a saw.", E)]),
    (
        "See example.com. Mail a@b.org. Ok",
        [("See example.com.", E), ("Mail a@b.org.", E), ("Ok", N)],
    ),
    ("See https://a.b/c?d=e.f!g now.", [("See https://a.b/c?d=e.f!g now.", E)]),
    # Ellipses, quotation marks, brackets.
    ("Wait... what now? Go.", [("Wait... what now?", E), ("Go.", E)]),
    ("Just wait... what? Go.", [("Just wait...", C), ("what?", E), ("Go.", E)]),
    ("Just wait... What? Go.", [("Just wait...", E), ("What?", E), ("Go.", E)]),
    ("He said “Stop!” and left.", [("He said “Stop!”", C), ("and left.", E)]),
    ('"Go!" "Now?" he said.', [('"Go!"', E), ('"Now?" he said.', E)]),
    ("(He left.) She did not.", [("(He left.)", E), ("She did not.", E)]),
    ("**Bold.** Not bold.", [("**Bold.**", E), ("Not bold.", E)]),
    ("What?! No way!!! Ok", [("What?!", E), ("No way!!!", E), ("Ok", N)]),
    ("Fine with me :) thanks.", [("Fine with me :) thanks.", E)]),
    # Dashes.
    ("He left—at once—by car.", [("He left—", C), ("at once—by car.", E)]),
    ("He left - at once.", [("He left -", C), ("at once.", E)]),
    ("A well-known fact -- yes.", [("A well-known fact --", C), ("yes.", E)]),
    # Lines.
    ("A title\n\nThe text.", [("A title", P), ("The text.", E)]),
    ("The text.\n\nMore.", [("The text.", P), ("More.", E)]),
    ("You need:\n- an egg\n- milk\n", [("You need:", E), ("- an egg", E), ("- milk", E)]),
    ("1. Mix it.\n2. Bake it.\n", [("1. Mix it.", E), ("2. Bake it.", E)]),
    (
        "Please buy everything that is written on this list here\n1. eggs",
        [("Please buy everything that is written", N), ("on this list here\n1. eggs", N)],
    ),
    (
        "This is a line of text that was wrapped by an editor in\nBerlin, of course.",
        [
            ("This is a line of text", N),
            ("that was wrapped by an editor in\nBerlin, of course.", E),
        ],
    ),
    ("Apples\nPears\nas well", [("Apples", E), ("Pears\nas well", N)]),
    ("A line wrapped\nby an editor.", [("A line wrapped\nby an editor.", E)]),
    # Other scripts.
    ("你好，世界。再见！", [("你好，", S), ("世界。", E), ("再见！", E)]),
    ("「好的。」他说。", [("「好的。」", E), ("他说。", E)]),
    ("¡Hola! ¿Qué tal?", [("¡Hola!", E), ("¿Qué tal?", E)]),
    ("¡Hola!¿Qué tal?", [("¡Hola!", E), ("¿Qué tal?", E)]),
]


@pytest.mark.parametrize(("text", "expected"), EXAMPLES, ids=[text for text, _ in EXAMPLES])
def test_examples(text: str, expected: list[tuple[str, Pause]]) -> None:
    """Guards each rule by an example; read the table as the segmenter's manual."""
    pieces = split_with([text], max_chars=200, first_max_chars=80)
    assert [(piece.text, piece.pause) for piece in pieces] == expected


@pytest.mark.parametrize(
    ("needed", "piece"),
    [
        ("Hello there, ", "Hello there,"),
        ("Hello there. ", "Hello there."),
        ("Hello there! ", "Hello there!"),
        ("你好。世", "你好。"),
        ("He left—a", "He left—"),
        ("I saw the old man with ", "I saw the old man"),
        ('"Hello there." H', '"Hello there."'),
        ("No. I", "No."),
        ("In the U.S. The ", "In the U.S."),
        ("A title\n\n", "A title"),
        ("A title\nT", "A title"),
    ],
)
def test_lookahead_is_minimal(needed: str, piece: str) -> None:
    """Guards latency: the cut comes with the very character that makes it certain."""
    segmenter = Segmenter(max_chars=200)
    assert segmenter.push(needed[:-1]) == []
    assert [p.text for p in segmenter.push(needed[-1])] == [piece]


def test_pieces_grow_after_the_first() -> None:
    """Guards fluency: once somebody is listening, whole sentences are worth the wait."""
    sentence = "I walked to the shop, then I walked home again, and so on. "
    first, second, third, *_ = split_with([sentence * 3], max_chars=300, first_max_chars=80)
    assert first.text == "I walked to the shop,"
    assert second.text == "then I walked home again, and so on."
    assert third.text == sentence.strip()


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("aa bb cc; dd ee, ff gg hh ii jj kk", "aa bb cc;"),
        ("aa bb cc dd ee, ff gg hh ii jj kk", "aa bb cc dd ee,"),
        ("aa bb cc dd ee and gg hh ii jj kk", "aa bb cc dd ee"),
        ("aa bb cc dd ee ff gg hh ii jj kk", "aa bb cc dd ee ff gg hh"),
        ("aa, bb cc dd ee ff gg hh ii jj", "aa, bb cc dd ee ff gg hh"),  # too early to be of use
    ],
)
def test_long_sentences_are_cut_at_the_best_place(text: str, first: str) -> None:
    """Guards the order clause, comma, phrase, word when a sentence outgrows a piece."""
    segmenter = Segmenter(max_chars=25, first_max_chars=25)
    for filler in ("Start.", "Start."):  # the rules of the first two pieces are others
        assert [p.text for p in segmenter.push(filler + " ")] == [filler]
    assert segmenter.push(text)[0].text == first


def test_boundaries_after_a_forced_cut_are_remembered() -> None:
    """Guards the second cut of a very long sentence: it may need a comma seen before the first."""
    segmenter = Segmenter(max_chars=20, first_max_chars=20)
    segmenter.push("Start. Start. ")
    pieces = segmenter.push("aa bb cc; dd, " + "e" * 30)
    assert [piece.text for piece in pieces] == ["aa bb cc;", "dd,", "e" * 20]


@pytest.mark.parametrize(
    ("before", "text", "cut"),
    [
        ("Start. ", "aa bb cc dd, ee ", []),
        ("Start. ", "aa bb cc dd ee ff gg, hh ", ["aa bb cc dd ee ff gg,"]),
        ("Start. Start. ", "aa bb cc dd ee ff gg, hh ", []),
        ("Start. Start. ", "aa bb cc dd; ee ", []),
        ("Start. Start. ", "aa bb cc dd ee ff gg; hh ", ["aa bb cc dd ee ff gg;"]),
    ],
)
def test_later_pieces_end_at_a_clause_in_their_second_half(
    before: str, text: str, cut: list[str]
) -> None:
    """Guards a slow writer's listener (no wait for a long sentence's end) and short fragments."""
    segmenter = Segmenter(max_chars=40, first_max_chars=20)
    segmenter.push(before)
    assert [piece.text for piece in segmenter.push(text)] == cut


def test_a_long_word_is_cut_only_at_max_chars() -> None:
    """Guards against a URL broken by the limit of the first piece, and against an endless piece."""
    pieces = split_with(["See " + "x" * 90 + " now"], max_chars=80, first_max_chars=20)
    assert [len(piece.text) for piece in pieces] == [3, 80, 14]


def test_a_composed_character_is_not_cut() -> None:
    """Guards accents that would be spoken apart from their letter."""
    pieces = split_with(["a" + "e\u0301" * 10], max_chars=4, first_max_chars=4)
    assert all(piece.text[0] in "ae" for piece in pieces)


def test_flush_speaks_the_rest_and_starts_afresh() -> None:
    """Guards that the piece after a flush is a fast first piece again."""
    segmenter = Segmenter(max_chars=200)
    assert [p.text for p in segmenter.push("One. Two and three, four")] == ["One."]
    assert segmenter.pending == "Two and three, four"
    assert [p.text for p in segmenter.flush()] == ["Two and three, four"]
    assert segmenter.pending == ""
    assert segmenter.flush() == []
    assert [(p.text, p.start) for p in segmenter.push(" Five six, seven")] == [("Five six,", 25)]


@pytest.mark.parametrize(
    ("text", "spoken", "kept"),
    [
        ("I think tha", ["I think"], "tha"),
        ("I think ", ["I think"], ""),
        ("I think.", ["I think."], ""),
        ("It costs 3,", ["It costs"], "3,"),
        ("tha", [], "tha"),
        ("你好世界", ["你好世界"], ""),
        ("In the U.S. Th", ["In the U.S."], "Th"),
        ('He said "no"', ['He said "no"'], ""),
    ],
)
def test_flush_of_complete_words(text: str, spoken: list[str], kept: str) -> None:
    """Guards a stalled writer's last word: half of it must not be spoken."""
    segmenter = Segmenter(max_chars=200)
    assert segmenter.push(text) == []
    assert [p.text for p in segmenter.flush(complete_words_only=True)] == spoken
    assert segmenter.pending == kept


def test_the_kept_word_goes_on() -> None:
    """Guards the word that was held back over a flush: it continues with what arrives."""
    segmenter = Segmenter(max_chars=200)
    segmenter.push("I think tha")
    segmenter.flush(complete_words_only=True)
    assert [p.text for p in segmenter.push("t is all. ")] == ["that is all."]


def test_a_tag_of_two_words_is_one_word() -> None:
    """Cut in the middle it would be spoken as words; any other bracket is cut as before."""
    for text in ("oh [clear throat] well", "Oh[clear throat], well. [Clear throat]"):
        for place in range(len(text)):
            segmenter = Segmenter(max_chars=200, first_max_chars=8)
            pieces = segmenter.push(text[:place]) + segmenter.flush(complete_words_only=True)
            pieces += segmenter.push(text[place:]) + segmenter.flush()
            said = " ".join(piece.text for piece in pieces).lower()
            assert said.count("[clear throat]") == text.lower().count("[clear throat]")
    segmenter = Segmenter(max_chars=200)
    segmenter.push("a [clear sky")
    assert [piece.text for piece in segmenter.flush(complete_words_only=True)] == ["a"]
    segmenter.push(" today] b")
    assert [piece.text for piece in segmenter.flush()] == ["[clear sky today] b"]


def test_what_is_passed_over_counts_but_is_in_no_piece() -> None:
    """Positions after a tag would be too small; and a tag ends the word before it."""
    segmenter = Segmenter(max_chars=200)
    pieces = segmenter.push("Well, so") + segmenter.pass_over(20) + segmenter.pass_over(5)
    pieces += segmenter.push(" on it goes. ") + segmenter.push("End") + segmenter.flush()
    assert [(piece.text, piece.start) for piece in pieces] == [
        ("Well, so", 0),
        ("on it goes.", 34),
        ("End", 46),
    ]
    assert segmenter.num_chars == 49


def test_limits_must_be_positive() -> None:
    """Guards against a configuration that could never cut."""
    with pytest.raises(ValueError, match="at least 1"):
        Segmenter(max_chars=0)


def test_cost_is_linear() -> None:
    """Guards against a text that makes the event loop wait: time per character must not grow."""
    shapes = [
        "a",
        " ",
        "a ",
        ". ",
        "\n",
        "你",
        "a, ",
        '"',
        "—",
        "U.S. ",
        "é" * 40 + " ",
        "...",
        "1.",
    ]

    def cost_s(num_chars: int) -> float:
        start = time.process_time()
        for shape in shapes:
            split_with([shape * (num_chars // len(shape))], max_chars=250, first_max_chars=80)
        return time.process_time() - start

    # The dearest of three is the usual one on a busy machine; what is quadratic costs 64 times it.
    usual_s = max(cost_s(10_000) for _ in range(3))
    assert cost_s(80_000) < 20 * usual_s


def test_random_words_stay_within_limits() -> None:
    """Guards the size limit on long ordinary text; a fixed seed keeps the run repeatable."""
    rng = random.Random(1)
    words = ["the", "cat", "and", "sat,", "on", "it.", "which", "U.S.", "3.5", "well—", "so;"]
    text = " ".join(rng.choice(words) for _ in range(3_000))
    pieces = split_with([text], max_chars=120, first_max_chars=40)
    assert_tiles(text, pieces)
    assert len(pieces[0].text) <= 40
    assert max(len(piece.text) for piece in pieces) <= 120
