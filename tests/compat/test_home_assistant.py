"""Home Assistant itself: set up, asked for speech and refused as a user does it, through its own
HTTP and WebSocket API; a recogniser hears what it serves.

Not among the other clients: it wants a Python of its own (3.14 for 2026.11), installs a hundred
packages, some of them while it starts, and FFmpeg. HASS names the program of whoever has one:

    make test-home-assistant HASS=/srv/homeassistant/bin/hass
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import av
import pytest

from tests.compat.stage import (
    RATE,
    TEXT,
    Doors,
    check_heard,
    daemon_with_doors,
    free_port,
    native_speech,
    until_idle,
)

HASS = os.environ.get("HASS")
LONGEST_START_S = 280.0
"""The first time it installs what its integrations need."""
CONFIGURATION = """
homeassistant: {{name: Test, time_zone: UTC, unit_system: metric, latitude: 0, longitude: 0}}
http: {{server_host: 127.0.0.1, server_port: {port}}}
api:
config:
websocket_api:
onboarding:
media_source:
tts:
assist_pipeline:
"""

pytestmark = [pytest.mark.skipif(HASS is None, reason="HASS names no Home Assistant")]


class Home:
    """A Home Assistant whose only user has just come in."""

    def __init__(self, http: aiohttp.ClientSession, base: str, log: Path) -> None:
        self.base = base
        self.log = log
        self._http = http
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._num_sent = 0

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        async with self._http.post(self.base + path, json=body) as response:
            assert response.ok, await response.text()
            answer: dict[str, Any] = await response.json()
            return answer

    async def come_in(self) -> None:
        """As the page of the first start does it."""
        page = f"{self.base}/"
        user = {"client_id": page, "name": "Test", "username": "test", "password": "test"}
        grant = await self.post("/api/onboarding/users", **user, language="en")
        form = {"grant_type": "authorization_code", "code": grant["auth_code"], "client_id": page}
        async with self._http.post(f"{self.base}/auth/token", data=form) as response:
            token = (await response.json())["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"
        self._socket = await self._http.ws_connect(f"{self.base}/api/websocket")
        await self._socket.receive_json()
        await self._socket.send_json({"type": "auth", "access_token": token})
        assert (await self._socket.receive_json())["type"] == "auth_ok"

    async def ask(self, kind: str, **body: Any) -> Any:
        """A command of the WebSocket API, and its result."""
        assert self._socket is not None
        self._num_sent += 1
        await self._socket.send_json({"id": self._num_sent, "type": kind, **body})
        answer = await self._socket.receive_json()
        assert answer["success"], answer
        return answer["result"]

    async def event(self, kind: str) -> dict[str, Any]:
        """Of a pipeline that runs, the next of its kind."""
        assert self._socket is not None
        while True:
            message = (await self._socket.receive_json())["event"]
            assert message["type"] != "error", message
            if message["type"] == kind:
                data: dict[str, Any] = message["data"]
                return data

    async def fetch(self, path: str, into: Path) -> int:
        """The status."""
        async with self._http.get(self.base + path) as response:
            audio = await response.read()
        await asyncio.to_thread(into.write_bytes, audio)
        return response.status

    async def is_running(self) -> bool:
        """Whether it has set up everything."""
        async with self._http.get(f"{self.base}/api/config") as response:
            return bool((await response.json())["state"] == "RUNNING")

    async def say(self, into: Path, *, engine: str, **options: object) -> int:
        wish = {"engine_id": engine, "message": TEXT, "language": "en", "cache": False}
        made = await self.post("/api/tts_get_url", **wish, options=options)
        return await self.fetch(made["path"], into)

    async def leave(self) -> None:
        if self._socket is not None:
            await self._socket.close()


@contextlib.asynccontextmanager
async def home_assistant(folder: Path) -> AsyncIterator[Home]:
    """A fresh one, at its first start."""
    assert HASS is not None
    port = free_port()
    (folder / "configuration.yaml").write_text(CONFIGURATION.format(port=port))
    log = folder / "said.txt"
    with log.open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            *(HASS, "--config", str(folder)), stdout=said, stderr=said
        )
    try:
        async with aiohttp.ClientSession() as http:
            home = Home(http, f"http://127.0.0.1:{port}", log)
            await _until_it_answers(process, http, home)
            try:
                await home.come_in()
                while not await home.is_running():  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.2)
                yield home
            finally:
                await home.leave()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _until_it_answers(
    process: asyncio.subprocess.Process, http: aiohttp.ClientSession, home: Home
) -> None:
    async with asyncio.timeout(LONGEST_START_S):
        while process.returncode is None:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(f"{home.base}/api/onboarding") as response:
                    if response.ok:
                        return
            await asyncio.sleep(0.5)
    raise AssertionError(home.log.read_text()[-3000:])


async def set_up(home: Home, doors: Doors) -> str:
    """Add integration → Wyoming Protocol. What Home Assistant calls it."""
    flow = await home.post("/api/config/config_entries/flow", handler="wyoming")
    entry = await home.post(
        f"/api/config/config_entries/flow/{flow['flow_id']}", host="127.0.0.1", port=doors.wyoming
    )
    assert (entry["type"], entry["title"]) == ("create_entry", "chatterboxd")
    (engine,) = (await home.ask("tts/engine/list"))["providers"]
    assert engine["supported_languages"] == ["en"]
    name: str = engine["engine_id"]
    return name


def rate_of(path: Path) -> int:
    with av.open(str(path)) as container:
        return container.streams.audio[0].rate


def test_home_assistant_speaks_with_our_voice(tmp_path: Path) -> None:
    """Our other tests use its library as it does; what it does is for itself to show."""

    async def talk() -> None:
        heard = tmp_path / "heard"
        for folder in (heard, tmp_path / "config"):
            folder.mkdir()
        async with (
            daemon_with_doors(None) as (daemon, doors),
            home_assistant(tmp_path / "config") as home,
        ):
            engine = await set_up(home, doors)
            offered = await home.ask("tts/engine/voices", engine_id=engine, language="en")
            assert {"voice_id": doors.voice, "name": doors.voice} in offered["voices"]
            expected = await native_speech(daemon)

            for name, options in (
                ("plain.wav", {"preferred_format": "wav"}),
                ("voice.wav", {"preferred_format": "wav", "voice": doors.voice}),
                ("16k.wav", {"preferred_format": "wav", "preferred_sample_rate": 16_000}),
                ("usual.mp3", {}),
            ):
                assert await home.say(heard / name, engine=engine, **options) == 200
                check_heard(heard / name, expected)
            assert rate_of(heard / "plain.wav") == RATE
            assert rate_of(heard / "16k.wav") == 16_000

            await speak_by_a_pipeline(home, engine, doors, heard / "assist.mp3")
            check_heard(heard / "assist.mp3", expected)

            status = await home.say(heard / "nobody.wav", engine=engine, voice="nobody")
            assert status == 500
            assert "there is no voice 'nobody'" in home.log.read_text()
            await until_idle(daemon)

    asyncio.run(talk())


async def speak_by_a_pipeline(home: Home, engine: str, doors: Doors, into: Path) -> None:
    """What a voice assistant of the house does with an answer."""
    nothing = dict.fromkeys(
        ("stt_engine", "stt_language", "wake_word_entity", "wake_word_id"), None
    )
    pipeline = await home.ask(
        "assist_pipeline/pipeline/create",
        **nothing,
        name="Test",
        language="en",
        conversation_engine="conversation.home_assistant",
        conversation_language="en",
        tts_engine=engine,
        tts_language="en",
        tts_voice=doors.voice,
    )
    stages = {"start_stage": "tts", "end_stage": "tts"}
    await home.ask("assist_pipeline/run", **stages, input={"text": TEXT}, pipeline=pipeline["id"])
    spoken = (await home.event("tts-end"))["tts_output"]
    assert await home.fetch(spoken["url"], into) == 200
