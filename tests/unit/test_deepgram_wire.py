"""Deepgram's messages: what of a text is spoken, offsets, refusals, nonsense."""

import json
import random
from collections.abc import Callable

import pytest

from daemon.dialects.deepgram_wire import (
    DeepgramError,
    Interrupt,
    Speak,
    parse_aura,
    parse_flux,
    refusal_response,
)


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        (r'Take \{"word": "dupilumab", "pronounce": "dupil"\} daily.', "Take dupilumab daily."),
        (r'\{"word":"a \"b\"","pronounce":"x"\}\{"word": "c", "pronounce": "y"\}', 'a "b"c'),
        (r'A brace \{ and {"word": "a"} stay.', r'A brace \{ and {"word": "a"} stay.'),
        (r'\{"word": "\ud800", "pronounce": "x"\}.', "."),
        (r'\{"word": "broken", "pronounce": \}', "broken"),
    ],
)
def test_of_a_word_with_a_pronunciation_the_word_is_spoken(text: str, spoken: str) -> None:
    """Pipecat writes these objects into the text: braces and phonetics must not be read aloud."""
    assert parse_aura(json.dumps({"type": "Speak", "text": text})) == Speak(spoken)


def test_offsets_are_milliseconds_of_the_session() -> None:
    """A wrong unit would tell the LLM that nothing, or all, was heard."""

    def interrupt(offset: object) -> object:
        return parse_flux(json.dumps({"type": "Interrupt", "playback_offset": offset}))

    assert interrupt(None) == Interrupt(None)
    assert interrupt({"type": "time_ms", "value": 1500}) == Interrupt(1500)
    assert interrupt({"value": 12.6}) == Interrupt(13)
    wrongs: list[object] = [5, "5", [], {}, {"type": "samples", "value": 5}, {"value": True}]
    for wrong in [*wrongs, {"value": -1}]:
        with pytest.raises(DeepgramError, match="playback_offset"):
            interrupt(wrong)


def test_a_refusal_is_a_header_whatever_it_quotes() -> None:
    """It may quote the query, and a line break in that would write headers of the client's."""
    response = refusal_response(
        400, DeepgramError("X", "no voice 'a\r\nSet-Cookie: b\u2028é'" * 99)
    )
    header = response.headers["dg-error"]
    assert header.isascii()
    assert header.isprintable()
    assert len(header) <= 300


@pytest.mark.parametrize("parse", [parse_aura, parse_flux])
def test_any_json_is_a_message_or_an_error(parse: Callable[[str], object]) -> None:
    """An exception of another kind would end the connection as a bug of ours."""
    random_ = random.Random(3)
    leaves: list[object] = [None, True, -1, 2**70, 1e308, "", "Speak", "\ud800", "time_ms"]

    def any_json(depth: int) -> object:
        kind = random_.randrange(4 if depth else 1)
        if kind == 0:
            return random_.choice(leaves)
        if kind == 1:
            return [any_json(depth - 1) for _ in range(random_.randrange(3))]
        names = ["type", "text", "playback_offset", "speed", "value"]
        return {random_.choice(names): any_json(depth - 1) for _ in range(4)}

    num_errors = 0
    for _ in range(3000):
        message = any_json(3)
        if isinstance(message, dict) and random_.random() < 0.7:
            message["type"] = random_.choice(["Speak", "Flush", "Interrupt", "Configure", "Close"])
        try:
            parse(json.dumps(message))
        except DeepgramError:
            num_errors += 1
    assert 100 < num_errors < 2900
