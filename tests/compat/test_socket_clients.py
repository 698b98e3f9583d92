"""Other people's clients of ElevenLabs, Deepgram and Cartesia, unmodified but for URL and key: what
a recogniser hears from them, what they believe to have said, and what an interruption does.

They run in an environment of their own, as those of test_clients.py.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.compat.stage import (
    ENGINE,
    RATE,
    TEXT,
    Outcome,
    check_heard,
    converse,
    decoded,
    needs_clients,
)

pytestmark = [needs_clients]

TIMED = {"elevenlabs", "cartesia"}
"""Their clients learn from the daemon which words were heard when."""
REASONS = {"elevenlabs": "404", "deepgram": "nobody", "flux": "nobody", "cartesia": "nobody"}
"""What each shows of a refusal because of a voice that there is not."""
LONG = "This is one more sentence that nobody will hear to its end. " * 12


def pipecat(service: str, folder: Path) -> Outcome:
    return asyncio.run(
        converse(
            *("pipecat_pipeline.py", folder, service, "127.0.0.1:{main}"),
            *("{key}", "{voice}", "{folder}"),
            name=f"pipecat_{service}",
            package="pipecat-ai",
        )
    )


@pytest.mark.parametrize("service", ["elevenlabs", "deepgram", "flux", "cartesia"])
def test_pipecats_services(service: str, tmp_path: Path) -> None:
    """A voice agent: heard whole, interrupted, and after that heard whole again on the same socket;
    what it believes to have said; and that it learns why it is refused."""
    outcome = pipecat(service, tmp_path)
    report = outcome.report
    for name in ("heard", "after"):
        check_heard(tmp_path / f"{name}.pcm", outcome.expected)
        assert report[name]["kinds"] == ["TTSStartedFrame", "TTSStoppedFrame"], name
        assert report[name]["said"].split() == TEXT.split(), name
    assert report["cut_s"] < 4, "the whole text is a minute"
    assert report["errors"] == []
    if service in TIMED:
        assert len(report["heard"]["words"]) == len(TEXT.split())
        check_cut(report["cut"], heard_s=report["cut_s"])
    for refused in ("wrong_key", "wrong_voice"):
        assert report[refused]["audio_bytes"] == 0
        assert report[refused]["errors"], refused
    assert "401" in report["wrong_key"]["errors"][0]
    assert REASONS[service] in " ".join(report["wrong_voice"]["errors"])


def check_cut(cut: dict[str, Any], *, heard_s: float) -> None:
    """The agent believes what was heard: as many words as the sound has time for."""
    said = cut["said"].split()
    assert said == LONG.split()[: len(said)]
    words_a_s = 1.5, 4.5
    assert words_a_s[0] * heard_s - 2 <= len(said) <= words_a_s[1] * heard_s + 2, (said, heard_s)


def livekit(service: str, folder: Path) -> Outcome:
    return asyncio.run(
        converse(
            *("livekit_streams.py", folder, service, "127.0.0.1:{main}"),
            *("{key}", "{voice}", "{folder}"),
            name=f"livekit_{service}",
            package=f"livekit-plugins-{PLUGINS[service]}",
        )
    )


PLUGINS = {
    "elevenlabs": "elevenlabs",
    "elevenlabs-mp3": "elevenlabs",
    "deepgram": "deepgram",
    "flux": "deepgram",
    "cartesia": "cartesia",
}


@pytest.mark.parametrize("service", PLUGINS)
def test_livekits_plugins(service: str, tmp_path: Path) -> None:
    """An agent session's streams: heard whole, left in mid-speech, heard whole again; the words of
    its transcript with their times; the status that it is refused with."""
    outcome = livekit(service, tmp_path)
    report = outcome.report
    for name in ("heard", "after"):
        assert report[name]["is_final"], name
        assert report[name]["rate"] == (22_050 if service == "elevenlabs-mp3" else RATE)
        if report[name]["rate"] == RATE:
            check_heard(tmp_path / f"{name}.pcm", outcome.expected)
        if service in TIMED:
            check_words(report[name]["words"], decoded(tmp_path / f"{name}.pcm").size / RATE)
    assert report["wrong_key"]["status"] == 401
    assert report["wrong_voice"]["message"] != "audio came"
    if "elevenlabs" in service:
        assert report["voices"]


def check_words(words: list[tuple[str, float, float]], duration_s: float) -> None:
    """All of the text, in order, inside its sound."""
    assert "".join(word for word, _start, _end in words).split() == TEXT.split()
    starts = [start for _word, start, _end in words]
    assert starts == sorted(starts)
    assert words[-1][2] <= duration_s + 0.1
    if ENGINE != "sine":
        assert words[-1][2] >= 0.5 * duration_s
