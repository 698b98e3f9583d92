"""A daemon that makes voices for two tokens, and the client of one of them."""

import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

from chatterboxd_client.session import SpeechClient
from tests.e2e.wire import Running, running
from tests.fakes import CloningSineEngine

COMMAND = (sys.executable, "-m", "tests.fake_listener")
ANNA, BOB = "anna's token, quite long", "bob's token, quite long"
TOKENS = (f"anna={ANNA}", f"bob={BOB}")


@contextlib.asynccontextmanager
async def studio(**changes: Any) -> AsyncIterator[Running]:
    """A daemon that makes voices for two tokens."""
    engine = changes.pop("build", CloningSineEngine)
    changes = {"tokens": TOKENS} | changes
    async with running(build=engine, clone_command=COMMAND, **changes) as daemon:
        yield daemon


async def client_of(daemon: Running, token: str | None = ANNA) -> SpeechClient:
    return await SpeechClient.connect(daemon.url, token=token)
