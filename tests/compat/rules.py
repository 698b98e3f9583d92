"""A dialect's name in; what must hold of the daemon's answers to a recorded client of it out."""

import base64
import json
from typing import Protocol

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


def check_length(num_samples: float, text: str, samples_per_char: int) -> None:
    """Every character sounds equally long, pauses lie between sentences."""
    least = 0.9 * samples_per_char * len(text.strip())
    most = samples_per_char * len(text) + 0.6 * RATE * (text.count(". ") + 1)
    assert least <= num_samples <= most, (num_samples, least, most)


RULES: dict[str, Rule] = {"openai": openai, "wyoming": wyoming}
