"""Other people's clients of ElevenLabs, Deepgram and Cartesia, unmodified but for URL and key: what
a recogniser hears from them, what they believe to have said, and what an interruption does.

They run in an environment of their own, as those of test_clients.py.
"""

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.compat.stage import (
    ENGINE,
    RATE,
    TEXT,
    Certificate,
    Outcome,
    check_heard,
    converse,
    decoded,
    needs_clients,
)
from tests.e2e.test_security import make_certificate

pytestmark = [needs_clients]

PIPECAT = ["elevenlabs", "elevenlabs-tokens", "deepgram", "flux", "cartesia", "cartesia-tokens"]
TIMED = ("elevenlabs", "cartesia")
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


@pytest.mark.parametrize("service", PIPECAT)
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
    assert outcome.num_ended("cancelled") == 1
    assert report["errors"] == []
    if service.startswith(TIMED):
        assert len(report["heard"]["words"]) == len(TEXT.split())
        said = report["cut"]["said"].split()
        expected = LONG.split()[: len(said)]
        if service.endswith("-tokens"):
            # While the model still writes, Pipecat 1.14 lets a later word pass those before it.
            said, expected = sorted(said), sorted(expected)
        assert said == expected
        check_number(len(said), sounded_s=report["sounded_s"])
    for refused in ("wrong_key", "wrong_voice"):
        assert report[refused]["audio_bytes"] == 0
        assert report[refused]["errors"], refused
    assert "401" in report["wrong_key"]["errors"][0]
    assert REASONS[service.partition("-")[0]] in " ".join(report["wrong_voice"]["errors"])


def check_number(num_words: int, *, sounded_s: float) -> None:
    """The agent believes what was heard: as many words as there was time for. Pipecat lets words
    pass by the clock, also when its loudspeaker stutters on a busy machine."""
    assert 1.5 * sounded_s - 2 <= num_words <= 4.5 * sounded_s + 2, (num_words, sounded_s)


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
        if service.startswith(TIMED):
            check_words(
                report[name]["words"], decoded(tmp_path / f"{name}.pcm").size / report[name]["rate"]
            )
    if "elevenlabs" not in service:  # its plugin lets what it has closed be spoken to its end
        assert outcome.num_ended("gone") == 1
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


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_elevenlabs_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It speaks over TLS alone: a certificate of our own, that SSL_CERT_FILE makes it trust."""
    chain, key = make_certificate(tmp_path, "own")
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    folder = tmp_path / "heard"
    folder.mkdir()
    outcome = asyncio.run(
        converse(
            *("elevenlabs_sdk.py", folder, "https://127.0.0.1:{main}", "{key}", "{voice}"),
            "{folder}",
            name="sdk_elevenlabs",
            package="elevenlabs",
            certificate=Certificate(chain, key),
        )
    )
    report = outcome.report
    check_heard(folder / "stream.pcm", outcome.expected)
    check_heard(folder / "stream.mp3", outcome.expected)
    assert report["interrupted_after"] > 0
    assert outcome.num_ended("gone") == 1
    assert report["voices"]
    for refused, status in (("key", 401), ("voice", 404)):
        assert report["errors"][refused][0] == "InvalidStatus"
        assert str(status) in report["errors"][refused][2]
