"""Prepared sizes, and the cutting of text that is too long for one pass of the model."""

from itertools import pairwise

import pytest

from chatterbox.ladder import Ladder, batches_of, steps_of, thinned
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


def test_batches_waste_at_most_half_as_much_again() -> None:
    """Each size is a capture, and each row of padding is computed."""
    for longest in (1, 2, 3, 7, 64, 100, 256):
        sizes = batches_of(longest)
        assert (sizes[0], sizes[-1]) == (1, longest)
        assert all(larger <= 2 * size for size, larger in pairwise(sizes))
        assert len(sizes) <= 16
    assert batches_of(16) == [1, 2, 4, 6, 8, 12, 16]


def test_thinned_keeps_both_ends_and_small_steps() -> None:
    """The first window decides the first audio, the largest must hold every window."""
    assert thinned([10, 11, 12, 20, 30], ratio=1.5) == [10, 12, 20, 30]
    assert thinned([5], ratio=2.0) == [5]
    assert thinned([9, 3, 3], ratio=9.0) == [3, 9]
