"""Cartesia's messages: what is spoken, by whom, and how times and errors are written."""

import json
import random
from typing import Any

import pytest

from daemon.dialects.cartesia_wire import (
    Cancel,
    CartesiaError,
    Generate,
    Shelf,
    error_message,
    of_wire_error,
    parse_request,
    timestamps,
)
from daemon.speaking.outputs import TimedWord
from daemon.wire.errors import Busy, UnknownVoice

SHELF = Shelf(
    voice_of={"heart": "heart", "theirs": "heart"}.get,
    default_voice="default",
    languages=("en", "pt-br"),
)
SOUND = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 16_000}


def generate(**fields: Any) -> Generate:
    body = {"context_id": "a", "transcript": "Hi.", "output_format": SOUND}
    request = parse_request(json.dumps(body | fields), SHELF)
    assert isinstance(request, Generate)
    return request


def test_what_is_left_out_has_cartesias_defaults() -> None:
    """A message without `continue` is the whole text; who waited for more would wait for ever."""
    request = generate()
    assert not request.is_continued
    assert not request.is_flush
    assert not request.has_timestamps
    assert request.max_buffer_delay_ms == 3000
    wish = request.wish
    assert (wish.voice, wish.language, wish.speed, wish.volume) == ("default", None, 1.0, 1.0)
    assert (wish.audio_format, wish.sample_rate) == ("pcm", 16_000)


@pytest.mark.parametrize(
    ("voice", "ours"),
    [
        ("heart", "heart"),
        ({"mode": "id", "id": "theirs"}, "heart"),
        ({"id": "heart", "__experimental_controls": {"speed": "fast"}}, "heart"),
        ({"mode": "id", "id": "f786b574-daa5-4673-aa0c-cbe3e8534c02"}, "default"),
        ({"mode": "embedding", "embedding": [0.5, 1.0]}, "default"),
        ({"mode": "id", "id": "nobody"}, "nobody"),
        (None, "default"),
    ],
)
def test_a_voice_is_ours_or_stands_for_one(voice: object, ours: str) -> None:
    """Both plugins name a voice of Cartesia's unless told otherwise; a mistyped name of ours must
    not pass for it."""
    assert generate(voice=voice).wish.voice == ours


@pytest.mark.parametrize(
    ("language", "ours"),
    [("en", "en"), ("en-US", "en"), ("pt-br", "pt-br"), ("de", "de"), (None, None)],
)
def test_a_region_is_its_language(language: str | None, ours: str | None) -> None:
    """Pipecat sends `en-US` where that is what the user chose; it is no other language."""
    assert generate(language=language).wish.language == ours


def test_a_cancel_needs_nothing_but_its_name() -> None:
    """Interruption must not fail for a field that only speaking needs."""
    assert parse_request('{"context_id": "a", "cancel": true}', SHELF) == Cancel("a")


def test_times_are_seconds_of_the_audio_that_is_sent() -> None:
    """Milliseconds or our own speed would put the highlighted word somewhere else."""
    word = TimedWord(text="Hi.", start=0, end=3, start_sample=12_000, end_sample=24_000)
    message = timestamps("a", [word, word], flush_id=1, tempo=2.0)
    assert message["word_timestamps"] == {
        "words": ["Hi.", "Hi."],
        "start": [0.25, 0.25],
        "end": [0.5, 0.5],
    }


def test_errors_say_what_to_do_only_where_we_know_it() -> None:
    """Our hints speak of our own protocol; `try again` is good advice in any."""
    busy = of_wire_error(Busy("no slot"), context="a")
    assert (busy.status, busy.message) == (503, f"no slot. {Busy.hint}")
    unknown = of_wire_error(UnknownVoice("there is no voice 'x'"), context="a")
    assert (unknown.status, unknown.message) == (404, "there is no voice 'x'")
    message = error_message(unknown)
    assert message["context_id"] == "a"
    assert message["done"] is False


def test_any_json_is_a_request_or_an_error() -> None:
    """An exception of another kind would end the connection as a bug of ours."""
    random_ = random.Random(5)
    values: list[Any] = [None, True, -1, 2**70, 1e308, "", "a", "\ud800", [], {}, ["a"], SOUND]
    names = ["context_id", "transcript", "voice", "output_format", "language", "continue", "flush"]
    names += ["cancel", "max_buffer_delay_ms", "generation_config", "add_timestamps"]
    num_errors = 0
    for _ in range(5000):
        body: dict[str, Any] = {"transcript": "Hi.", "output_format": SOUND}
        for _ in range(random_.randrange(4)):
            body[random_.choice(names)] = random_.choice(values)
        if random_.random() < 0.3:
            body["output_format"] = dict(SOUND) | {
                random_.choice(list(SOUND)): random_.choice(values)
            }
        if random_.random() < 0.3:
            body["generation_config"] = {
                random_.choice(["speed", "volume"]): random_.choice(values)
            }
        if random_.random() < 0.3:
            body["voice"] = {random_.choice(["id", "embedding", "mode"]): random_.choice(values)}
        try:
            parse_request(json.dumps(body), SHELF)
        except CartesiaError:
            num_errors += 1
    assert 1000 < num_errors < 4500
