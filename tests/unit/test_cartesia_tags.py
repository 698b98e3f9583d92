"""Cartesia's tags in a growing text: what is said instead of them, however they were split."""

import random

import pytest

from daemon.dialects.cartesia_tags import Tags


def spoken(*pieces: str) -> str:
    tags = Tags()
    return "".join([*map(tags.push, pieces), tags.finish()])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<spell>A12 b</spell>!", "A 1 2 b!"),
        ('<emotion value="sad" />So <speed ratio="0.8"/>be it.', "So be it."),
        ('Wait<break time="1s"/> here.', 'Wait<break time="1s"/> here.'),
        ("<spell>cut off", "cut off"),
        ("<spell>A<break/>1</spell>", "A<break/>1"),
        ("<spell>A<emotion/>1</spell>", "A1"),
        ("<emotional> <speedy", "<emotional> <speedy"),
        ("1 < 2 and <b>3</b> <", "1 < 2 and <b>3</b> <"),
        ("<emotion " * 3000, "<emotion " * 3000),
    ],
)
def test_tags_are_obeyed_or_left_out(text: str, expected: str) -> None:
    """What Pipecat's helpers write must not be read aloud; pauses are the segmenter's to make. A
    language model's tokens end anywhere, also inside of a tag."""
    assert spoken(text) == expected
    random_ = random.Random(7)
    for _ in range(100 if len(text) < 1000 else 3):
        places = sorted(random_.choices(range(len(text) + 1), k=random_.randrange(1, 8)))
        pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
        assert spoken(*pieces) == expected, pieces


def test_what_is_no_tag_is_not_kept_waiting() -> None:
    """A smaller-than sign, or a tag without an end, must not keep the rest of an answer silent."""
    tags = Tags()
    assert tags.push("So 1 <") == "So 1 "
    assert tags.push(" 2, ") == "< 2, "
    assert tags.push("<spell>") == ""
    said = "".join(tags.push("all of this is one word ") for _ in range(10))
    assert len(said) >= 200
    assert tags.push("and so on") == "and so on"
