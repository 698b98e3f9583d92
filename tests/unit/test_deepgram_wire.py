"""Deepgram's queries and messages: whose voice a model's name is, and what of a text is spoken."""

import json
import random
from collections.abc import Callable

import pytest

from daemon.dialects.deepgram_wire import (
    AURA_SPEEDS,
    FLUX_SPEEDS,
    DeepgramError,
    Interrupt,
    Speak,
    parse_aura,
    parse_flux,
    parse_query,
    refusal_response,
    resolve_model,
)

OURS = {"heart": "heart", "helena": "helena", "their-own": "heart"}


@pytest.mark.parametrize(
    ("model", "voice", "language"),
    [
        ("", "heart", None),
        ("helena", "helena", None),
        ("their-own", "heart", None),
        ("aura-2-helena-en", "helena", "en"),
        ("aura-asteria-en", "heart", "en"),
        ("flux-alexis-de", "heart", "de"),
        ("flux-alexis", "flux-alexis", None),
        ("aura-2-Helena-en", "aura-2-Helena-en", None),
    ],
)
def test_a_models_name_is_a_voice(model: str, voice: str, language: str | None) -> None:
    """Both frameworks send a name of Deepgram's unless told otherwise: it must connect; a name that
    is nobody's must not pass for the default."""
    assert resolve_model(model, voice_of=OURS.get, default="heart") == (voice, language)


@pytest.mark.parametrize(
    ("query", "audio_format", "sample_rate"),
    [
        ({}, "pcm", 24_000),
        ({"encoding": "linear16", "sample_rate": "44100"}, "pcm", 44_100),
        ({"encoding": "mulaw"}, "ulaw", 8_000),
        ({"encoding": "alaw", "sample_rate": "16000"}, "alaw", 16_000),
        ({"container": "none", "mip_opt_out": "true", "tag": "a", "bit_rate": "9"}, "pcm", 24_000),
    ],
)
def test_a_query_has_deepgrams_defaults(
    query: dict[str, str], audio_format: str, sample_rate: int
) -> None:
    """A telephone's client leaves the rate out and expects 8000; unknown fields harm nobody."""
    wanted = parse_query(query, voice_of=OURS.get, default_voice="heart", speeds=AURA_SPEEDS)
    assert (wanted.audio_format, wanted.sample_rate) == (audio_format, sample_rate)
    assert (wanted.voice, wanted.model, wanted.speed) == ("heart", "heart", 1.0)


def test_flux_takes_speeds_in_steps_and_aura_any() -> None:
    """0.3 / 0.05 is not 6 in floating point: the 0.05 grid must not refuse its own points."""
    for step in range(10, 31):
        assert FLUX_SPEEDS.check(step * 0.05) == step * 0.05
        assert FLUX_SPEEDS.check(round(step * 0.05, 2)) == round(step * 0.05, 2)
    with pytest.raises(DeepgramError, match="multiple"):
        FLUX_SPEEDS.check(1.02)
    assert AURA_SPEEDS.check(1.02) == 1.02
    with pytest.raises(DeepgramError, match="between"):
        AURA_SPEEDS.check(0.69)


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
