"""Speech tokens laid over a text: when each word is heard, to half a token."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.api import SpokenWord
from chatterbox.config import SPEECH_CODES
from chatterbox.frozen import ConfigError
from chatterbox.silence import BLOCK, SilenceTrimmer
from chatterbox.text.front_end import TokenSpan
from chatterbox.timing import HALF_SAMPLES, Alignment, WordClock
from chatterbox.token_names import LEVELS, NUM_STATES, phonemes_of_tokens, read_states

SYMBOLS = " abcdefghij"
STATES = [first + second for first in SYMBOLS for second in SYMBOLS]
HALVES = phonemes_of_tokens(STATES, SYMBOLS)
SILENCE = np.zeros(2 * HALF_SAMPLES, np.float32)
SOUND = np.full(2 * HALF_SAMPLES, 0.1, np.float32)


def text_tokens(text: str) -> list[int]:
    return [SYMBOLS.index(char) for char in text]


def speech_tokens(heard: str) -> list[int]:
    """A letter for each half token; every level of pitch in turn."""
    pairs = [heard[k : k + 2] for k in range(0, len(heard), 2)]
    return [LEVELS * STATES.index(pair) + index % LEVELS for index, pair in enumerate(pairs)]


def aligned(text: str, heard: str) -> str:
    """The text with the half in which each of its letters ends."""
    alignment = Alignment(text_tokens(text), HALVES)
    for token in speech_tokens(heard):
        alignment.push(token)
    ends = alignment.ends(alignment.num_halves, is_whole=True)
    return " ".join(f"{char}{end}" for char, end in zip(text, ends, strict=True))


@pytest.mark.parametrize(
    ("text", "heard", "expected"),
    [
        ("abc", "aabbbccc", "a2 b5 c8"),
        ("abc", "aaaacccc", "a4 b4 c8"),  # too short to be named
        ("abcd", "bbccdddd", "a0 b2 c4 d8"),
        ("abc", "aabbcceh", "a2 b4 c8"),  # what was not asked for
        ("abc", "aaajbbcc", "a4 b6 c8"),  # a rare pair, named by another
        ("abab", "aabbaabb", "a2 b4 a6 b8"),
    ],
)
def test_what_is_heard_is_laid_over_what_was_to_be_said(
    text: str, heard: str, expected: str
) -> None:
    """A phoneme that is never named must not stop the clock, nor a wrong one advance it."""
    got = aligned(text, heard)
    if "j" in heard:
        assert got in (expected, "a3 b6 c8")
    else:
        assert got == expected


def test_what_came_later_does_not_change_what_was_known_earlier() -> None:
    """The host runs ahead by a lag that depends on the machine: times may not."""
    text, heard = "ab cd ef", "aabb  ccdd  eeff"
    short, long = (Alignment(text_tokens(text), HALVES) for _ in range(2))
    for token in speech_tokens(heard[:8]):
        short.push(token)
    for token in speech_tokens(heard):
        long.push(token)
    early = short.ends(8, is_whole=False).tolist()
    assert early == long.ends(8, is_whole=False).tolist()
    assert early[:3] == [2, 4, 6]
    assert min(early[3:]) > 8, "what is not through has no end"


def spoken(
    text: str, heard: str, *, silence: int = 0, tail: int = 0
) -> tuple[list[tuple[str, int, int]], list[tuple[SpokenWord, int]], int]:
    """Words with their times in half tokens; words with the samples that had left before; samples
    in all. Every token becomes sound at once, silence before and after.
    """
    tokens = text_tokens(text)
    words, place = [], 0
    for word in text.split(" "):
        words.append(TokenSpan(((place, place + len(word)),), place, place + len(word)))
        place += len(word) + 1
    clock, trimmer = WordClock(tokens, words, HALVES), SilenceTrimmer()
    found: list[tuple[SpokenWord, int]] = []
    drawn = speech_tokens(heard)
    for index, token in enumerate([*drawn, SPEECH_CODES]):
        clock.push(token)
        clock.note_launch()
        before = trimmer.num_given
        if index < len(drawn):
            is_sound = silence <= index < len(drawn) - tail
            trimmer.push((SOUND if is_sound else SILENCE).copy())
        found += [(word, before) for word in clock.heard(trimmer, num_left=before)]
    before = trimmer.num_given
    trimmer.finish()
    found += [
        (word, before) for word in clock.finish(trimmer, num_left=before, num_tokens=len(drawn))
    ]
    times = [(text[word.start : word.end], word.start_sample, word.end_sample) for word, _ in found]
    return times, found, trimmer.num_given


def test_words_begin_where_the_pause_before_them_ends() -> None:
    """Half a token is 20 ms, 480 samples."""
    times, _, total = spoken("ab cd", "aabb  ccdd")
    assert times == [("ab", 0, 4 * 480), ("cd", 6 * 480, 10 * 480)]
    assert total == 10 * 480


def test_trimmed_silence_moves_the_words() -> None:
    """What the listener hears begins at the first sound, less a short run-up."""
    times, _, total = spoken("ab cd", "aaaaaabb  ccddbbbb", silence=2, tail=1)
    dropped = 2 * 960 - 3 * BLOCK
    assert times[0] == ("ab", 0, 8 * 480 - dropped)
    assert times[1][1] == 10 * 480 - dropped
    assert times[1][2] <= total == 8 * 960 - dropped + 8 * BLOCK


@given(
    st.lists(
        st.text(st.sampled_from("abcdefghij"), min_size=1, max_size=4), min_size=1, max_size=6
    ),
    st.lists(st.sampled_from(SYMBOLS), min_size=2, max_size=60),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_whatever_is_heard_words_come_once_in_order_and_in_time(
    words: list[str], heard: list[str], silence: int, tail: int
) -> None:
    """A model that mumbles, skips or babbles must not make time run backwards, nor a word late."""
    letters = "".join(heard)[: len(heard) // 2 * 2]
    times, found, total = spoken(" ".join(words), letters, silence=silence, tail=tail)
    assert [word for word, _, _ in times] == words
    assert all(0 <= start <= end <= total for _, start, end in times)
    assert all(left[2] <= right[1] for left, right in pairwise(times))
    assert all(word.end_sample >= before for word, before in found), "the audio was there first"


def test_runs_that_are_said_together_share_the_time() -> None:
    """Twenty Swiss francs are written "CHF 20": both runs are marked, one after the other."""
    clock = WordClock(text_tokens("ab"), [TokenSpan(((0, 1), (2, 5)), 0, 2)], HALVES)
    trimmer = SilenceTrimmer()
    for token in speech_tokens("aabb"):
        clock.push(token)
        trimmer.push(SOUND.copy())
    words = clock.finish(trimmer, num_left=0, num_tokens=2)
    assert [(word.start, word.end, word.start_sample, word.end_sample) for word in words] == [
        (0, 1, 0, 480),
        (2, 5, 480, 1920),
    ]


def test_a_file_of_states_is_checked(tmp_path: object) -> None:
    """Names of another voice's tokens would put every word at a wrong time, in silence."""
    path = tmp_path / "states.txt"  # type: ignore[operator]
    with pytest.raises(ConfigError, match="No such file"):
        read_states(path)
    for text in ("ab\nab\n", "abc\n", "a\n", "".join(f"{k:02d}\n" for k in range(100)) * 8):
        path.write_text(text)
        with pytest.raises(ConfigError, match="pair of phonemes"):
            read_states(path)
    path.write_text("a_\n_b\n")
    assert read_states(path) == ["a ", " b"]
    assert len(HALVES) == SPEECH_CODES >= NUM_STATES * LEVELS
    assert HALVES[LEVELS * len(STATES) :].tolist() == [[-1, -1]] * (
        SPEECH_CODES - LEVELS * len(STATES)
    )
