"""Speech tokens that only repeat themselves are told from speech."""

import random

import pytest

from chatterbox.config import TOKEN_RATE
from chatterbox.t3.runaway import LONGEST_LOOP, LOOP_S, LoopWatch

LIMIT = round(LOOP_S * TOKEN_RATE + 0.5)


def _pushed(tokens: list[int]) -> LoopWatch:
    watch = LoopWatch()
    for token in tokens:
        watch.push(token)
    return watch


@pytest.mark.parametrize("period", [1, 2, 7, LONGEST_LOOP])
def test_loop_of_any_length_is_seen_when_it_lasts(period: int) -> None:
    """A model that stutters in twos or in sixteens would otherwise stutter until the cap."""
    speech = random.Random(period).sample(range(6561), 80)
    loop = list(range(period)) * (LIMIT + 1)
    assert _pushed(speech + loop[: period + LIMIT - 1]).repeated == 0
    assert _pushed(speech + loop[: period + LIMIT]).repeated == LIMIT


def test_what_was_said_once_is_not_counted_as_repeated() -> None:
    """Cutting the repeated tokens must leave the first round of the loop, which may be a word."""
    loop = [11, 12, 13]
    watch = _pushed(list(range(100, 150)) + loop * 20)
    assert watch.repeated == 3 * 20 - 3


def test_speech_with_pauses_and_sustained_sounds_goes_on() -> None:
    """A second of one token of silence, or a word said twice, is no runaway."""
    chance = random.Random(1)
    word = [chance.randrange(6561) for _ in range(9)]
    tokens: list[int] = []
    for _ in range(40):
        tokens += [chance.randrange(6561) for _ in range(30)] + [4299] * 25 + word + word
        assert _pushed(tokens).repeated == 0


def test_one_new_token_ends_a_loop() -> None:
    """Otherwise a long pause, once over, would still cut what follows."""
    watch = _pushed([5] * 100)
    assert watch.repeated
    watch.push(6)
    assert watch.repeated == 0
