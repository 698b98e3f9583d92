"""OpenAI's speech API of a daemon in this process: requests in, bodies and errors out."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np

from tests.e2e.wire import Running, running

TEXT = "Hello there. How are you today?"


@dataclass(slots=True)
class Api:
    daemon: Running
    http: aiohttp.ClientSession

    @property
    def port(self) -> int:
        doors = self.daemon.daemon.doors
        assert doors is not None
        assert doors.openai_port is not None
        return doors.openai_port

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def until_nobody_is_there(self) -> None:
        """Every place was given back."""
        page = self.daemon.daemon.metrics.page
        await self.daemon.until(lambda: b"\nchatterboxd_sessions 0.0" in page())

    def post(self, **body: object) -> "aiohttp.client._RequestContextManager":
        return self.http.post(f"{self.base}/audio/speech", json=body)

    async def speech(self, **body: object) -> bytes:
        wanted = {"model": "tts-1", "voice": "alloy", "input": TEXT, "response_format": "pcm"}
        async with self.post(**(wanted | body)) as response:
            assert response.status == 200, await response.text()
            return await response.read()

    async def refusal(self, status: int, **body: object) -> dict[str, Any]:
        async with self.post(**body) as response:
            answer = await response.json()
            assert response.status == status, answer
            error: dict[str, Any] = answer["error"]
            assert set(error) == {"message", "type", "param", "code"}
            return error


@contextlib.asynccontextmanager
async def api(token: str | None = None, **changes: Any) -> AsyncIterator[Api]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        running(openai_port=0, **changes) as daemon,
        aiohttp.ClientSession(headers=headers) as http,
    ):
        yield Api(daemon, http)


async def all_of(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """What came, and whether the body was ended as it should be."""
    received = b""
    try:
        while data := await response.content.readany():
            received += data
    except aiohttp.ClientPayloadError:
        return received, False
    return received, True


def samples_of(data: bytes) -> "np.ndarray[Any, np.dtype[np.int16]]":
    return np.frombuffer(data, dtype="<i2")
