"""Which written words each spoken word stands for: nothing spoken is lost, nothing out of order."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.text.normalise import normalise
from chatterbox.text.places import Place, places, words_of
from chatterbox.training.corpus import held_out

TABLE = Path(__file__).with_name("spoken_forms.tsv")
TEXTS = [
    *(
        line.split("\t")[0].replace("\\n", "\n")
        for line in TABLE.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ),
    *(item.text for item in held_out()),
]


def read_alone(run: str) -> str:
    return normalise(run).text


def placed(text: str) -> list[str]:
    """`written=what is said for it`, in order."""
    said = words_of(normalise(text).text)
    return [
        "+".join(text[start:end] for start, end in place.runs)
        + "="
        + "_".join(said[place.first : place.last])
        for place in places(text, said, read_alone)
    ]


def check(text: str, said: list[str], found: list[Place]) -> None:
    """The words tile what is said; the runs are whole, in order, and those of all that speaks."""
    assert [place.first for place in found] == [0, *(place.last for place in found)][: len(found)]
    assert all(place.first < place.last for place in found)
    assert (found[-1].last if found else 0) == len(said)
    runs = [run for place in found for run in place.runs]
    assert runs == sorted(set(runs))
    written = [text[start:end] for start, end in runs]
    assert all(run == "".join(run.split()) for run in written)
    if said:
        speaking = [run for run in text.split() if read_alone(run)]
        left = iter(written)
        assert all(run in left for run in speaking), "a run that speaks is in no place"


def test_every_text_that_was_reviewed_is_covered() -> None:
    """A word without a place would have no time; one with two would be marked twice."""
    assert len(TEXTS) > 400
    for text in TEXTS:
        said = words_of(normalise(text).text)
        check(text, said, places(text, said, read_alone))


@given(st.text(st.sampled_from(list("ab1250.,$%-–+*/:'()[]<>#@& \n…é你😀")), max_size=30))
def test_any_text_is_covered(text: str) -> None:
    """Odd signs make runs that say nothing, or that only say something together."""
    said = words_of(normalise(text).text)
    check(text, said, places(text, said, read_alone))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It costs $5 now.", "It=It costs=costs $5=five_dollars now.=now."),
        ("Use fruit, e.g. apples.", "Use=Use fruit,=fruit, e.g.=for_example apples.=apples."),
        ("On 5 January 2019.", "On=On 5=the_fifth_of January=January, 2019.=twenty_nineteen."),
        ("He has 1\u00a0000 cats.", "He=He has=has 1=one 000=thousand cats.=cats."),
        ("So x < 5.", "So=So x=x <=less_than 5.=five."),
        ("Lists: 😀 – **one** thing.", "Lists:=Lists— **one**=one thing.=thing."),
        ("It costs CHF 20.", "It=It costs=costs CHF+20.=twenty_Swiss_francs."),
        ("Henry VIII ate.", "Henry=Henry VIII=the_eighth ate.=ate."),
        ("😀 ?!", ""),
    ],
)
def test_places(text: str, expected: str) -> None:
    """Guards the mapping itself: a shift by one word would mark the neighbour."""
    assert " ".join(placed(text)) == expected
