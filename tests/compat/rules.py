"""A dialect's name in; what must hold of the daemon's answers to a recorded client of it out."""

import base64
import json
from collections import Counter
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.compat.replay import Answers, Said

RATE = 24_000


class Rule(Protocol):
    def __call__(self, answers: Answers, *, samples_per_char: int) -> None: ...


def openai(answers: Answers, *, samples_per_char: int) -> None:
    """Status and type; raw audio is as long as the text; what was not interrupted is whole."""
    conversation = answers.conversation
    if conversation.path == "/v1/models":
        assert answers.status == 200
        assert {"id", "object"} <= json.loads(answers.audio)["data"][0].keys()
        return
    wanted = json.loads(conversation.steps[0].sends or "")
    if wanted["voice"] == "nobody":
        error = json.loads(answers.audio)["error"]
        assert (answers.status, error["param"]) == (400, "voice")
        return
    assert answers.status == 200
    assert answers.audio
    if "end" not in conversation.steps[-1].after:
        return
    assert answers.is_whole
    audio = answers.audio
    if wanted.get("stream_format") == "sse":
        assert answers.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line[6:]) for line in audio.decode().splitlines() if line]
        assert events[-1]["type"] == "speech.audio.done"
        audio = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    if wanted.get("response_format") == "pcm":
        check_length(len(audio) / 2, wanted["input"], samples_per_char)


def wyoming(answers: Answers, *, samples_per_char: int) -> None:
    """One start, chunks, one stop a speech; streams say so when they are over."""
    headers = [json.loads(message) for message in answers.came if isinstance(message, str)]
    kinds = [header["type"] for header in headers]
    asked = [json.loads(item.text) for item in answers.happened if isinstance(item, Said)]
    if any(event["data"].get("voice") for event in asked):
        assert kinds == ["error"]
        return
    num_streams = sum(event["type"] == "synthesize-start" for event in asked)
    texts = [event["data"]["text"] for event in asked if event["type"] == "synthesize-chunk"]
    whole = [event["data"]["text"] for event in asked if event["type"] == "synthesize"]
    texts += whole[num_streams:] if texts and whole else whole
    if "audio-stop" not in answers.conversation.steps[-1].after:
        assert "audio-chunk" in kinds
        return
    assert kinds.count("audio-start") == kinds.count("audio-stop")
    assert kinds.count("synthesize-stopped") == num_streams
    if num_streams:
        stop = kinds.index("audio-stop")
        assert kinds[stop + 1] == "synthesize-stopped"
    check_length(len(answers.audio) / 2, "".join(texts), samples_per_char)


def deepgram(answers: Answers, *, samples_per_char: int) -> None:
    """`Flushed` comes behind the last byte of what was flushed; after `Cleared` there is none."""
    if not is_welcome(answers):
        return
    said, flushed, audio, may_sound, num_turns = "", list[str](), b"", True, 0
    for item in answers.happened:
        if isinstance(item, Said):
            message = json.loads(item.text)
            match message["type"]:
                case "Speak":
                    said += message["text"]
                    may_sound = True
                case "Flush":
                    flushed.append(said)
                    said = ""
                case "Clear":
                    said, flushed = "", []
        elif isinstance(item.message, bytes):
            assert may_sound, "it was cleared"
            audio += item.message
        else:
            match json.loads(item.message)["type"]:
                case "Flushed":
                    check_length(len(audio) / 2, flushed.pop(0), samples_per_char)
                    audio = b""
                    num_turns += 1
                case "Cleared":
                    audio, may_sound = b"", bool(said or flushed)
                case kind:
                    assert kind == "Metadata", kind
    assert num_turns >= answers.conversation.steps[-1].after.get("Flushed", 0)


def flux(answers: Answers, *, samples_per_char: int) -> None:
    """All and only a turn's audio is between `SpeechStarted` and `SpeechMetadata`."""
    if not is_welcome(answers):
        return
    said, audio, is_speaking, num_turns = "", b"", False, 0
    for item in answers.happened:
        if isinstance(item, Said):
            message = json.loads(item.text)
            said += message.get("text", "")
        elif isinstance(item.message, bytes):
            assert is_speaking
            audio += item.message
        else:
            message = json.loads(item.message)
            match message["type"]:
                case "SpeechStarted":
                    assert not is_speaking
                    audio, is_speaking = b"", True
                case "SpeechMetadata":
                    assert message["audio_duration_ms"] == pytest.approx(
                        1000 * len(audio) / 2 / RATE, abs=1
                    )
                    check_length(len(audio) / 2, said, samples_per_char)
                    said, is_speaking = "", False
                    num_turns += 1
                case "SpeechInterrupted":
                    said, is_speaking = "", False
                case kind:
                    assert kind in ("Connected", "Flushed", "Warning", "SessionMetadata"), kind
    assert num_turns == answers.conversation.steps[-1].after.get("SpeechMetadata", 0)


