"""What real clients said, said again to a daemon with the sine engine: for machines without those
clients. The answers are checked by rules, not byte for byte.

`make record-compat` records anew.
"""

import asyncio
import json
from pathlib import Path

import pytest

from tests.compat.recording import FOLDER, KEY, Conversation, load
from tests.compat.replay import Answers, replay
from tests.compat.rules import RULES
from tests.e2e.wire import run, running
from tests.fakes import RecordingEngine

RECORDINGS = sorted(FOLDER.glob("*.jsonl"))
SAMPLES_PER_CHAR = 400
LONGEST_S = 60.0


def short_spoken() -> RecordingEngine:
    """Real time passes in a replay, as in what is replayed; so it speaks fast."""
    return RecordingEngine(samples_per_char=SAMPLES_PER_CHAR)


def is_of_a_stranger(conversation: Conversation) -> bool:
    shown = " ".join(conversation.headers.values()) + conversation.path
    return conversation.opens != "wyoming" and KEY not in shown


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_recorded_client_is_answered_as_it_expects(path: Path) -> None:
    """A change of a dialect that would break a real client must fail here, not at its users'."""
    recording = load(path)
    rule = RULES[recording.dialect]

    async def talk() -> None:
        async with running(
            build=short_spoken,
            openai_port=0,
            wyoming="tcp://127.0.0.1:0",
            tokens=(f"compat={KEY}",),
        ) as daemon:
            doors = daemon.daemon.doors
            assert doors is not None

            async def again(conversation: Conversation) -> Answers:
                return await replay(
                    conversation,
                    main=daemon.port,
                    openai=doors.openai_port,
                    wyoming=doors.wyoming_port,
                )

            answers = await asyncio.gather(*map(again, recording.conversations))
            await daemon.until(lambda: not daemon.engine.diary.busy, within_s=10)
            for found in answers:
                if is_of_a_stranger(found.conversation):
                    assert found.status in (401, 403), found.conversation
                else:
                    rule(found, samples_per_char=SAMPLES_PER_CHAR)

    run(talk(), longest_s=LONGEST_S)


def test_recordings_name_nobody_and_no_machine() -> None:
    """They are made on somebody's machine and are there for everybody."""
    assert RECORDINGS
    for path in RECORDINGS:
        text = path.read_text()
        assert "127.0.0.1" not in text, path
        assert "/home/" not in text, path
        assert "/tmp/" not in text, path
        for line in text.splitlines()[1:]:
            keys = json.loads(line).get("headers", {})
            for name in ("authorization", "x-api-key", "xi-api-key"):
                shown = keys.get(name, "").rpartition(" ")[2]
                assert shown in ("", KEY, "not-the-right-key-at-all"), path
