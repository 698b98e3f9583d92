"""What ElevenLabs' clients are told before the upgrade, and the lists that they ask for."""

import asyncio
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect

from tests.e2e.elevenlabs import LONG, TEXT, Socket, dialled
from tests.e2e.wire import Running, run, running

TOKEN = "a-token-of-some-length"


async def asked(
    daemon: Running, path: str, **headers: str
) -> tuple[int, Any, "aiohttp.typedefs.LooseHeaders"]:
    """Status, body and headers; a socket's path is asked for an upgrade."""
    if "-input" in path:
        headers |= {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
    url = f"http://127.0.0.1:{daemon.port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        body = None if response.status == 101 else await response.json()
        return response.status, body, response.headers


SPEAK = "/v1/text-to-speech/sine/multi-stream-input?output_format=pcm_24000"


def test_tokens_come_in_a_header_of_their_own() -> None:
    """The key is what users of these clients set; without it nobody learns the voices."""

    async def talk() -> None:
        async with running(tokens=(f"app={TOKEN}",)) as daemon:
            for headers in ({}, {"xi-api-key": "wrong-wrong-wrong-wrong"}):
                for path in (SPEAK, "/v1/voices"):
                    status, body, found = await asked(daemon, path, **headers)
                    assert (status, body["detail"]["status"]) == (401, "invalid_api_key")
                    assert "WWW-Authenticate" in found
            key = {"xi-api-key": TOKEN}
            assert (await asked(daemon, "/v1/voices", **key))[0] == 200
            assert (await asked(daemon, "/v1/voices", Authorization=f"Bearer {TOKEN}"))[0] == 200
            assert (await asked(daemon, SPEAK, **key))[0] == 101
            url = f"ws://127.0.0.1:{daemon.port}{SPEAK}"
            async with connect(url, additional_headers=key) as connection:
                assert (await Socket(connection).say("c", TEXT)).num_finals == 1

    run(talk())


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/text-to-speech/nobody/multi-stream-input", 404, "voice_not_found"),
        ("/v1/text-to-speech/nobody/stream-input", 404, "voice_not_found"),
        ("/v1/voices/nobody", 404, "voice_not_found"),
        (SPEAK + "_wrong", 400, "invalid_output_format"),
        (SPEAK + "&language_code=xx", 400, "unsupported_language"),
        (SPEAK + "&seed=x", 400, "invalid_seed"),
    ],
)
def test_what_there_is_not_is_refused_before_the_upgrade(path: str, status: int, code: str) -> None:
    """In the service's own form; afterwards it would look like a broken connection."""

    async def talk() -> None:
        async with running() as daemon:
            found, body, _headers = await asked(daemon, path)
            assert (found, body["detail"]["status"]) == (status, code)
            assert body["detail"]["message"]
            assert daemon.daemon.num_sessions == 0

    run(talk())


def test_requests_with_a_body_are_told_where_to_go() -> None:
    """The SDK's `convert` is one; hung up on without a word, its user looks for a broken daemon."""

    async def talk() -> None:
        async with running() as daemon, aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{daemon.port}/v1/text-to-speech/sine"
            for body in ({"text": "Hello"}, {"text": LONG * 100}):
                async with session.post(url, json=body) as response:
                    assert (response.status, response.headers["Allow"]) == (405, "GET")
                    assert "docs/connect.md" in await response.text()
            async with dialled(daemon, output_format="pcm_24000") as wire:
                assert (await wire.say("c", TEXT)).num_finals == 1

    run(talk())


def test_a_full_daemon_says_when_to_come_again() -> None:
    """By the limit that holds for sessions of any kind."""

    async def talk() -> None:
        async with running(max_sessions=1) as daemon:
            async with dialled(daemon):
                status, body, headers = await asked(daemon, SPEAK)
                assert (status, body["detail"]["status"]) == (503, "system_busy")
                assert "Retry-After" in headers
                with pytest.raises(Exception, match="503"):
                    async with daemon.wire():
                        pass
            async with asyncio.timeout(30):
                while (await asked(daemon, SPEAK))[0] != 101:  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0.02)

    run(talk())


def test_voices_by_other_names() -> None:
    """Agents have the service's ids in their configuration; an id may stand for one of ours."""

    async def talk() -> None:
        async with running(voice_aliases=("hpp4J3VqNfWAUOO0d1Us=sine",)) as daemon:
            async with dialled(
                daemon, voice="hpp4J3VqNfWAUOO0d1Us", output_format="pcm_24000"
            ) as wire:
                assert (await wire.say("c", TEXT)).num_finals == 1
            assert (await asked(daemon, SPEAK.replace("sine", "other")))[0] == 404
        async with running(voice_aliases=("*=sine",)) as daemon:
            assert (await asked(daemon, SPEAK.replace("sine", "a%20voice")))[0] == 101

    run(talk())


def test_lists_that_clients_ask_for() -> None:
    """LiveKit needs id, name and category of each voice; the SDK asks by pages."""

    async def talk() -> None:
        async with running() as daemon:
            _status, body, _headers = await asked(daemon, "/v1/voices")
            names = [voice["voice_id"] for voice in body["voices"]]
            assert "sine" in names
            assert all({"voice_id", "name", "category"} <= set(voice) for voice in body["voices"])
            _status, body, _headers = await asked(daemon, "/v2/voices?page_size=10")
            assert (body["has_more"], body["total_count"]) == (False, len(names))
            _status, body, _headers = await asked(daemon, "/v1/models")
            assert body[0]["can_do_text_to_speech"]
            assert (await asked(daemon, "/v1/voices/sine"))[1]["name"] == "sine"

    run(talk())
