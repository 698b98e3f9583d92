"""Other people's clients of OpenAI's speech API and of Wyoming, unmodified but for URL and key, and
what a recogniser hears from them.

They run in an environment of their own (`make test-compat` makes it and names its interpreter in
CLIENTS_PYTHON); without it these tests are skipped, as in `make check`.
"""

import asyncio
from pathlib import Path

from tests.compat.stage import ENGINE, check_heard, converse, needs_clients

pytestmark = [needs_clients]


def test_the_openai_package(tmp_path: Path) -> None:
    """Everybody's first try: sync, async, streaming, every format, and errors by their class."""
    outcome = asyncio.run(
        converse(
            *("openai_sdk.py", tmp_path, "http://127.0.0.1:{openai}/v1", "{key}", "{folder}"),
            name="openai_openai",
            package="openai",
        )
    )
    report = outcome.report
    files = sorted(tmp_path.iterdir())
    assert len(files) == 8
    for path in files:
        check_heard(path, outcome.expected)
    assert report["num_pieces"] > 1
    assert "tts-1" in report["models"]
    assert report["errors"]["token"] == ["AuthenticationError", "invalid_api_key", None, 401]
    assert report["errors"]["voice"] == ["BadRequestError", "unknown_voice", "voice", 400]
    assert outcome.num_ended("gone") == 1


def test_pipecats_openai_service(tmp_path: Path) -> None:
    """A voice agent's pipeline: audio, its end, an interruption in mid-speech, a wrong key."""
    outcome = asyncio.run(
        converse(
            *("pipecat_pipeline.py", tmp_path, "openai", "127.0.0.1:{openai}"),
            *("{key}", "alloy", "{folder}"),
            name="pipecat_openai",
            package="pipecat-ai",
        )
    )
    report = outcome.report
    for name in ("heard", "after"):
        # A request for each sentence: there is no pause between them.
        check_heard(tmp_path / f"{name}.pcm", outcome.expected, slack_s=0.5)
        assert report[name]["kinds"] == ["TTSStartedFrame", "TTSStoppedFrame"]
    assert report["cut_s"] < 4, "the whole text is a minute"
    # The sine engine may have said all of a sentence before its listener is interrupted.
    assert outcome.num_ended("gone") == 1 or ENGINE == "sine"
    assert report["errors"] == []
    assert report["wrong_key"]["audio_bytes"] == 0
    error = report["wrong_key"]["errors"][0]
    assert "401" in error or "API key" in error


def test_livekits_openai_plugin(tmp_path: Path) -> None:
    """LiveKit asks for events, and decodes what the Content-Type says."""
    outcome = asyncio.run(
        converse(
            *("livekit_plugin.py", tmp_path, "http://127.0.0.1:{openai}/v1", "{key}", "{folder}"),
            name="livekit_openai",
            package="livekit-plugins-openai",
        )
    )
    report = outcome.report
    for name in ("events", "events_mp3", "audio", "audio_opus"):
        assert report[name], "the last event is final"
        check_heard(tmp_path / f"{name}.pcm", outcome.expected)
    assert report["interrupted_after"] > 0
    assert outcome.num_ended("gone") == 1
    assert report["error"] == 401


def test_the_wyoming_client(tmp_path: Path) -> None:
    """Home Assistant's own library, used as Home Assistant uses it, and wyoming-bench."""
    outcome = asyncio.run(
        converse(
            *("wyoming_client.py", tmp_path, "{wyoming}", "{key}", "{folder}"),
            name="wyoming_wyoming",
            package="wyoming",
        )
    )
    report = outcome.report
    for path in sorted(tmp_path.glob("*.pcm")):
        check_heard(path, outcome.expected)
    assert len(list(tmp_path.glob("*.pcm"))) == 2
    assert report["bench"] == {"streaming": True, "non_streaming": True}
    assert outcome.num_ended("gone") == 1
    assert report["error"] == "unknown_voice"
