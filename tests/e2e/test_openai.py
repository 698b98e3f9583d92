"""OpenAI's speech API over real sockets: every format, both streams, speed, lists."""

import base64
import json

import numpy as np
import pytest

from daemon.dialects.openai_wire import AUDIO_FORMATS, MODEL_NAMES, VOICE_NAMES
from daemon.formats.choice import CONTENT_TYPES
from tests.e2e.openai_api import TEXT, api, samples_of
from tests.e2e.wire import run
from tests.fakes import HeldEngine, UnhurriedEngine

PHRASE = "How are you today?"
"""Between sentences are pauses, which a model's own speed leaves as they are."""


def test_pcm_is_the_speech_that_the_native_protocol_gives() -> None:
    """The same utterance through another door must not lose its tail, nor be another one."""

    async def talk() -> None:
        async with api() as openai, openai.daemon.wire() as wire:
            heard = await wire.speak("a", TEXT, format="pcm_s16le")
            expected = np.concatenate(
                [np.frombuffer(packet.payload, dtype="<i2") for packet in heard.packets]
            )
            np.testing.assert_array_equal(samples_of(await openai.speech()), expected)
            other = await openai.speech(seed=7)
            assert len(other) > 0

    run(talk())


@pytest.mark.parametrize("name", AUDIO_FORMATS)
def test_each_format_comes_with_its_type(name: str) -> None:
    """A client picks its decoder by Content-Type; mp3 is what it gets if it asks for nothing."""

    async def talk() -> None:
        async with api() as openai:
            async with openai.post(input=TEXT, voice="alloy", response_format=name) as response:
                assert response.status == 200
                assert response.content_type == CONTENT_TYPES[name]
                data = await response.read()
            begins = {"opus": b"OggS", "flac": b"fLaC", "wav": b"RIFF"}.get(name, b"")
            assert data.startswith(begins)
            assert len(data) > 2000
            async with openai.post(input="Hi.", voice="alloy") as response:
                assert response.content_type == "audio/mpeg"

    run(talk())


def test_audio_comes_while_it_is_made() -> None:
    """A whole file at the end would be no stream; the first bytes must not wait for the last."""

    async def talk() -> None:
        engine = HeldEngine(num_steps=2)
        async with api(build=lambda: engine) as openai:
            async with openai.post(input=TEXT, voice="alloy", response_format="pcm") as response:
                first = await response.content.readany()
                made = engine.diary.num_samples
                engine.go.set()
                rest = await response.content.read()
            assert 0 < len(first) <= 2 * made
            assert len(first + rest) > 4 * made

    run(talk())


def test_events_hold_the_same_audio_and_say_when_it_is_over() -> None:
    """LiveKit asks for events; a missing `done` leaves it waiting."""

    async def talk() -> None:
        async with api() as openai:
            whole = await openai.speech()
            text = (await openai.speech(stream_format="sse")).decode()
            events = [json.loads(line[6:]) for line in text.split("\n\n") if line]
            kinds = [event["type"] for event in events]
            assert set(kinds[:-1]) == {"speech.audio.delta"}
            assert kinds[-1] == "speech.audio.done"
            audio = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
            assert audio == whole
            usage = events[-1]["usage"]
            assert usage["input_tokens"] == len(TEXT)
            assert usage["output_tokens"] == round(len(whole) / 2 / 24_000 * 25)
            assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]

    run(talk())


def test_speed_changes_the_length() -> None:
    """A client that asks for 2 and gets 1 hears no difference and files a bug."""

    async def talk() -> None:
        async with api() as openai:
            normal = len(await openai.speech())
            fast = len(await openai.speech(speed=2.0))
            assert fast == pytest.approx(normal / 2, rel=0.05)
            both = len(await openai.speech(speed=1.5, options={"speed": 2.0}, input=PHRASE))
            alone = len(await openai.speech(input=PHRASE))
            assert both == pytest.approx(alone / 3, rel=0.1), "the one is on top of the other"

    run(talk())


def test_without_the_library_the_model_speaks_faster_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another speed was refused that the model has; and what is refused must be named: it is not
    `response_format` that the client has to change."""
    monkeypatch.setattr("daemon.formats.choice._has_pyav", lambda: False)

    async def talk() -> None:
        wanted = {"input": PHRASE, "voice": "alloy", "response_format": "pcm"}
        async with api() as openai:
            normal = len(await openai.speech(input=PHRASE))
            fast = len(await openai.speech(input=PHRASE, speed=2.0))
            assert fast == pytest.approx(normal / 2, rel=0.05)
            for more, param in (
                ({"speed": 3}, "speed"),
                ({"speed": 2, "options": {"speed": 2}}, "speed"),
                ({"speed": 2, "response_format": "mp3"}, "response_format"),
            ):
                assert (await openai.refusal(400, **(wanted | more)))["param"] == param
        async with api(build=UnhurriedEngine) as openai:
            assert (await openai.refusal(400, **(wanted | {"speed": 2})))["param"] == "speed"

    run(talk())


def test_models_and_voices_are_listed() -> None:
    """User interfaces fill their menus from these, and check a model before they use it."""

    async def talk() -> None:
        async with api() as openai:
            async with openai.http.get(f"{openai.base}/models") as response:
                listed = await response.json()
            assert listed["object"] == "list"
            names = [item["id"] for item in listed["data"]]
            assert set(MODEL_NAMES) < set(names)
            for name in names:
                async with openai.http.get(f"{openai.base}/models/{name}") as response:
                    assert (await response.json())["id"] == name
            async with openai.http.get(f"{openai.base}/models/davinci") as response:
                assert response.status == 404
                assert (await response.json())["error"]["code"] == "model_not_found"
            async with openai.http.get(f"{openai.base}/audio/voices") as response:
                voices = await response.json()
            assert set(voices["aliases"]) == set(VOICE_NAMES)
            assert set(voices["aliases"].values()) <= set(voices["voices"])

    run(talk())


def test_text_without_anything_to_say_is_an_empty_file() -> None:
    """A reply of one smiley is not a failure; agents would retry it for ever."""

    async def talk() -> None:
        async with api() as openai:
            assert await openai.speech(input=" \n ") == b""
            assert len(await openai.speech(input=" \n ", response_format="wav")) == 44

    run(talk())
