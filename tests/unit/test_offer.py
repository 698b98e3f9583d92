"""What is offered, and an `open` checked against it: pronunciation and pauses."""

from dataclasses import replace

import pytest

from chatterbox.sine import SineEngine
from daemon.config import Config
from daemon.speaking.lexicon import HouseLexicon, new_lexicon
from daemon.speaking.offer import Offer
from daemon.wire.errors import BadMessage
from daemon.wire.protocol import Open, parse_client_message

INFO = replace(SineEngine().info, tags=("[laugh]",), phonemes="abc")


def test_begin_tells_what_a_text_may_ask_for() -> None:
    """A client cannot know otherwise which tags are sounds, and which phonemes there are."""
    begin = Offer(INFO, Config(max_lexicon=5, max_break_ms=700)).begin()
    assert (begin.tags, begin.phonemes) == (("[laugh]",), "abc")
    assert (begin.limits.lexicon_entries, begin.limits.break_ms) == (5, 700)


def test_the_clients_lexicon_comes_before_the_operators() -> None:
    """Both hold; which one wins is decided by their order."""
    house = HouseLexicon(new_lexicon({"a": "house"}))
    offer = Offer(INFO, Config(), lexicon=house)
    asked = offer.resolve(Open(context="x", lexicon={"a": "mine"}))
    assert [lexicon.entries["a"] for lexicon in asked.lexicons] == ["mine", "house"]
    for wish in (Open(context="x"), Open(context="x", lexicon={})):
        assert offer.resolve(wish).lexicons == (house.general,)


@pytest.mark.parametrize(
    ("lexicon", "complaint"),
    [
        ({"a": "b", "c": "d", "e": "f"}, "3 entries; 2 are allowed"),
        ({"a": ""}, "'a' must have 1 to 200 characters"),
        ({"a": "/a b/"}, "'a' hold white space"),
    ],
)
def test_a_lexicon_that_does_not_fit_is_refused(lexicon: dict[str, str], complaint: str) -> None:
    """Before the context exists, with the entry's name."""
    offer = Offer(INFO, Config(max_lexicon=2))
    with pytest.raises(BadMessage, match=complaint):
        offer.resolve(Open(context="x", lexicon=lexicon))


@pytest.mark.parametrize("lexicon", ["[]", '{"a": 1}', '{"a": "\\ud800"}', '{"\\ud800": "a"}'])
def test_only_texts_are_a_lexicon(lexicon: str) -> None:
    """Whatever else comes is an answer, not a traceback."""
    with pytest.raises(BadMessage, match="lexicon"):
        parse_client_message('{"type": "open", "context": "x", "lexicon": ' + lexicon + "}")
