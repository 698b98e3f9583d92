"""Prepared sizes, and the cutting of text that is too long for one pass of the model."""

import pytest

from chatterbox.ladder import Ladder, steps_of
from chatterbox.progress import split_tokens


def test_the_smallest_size_that_holds() -> None:
    """A size between two rungs takes the upper one; beyond the last is an error, not a clipped
    shape.
    """
    ladder = Ladder([8, 1, 4, 4])
    assert [ladder.fit(needed) for needed in (1, 2, 4, 5)] == [1, 4, 4, 8]
    with pytest.raises(ValueError, match="9 is beyond the largest prepared size, 8"):
        ladder.fit(9)
    with pytest.raises(ValueError, match="at least one"):
        Ladder([])


def test_pinned_always_takes_the_largest() -> None:
    """--deterministic: neighbours cannot change a shape."""
    assert Ladder([1, 2, 3], pinned=True).fit(1) == 3


def test_steps_reach_the_end() -> None:
    """The last step may be short, but must be there."""
    assert steps_of(32, 70).sizes == (32, 64, 70)
    assert steps_of(32, 64).sizes == (32, 64)


@pytest.mark.parametrize("longest", [2, 5, 10, 100])
def test_splitting_loses_nothing(longest: int) -> None:
    """Every token is spoken once, in order, and no piece is too long."""
    tokens = [0 if index % 7 == 6 else index + 1 for index in range(60)]
    pieces = split_tokens(tokens, longest, 0)
    assert [token for piece in pieces for token in piece] == tokens
    assert max(map(len, pieces)) <= longest


def test_cuts_fall_between_words_where_possible() -> None:
    """In the middle of a word only when there is no space in the second half of the window."""
    tokens = [1, 1, 1, 0, 1, 1, 1, 0, 1, 1]
    assert split_tokens(tokens, 6, 0) == [[1, 1, 1, 0], [1, 1, 1, 0, 1, 1]]
    assert split_tokens([1] * 7, 3, 0) == [[1, 1, 1], [1, 1, 1], [1]]
    assert split_tokens([1] * 7, 3, None) == [[1, 1, 1], [1, 1, 1], [1]]