def cartesia(answers: Answers, *, samples_per_char: int) -> None:
    """Every message names its context; `done` comes once and last, unless it was cancelled."""
    texts: dict[str, str] = {}
    cancelled: set[str] = set()
    audio: dict[str, bytes] = {}
    words: dict[str, list[str]] = {}
    done: set[str] = set()
    for item in answers.happened:
        raw = item.text if isinstance(item, Said) else item.message
        message = json.loads(raw)
        name = message["context_id"]
        if isinstance(item, Said):
            if message.get("voice", {}).get("id") == "nobody":
                errors = [json.loads(answer) for answer in answers.came]
                assert errors[0]["type"] == "error"
                assert not errors[0]["done"], "LiveKit takes that for a normal end"
                assert errors[-1]["done"]
                assert {error["context_id"] for error in errors} == {name}
                return
            texts[name] = texts.get(name, "") + message.get("transcript", "")
            if message.get("cancel"):
                cancelled.add(name)
            continue
        assert name not in done, message
        match message["type"]:
            case "chunk":
                audio[name] = audio.get(name, b"") + base64.b64decode(message["data"])
            case "timestamps":
                timed = message["word_timestamps"]
                assert len(timed["words"]) == len(timed["start"]) == len(timed["end"])
                words.setdefault(name, []).extend(timed["words"])
            case "done":
                done.add(name)
            case kind:
                assert kind == "flush_done", kind
    for name in done - cancelled:
        check_length(len(audio[name]) / 2, texts[name], samples_per_char)
        assert without_spaces(" ".join(words[name])) == without_spaces(texts[name])
    assert len(done) >= answers.conversation.steps[-1].after.get("done", 0)


def elevenlabs(answers: Answers, *, samples_per_char: int) -> None:
    """`isFinal` comes once and last of a context; the characters cover the audio and the text."""
    conversation = answers.conversation
    if conversation.opens == "http":
        voices = json.loads(answers.audio)["voices"]
        assert {"voice_id", "name", "category"} <= voices[0].keys()
        return
    if "/nobody/" in conversation.path:
        assert answers.status == 404
        return
    audio_format = dict(parse_qsl(urlsplit(conversation.path).query))["output_format"]
    texts: dict[str | None, str] = {}
    heard: dict[str | None, list[dict[str, Any]]] = {}
    final: set[str | None] = set()
    num_closes = Counter[str | None]()
    for item in answers.happened:
        if isinstance(item, Said):
            said = json.loads(item.text)
            name = said.get("context_id")
            num_closes[name] += bool(said.get("close_context"))
            texts[name] = texts.get(name, "") + (said.get("text") or "")
            continue
        message = json.loads(item.message)
        name = message.get("contextId")
        assert name not in final, message
        if message.get("isFinal"):
            assert not message.get("audio"), "clients do not listen to it any more"
            final.add(name)
        else:
            assert message["audio"], message
            heard.setdefault(name, []).append(message)
    for name in final:
        text = texts[name]
        if num_closes[name] > 1:  # it was cut
            tables = [part["alignment"] for part in heard[name] if part["alignment"]]
            chars = "".join(char for table in tables for char in table["chars"])
            assert without_spaces(text).startswith(without_spaces(chars))
            assert len(chars) < len(text)
        else:
            check_alignment(text, heard.get(name, []), audio_format, samples_per_char)
    assert len(final) >= conversation.steps[-1].after.get("final", 0)


def check_alignment(
    text: str, messages: list[dict[str, Any]], audio_format: str, samples_per_char: int
) -> None:
    """The characters last as long as the sound since those before, and together are the text."""
    chars = ""
    codec, rate = audio_format.split("_")[:2]
    num_samples = 0.0
    lasts_ms = 0.0
    for message in messages:
        if codec == "pcm":
            num_bytes = len(base64.b64decode(message["audio"]))
            num_samples += num_bytes / 2
            lasts_ms += 1000 * num_bytes / 2 / int(rate)
        aligned = message["alignment"]
        if aligned is None:  # a pause
            continue
        chars += "".join(aligned["chars"])
        starts, lengths = aligned["charStartTimesMs"], aligned["charDurationsMs"]
        assert len(aligned["chars"]) == len(starts) == len(lengths)
        assert starts == sorted(starts)
        if codec == "pcm":
            assert starts[-1] + lengths[-1] == pytest.approx(lasts_ms, abs=2)
            lasts_ms = 0.0
    assert lasts_ms <= 2, "sound behind the last character"
    assert without_spaces(chars) == without_spaces(text)
    if codec == "pcm":
        check_length(num_samples * RATE / int(rate), text, samples_per_char)


def without_spaces(text: str) -> str:
    """Pipecat's sentences come without one between them."""
    return "".join(text.split())


def is_welcome(answers: Answers) -> bool:
    """Who asks for a voice that there is not is told so before the upgrade."""
    if "nobody" in answers.conversation.path:
        assert answers.status == 400
        assert "nobody" in answers.headers["dg-error"]
        return False
    assert answers.status == 101
    return True


def check_length(num_samples: float, text: str, samples_per_char: int) -> None:
    """Every character sounds equally long, pauses lie between sentences."""
    least = 0.9 * samples_per_char * len(text.strip())
    most = samples_per_char * len(text) + 0.6 * RATE * (text.count(". ") + 1)
    assert least <= num_samples <= most, (num_samples, least, most)


RULES: dict[str, Rule] = {
    "openai": openai,
    "wyoming": wyoming,
    "deepgram": deepgram,
    "flux": flux,
    "cartesia": cartesia,
    "elevenlabs": elevenlabs,
    "elevenlabs-mp3": elevenlabs,
    "elevenlabs-tokens": elevenlabs,
    "cartesia-tokens": cartesia,
}
