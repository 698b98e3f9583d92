"""Many at once: a drain that keeps its promise, a full daemon that says so, both as processes."""

import asyncio
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from daemon.wire.protocol import AudioMessage
from tests.e2e.processes import FAST, daemon_process
from tests.e2e.test_security import get
from tests.e2e.wire import Heard, Wire

NUM_SPEAKERS = 50
LONGEST_S = 90.0
Result = TypeVar("Result")
TEXT = "Hello there, dear friend. All work and no play makes Jack a dull boy."


async def bounded(work: Coroutine[Any, Any, Result]) -> Result:
    async with asyncio.timeout(LONGEST_S):
        return await work


async def speak_through_a_drain(
    url: str, *, is_speaking: asyncio.Event
) -> tuple[Heard, int | None]:
    async with connect(url, compression=None, proxy=None, open_timeout=30) as connection:
        wire = Wire(connection)
        await wire.say("a", TEXT, max_lead_ms=1_000)
        await wire.receive_until(AudioMessage)
        is_speaking.set()
        heard = await wire.hear("a")
        return heard, await wire.close_code()


def test_a_drain_with_fifty_speakers(tmp_path: Path) -> None:
    """Every one is heard to the end, every new one refused, and the process is gone in time."""
    arguments = ("--slots", "16", "--grace-s", "30", "--max-wait-ms", "20000")
    with daemon_process(tmp_path, *arguments, whole_command=FAST) as daemon:

        async def talk() -> float:
            events = [asyncio.Event() for _ in range(NUM_SPEAKERS)]
            speakers = [
                asyncio.create_task(speak_through_a_drain(daemon.url, is_speaking=event))
                for event in events
            ]
            await asyncio.gather(*(event.wait() for event in events))
            daemon.process.send_signal(signal.SIGTERM)
            signalled_s = time.monotonic()
            status, body = await get(daemon.port, "/readyz")
            assert (status, body) == (503, "draining\n")
            with pytest.raises(InvalidStatus) as refused:
                await connect(daemon.url, proxy=None)
            assert refused.value.response.status_code == 503
            for heard, close_code in await asyncio.gather(*speakers):
                assert heard.samples().size == heard.end.samples
                assert heard.end.text_chars == len(TEXT)
                assert close_code == 1001
            return time.monotonic() - signalled_s

        took_s = uvloop.run(bounded(talk()), debug=False)
        assert daemon.finish()[0] == 0
        assert took_s < 30


def test_a_full_daemon_answers_a_rush_and_keeps_speaking(tmp_path: Path) -> None:
    """Five hundred who are refused must cost those who were let in nothing that they can hear."""
    arguments = ("--max-sessions", "4", "--retry-after-s", "3")
    with daemon_process(tmp_path, *arguments, whole_command=FAST) as daemon:

        async def refused() -> None:
            with pytest.raises(InvalidStatus) as error:
                await connect(daemon.url, proxy=None)
            assert error.value.response.status_code == 503
            assert error.value.response.headers["Retry-After"] == "3"

        async def talk() -> None:
            events = [asyncio.Event() for _ in range(4)]
            speakers = [
                asyncio.create_task(speak_through_a_drain(daemon.url, is_speaking=event))
                for event in events
            ]
            await asyncio.gather(*(event.wait() for event in events))
            for _ in range(10):
                await asyncio.gather(*(refused() for _ in range(50)))
            page = (await get(daemon.port, "/metrics"))[1]
            assert 'chatterboxd_refusals_total{reason="full"} 500.0' in page
            daemon.process.send_signal(signal.SIGTERM)
            for heard, _ in await asyncio.gather(*speakers):
                assert heard.samples().size == heard.end.samples

        uvloop.run(bounded(talk()), debug=False)
        assert daemon.finish()[0] == 0
