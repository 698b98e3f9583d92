"""Clips up, voices down, over real sockets; who hears clips is a program of ours that can fail."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect

from chatterboxd_client.context import DaemonError
from chatterboxd_client.session import SpeechClient
from daemon.wire.protocol import AudioEnd
from tests.e2e.owners import ANNA, BOB, client_of, studio
from tests.e2e.wire import Running, run, running
from tests.fakes import CloningSineEngine


async def say(client: SpeechClient, text: str, **settings: Any) -> int:
    """The samples that came."""
    context = await client.open(**settings)
    await context.send_text(text)
    await context.end()
    heard = sum([event.samples.size async for event in context.audio()])
    assert isinstance(context.ending, AudioEnd), context.ending
    return heard


async def clone_once_there_is_room(client: SpeechClient, name: str) -> None:
    """As a client does that is told to wait: the clip before may have its voice, not yet left."""
    while True:
        try:
            await client.clone_voice(b"a clip", name=name, consent=True)
        except DaemonError as error:
            assert error.failed.code == "too_many_uploads"  # noqa: PT017 - it may come, and passes
            await asyncio.sleep(0.01)
        else:
            return


@contextlib.asynccontextmanager
async def refused(code: str) -> AsyncIterator[None]:
    with pytest.raises(DaemonError) as caught:
        yield
    assert caught.value.failed.code == code, caught.value
    assert not caught.value.failed.final


def test_a_clip_is_uploaded_spoken_with_listed_and_deleted() -> None:
    """The whole way, with a clip of many messages, beside contexts that speak."""

    async def talk() -> None:
        async with studio() as daemon, await client_of(daemon) as client:
            assert client.begin.cloning is not None
            clip = bytes(range(256)) * 1000
            assert len(clip) > 3 * client.begin.limits.message_bytes
            states: list[str] = []
            ready, samples = await asyncio.gather(
                client.clone_voice(
                    clip,
                    name="Änne",
                    consent=True,
                    on_progress=lambda state, _ahead: states.append(state),
                ),
                say(client, "Meanwhile others speak on."),
            )
            assert samples > 0
            assert states == ["making"]
            assert (ready.name, ready.seconds) == ("Änne", len(clip) / 1000)
            assert ready.expires_in_s == 720 * 3600
            engine = daemon.engine
            assert isinstance(engine, CloningSineEngine)
            assert engine.added[ready.voice] == b"voice of " + clip
            assert await say(client, "Hello.", voice=ready.voice) > 0
            assert engine.diary.started[-1].voice == ready.voice
            (facts,) = await client.own_voices()
            assert (facts.voice, facts.name) == (ready.voice, "Änne")
            async with await client_of(daemon) as later:
                assert later.begin.voices == ("sine", "low", ready.voice)
            await client.delete_voice(ready.voice)
            assert await client.own_voices() == ()
            async with refused("unknown_voice"):
                await client.open(voice=ready.voice)
            async with refused("unknown_voice"):
                await client.delete_voice(ready.voice)
            assert not engine.added

    run(talk())


def test_a_voice_is_its_owners_in_every_dialect() -> None:
    """Another token neither sees nor speaks with it, whatever door it comes through."""

    async def talk() -> None:
        async with (
            studio(openai_port=0) as daemon,
            await client_of(daemon) as anna,
            await client_of(daemon, BOB) as bob,
            aiohttp.ClientSession() as http,
        ):
            voice = (await anna.clone_voice(b"clip", name="me", consent=True)).voice
            assert await bob.own_voices() == ()
            async with refused("unknown_voice"):
                await bob.open(voice=voice)
            async with refused("unknown_voice"):
                await bob.delete_voice(voice)
            assert daemon.daemon.doors is not None
            url = f"http://127.0.0.1:{daemon.daemon.doors.openai_port}/v1/audio"
            for token, status in ((ANNA, 200), (BOB, 400)):
                headers = {"Authorization": f"Bearer {token}"}
                body = {"model": "tts-1", "voice": voice, "input": "Hi.", "response_format": "pcm"}
                async with http.post(f"{url}/speech", headers=headers, json=body) as response:
                    assert response.status == status
                    assert len(await response.read()) > 0
                async with http.get(f"{url}/voices", headers=headers) as response:
                    listed = (await response.json())["voices"]
                    assert (voice in listed) == (token == ANNA)
                plain = f"http://127.0.0.1:{daemon.port}/voices"
                async with http.get(plain, headers=headers) as response:
                    told = await response.json()
                    assert (voice in told["voices"]) == (token == ANNA)
                    assert [item["name"] for item in told["own_voices"]] == (
                        ["me"] if token == ANNA else []
                    )

    run(talk())


def test_a_child_that_dies_costs_its_clip_alone() -> None:
    """Speech goes on, and so does the next clip."""

    async def talk() -> None:
        async with studio(clone_s=5.0) as daemon, await client_of(daemon) as client:
            speaking = asyncio.create_task(
                say(client, "All of this is heard. " * 20, max_lead_ms=60_000)
            )
            for clip, code in (
                (b"CRASH", "cloning_failed"),
                (b"HANG", "cloning_failed"),
                (b"SILENT", "clip_unfit"),
            ):
                async with refused(code):
                    await client.clone_voice(clip, name="x", consent=True)
            assert (await client.clone_voice(b"good", name="x", consent=True)).voice
            assert await speaking > 0

    run(talk())


def test_steps_go_on_while_a_voice_is_made(tmp_path: Path) -> None:
    """The child works until all of this was heard: had the engine, the event loop or another client
    to wait for it, nothing would be."""
    state = tmp_path / "state"

    async def talk() -> None:
        async with (
            studio(state_folder=state) as daemon,
            await client_of(daemon) as anna,
            await client_of(daemon, BOB) as bob,
        ):
            is_working = asyncio.Event()
            making = asyncio.create_task(
                anna.clone_voice(
                    b"WORK", name="x", consent=True, on_progress=lambda *_: is_working.set()
                )
            )
            await is_working.wait()
            for _ in range(4):
                before = daemon.engine.diary.num_steps
                assert await say(bob, "Still here.") > 0
                assert daemon.engine.diary.num_steps > before
            assert not making.done()
            (state / "work" / "enough").touch()
            assert (await making).voice

    run(talk())


def test_those_who_may_not_are_told_why(tmp_path: Path) -> None:
    """`begin` offers it to those who may, and to no others."""
    path = tmp_path / "tokens.toml"
    path.write_text(f'[anna]\ntoken = "{ANNA}"\nclone = false\n')

    async def talk() -> None:
        cases: list[tuple[dict[str, Any], str | None, str]] = [
            ({"tokens": ()}, None, "show a token"),
            ({"cloning": "nobody"}, ANNA, "takes no clips"),
            ({"tokens": (), "token_file": path}, ANNA, "this token may not"),
        ]
        for changes, token, why in cases:
            async with studio(**changes) as daemon, await client_of(daemon, token) as client:
                assert client.begin.cloning is None
                with pytest.raises(DaemonError, match=why):
                    await client.clone_voice(b"clip", name="x", consent=True)
        async with running() as daemon, await client_of(daemon, None) as client:
            with pytest.raises(DaemonError, match="the model sine cannot"):
                await client.clone_voice(b"clip", name="x", consent=True)
        async with studio() as daemon, await client_of(daemon) as client:
            async with refused("no_consent"):
                await client.clone_voice(b"clip", name="x", consent=False)
            async with refused("clip_too_large"):
                await client.clone_voice(b"x" * 20_000_001, name="x", consent=True)
            assert daemon.daemon.num_sessions == 1

    run(talk())


@pytest.mark.parametrize(("clip", "name"), [(b"", "x"), (b"clip", ""), (b"clip", "x" * 65)])
def test_a_wish_with_a_field_that_does_not_fit_is_answered(clip: bytes, name: str) -> None:
    """An error that did not name the upload let whoever made it wait for ever."""

    async def talk() -> None:
        async with studio() as daemon, await client_of(daemon) as client:
            async with refused("bad_message"):
                await client.clone_voice(clip, name=name, consent=True)
            assert (await client.clone_voice(b"clip", name="x", consent=True)).voice

    run(talk())


async def told(connection: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of a kind."""
    while True:
        body: dict[str, Any] = json.loads(await connection.recv())
        if body["type"] == kind:
            return body


@contextlib.asynccontextmanager
async def plain(daemon: Running) -> AsyncIterator[ClientConnection]:
    headers = {"Authorization": f"Bearer {ANNA}"}
    async with connect(daemon.url, additional_headers=headers, compression=None) as connection:
        await told(connection, "begin")
        yield connection


def upload(num_bytes: int, name: str = "u") -> str:
    return json.dumps(
        {"type": "voice_upload", "upload": name, "name": "x", "bytes": num_bytes, "consent": True}
    )


def test_a_clip_that_comes_too_slowly_is_given_up() -> None:
    """Whoever announces a clip and sends half of it would hold its place for ever. What was on its
    way is ignored, and the session goes on; tests/unit/test_voice_desk.py has the rest."""

    async def talk() -> None:
        async with studio(clone_s=0.3) as daemon, plain(daemon) as connection:
            await connection.send(upload(10))
            await told(connection, "voice_accepted")
            await connection.send(b"12345")
            late = await told(connection, "error")
            assert (late["code"], late["upload"]) == ("clip_late", "u")
            await connection.send(b"67890")
            await connection.send('{"type": "voice_list"}')
            assert (await told(connection, "voices"))["voices"] == []

    run(talk())


@pytest.mark.parametrize("announced", [None, 3])
def test_bytes_of_no_upload_close_their_socket_alone(announced: int | None) -> None:
    """Whoever streams audio at the daemon must be told, not stored."""

    async def talk() -> None:
        async with studio(max_uploads=1) as daemon, plain(daemon) as connection:
            if announced is not None:
                await connection.send(upload(announced))
                await told(connection, "voice_accepted")
            await connection.send(b"1234")
            await connection.wait_closed()
            assert connection.close_code == 1003
            async with await client_of(daemon) as client:
                assert (await client.clone_voice(b"clip", name="x", consent=True)).voice

    run(talk())


@pytest.mark.parametrize("num_sent", [4, 9])
def test_a_client_that_goes_leaves_a_voice_or_nothing(num_sent: int) -> None:
    """Sent whole, the clip becomes a voice nevertheless; half of it gives its place back."""

    async def talk() -> None:
        async with studio(max_uploads=1) as daemon:
            async with plain(daemon) as connection:
                await connection.send(upload(9))
                await told(connection, "voice_accepted")
                await connection.send(b"some clip"[:num_sent])
                if num_sent == 9:
                    await told(connection, "voice_progress")
                connection.transport.abort()
            engine = daemon.engine
            assert isinstance(engine, CloningSineEngine)
            await daemon.until(lambda: daemon.daemon.num_sessions == 0)
            if num_sent == 9:
                await daemon.until(lambda: bool(engine.added))
            async with await client_of(daemon) as client:
                await clone_once_there_is_room(client, "next")
                names = [facts.name for facts in await client.own_voices()]
                assert names == (["x", "next"] if num_sent == 9 else ["next"])

    run(talk())


def test_who_speaks_with_a_voice_that_is_deleted_speaks_on() -> None:
    """The rest of a text in another voice, or not at all, is worse than a voice that lives for some
    seconds more."""

    async def talk() -> None:
        async with studio() as daemon, await client_of(daemon) as client:
            engine = daemon.engine
            assert isinstance(engine, CloningSineEngine)
            voice = (await client.clone_voice(b"clip", name="x", consent=True)).voice
            context = await client.open(voice=voice)
            await context.send_text("This begins before. ")
            await client.delete_voice(voice)
            async with refused("unknown_voice"):
                await client.open(voice=voice)
            assert voice in engine.added
            await context.send_text("And ends after it was deleted.")
            await context.end()
            events = [event async for event in context.events()]
            assert isinstance(context.ending, AudioEnd)
            assert context.ending.segments == 2
            assert not [event for event in events if type(event).__name__ in ("Warned", "Failed")]
            await daemon.until(lambda: not engine.added)

    run(talk())


def test_a_restart_keeps_voices_and_an_audit_line_each(tmp_path: Path) -> None:
    """By the same token, under the same name; the log says who brought it and from where."""
    kept = {"state_folder": tmp_path / "state", "audit_file": tmp_path / "audit.jsonl"}

    async def talk() -> None:
        async with studio(**kept) as daemon, await client_of(daemon) as client:
            voice = (await client.clone_voice(b"clip", name="x", consent=True)).voice
        async with studio(**kept) as daemon, await client_of(daemon) as client:
            assert voice in client.begin.voices
            assert await say(client, "Back again.", voice=voice) > 0
            await client.delete_voice(voice)

    run(talk())
    uploaded, deleted = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    assert (uploaded["event"], deleted["event"]) == ("voice_uploaded", "voice_deleted")
    assert (uploaded["token"], uploaded["peer"], uploaded["consent"]) == ("anna", "127.0.0.1", True)
    assert not list((tmp_path / "state").rglob("*.safetensors"))


def test_a_draining_daemon_takes_no_clips() -> None:
    """It would be lost with the process."""

    async def talk() -> None:
        async with studio() as daemon, await client_of(daemon) as client:
            context = await client.open()  # keeps the session alive
            daemon.daemon.stop()
            async with refused("draining"):
                await client.clone_voice(b"clip", name="x", consent=True)
            await context.cancel()

    run(talk())


def test_a_stop_in_the_middle_of_a_clip_ends_the_child() -> None:
    """A stop must not wait for a stranger's clip, and must leave no process behind."""

    async def talk() -> None:
        async with studio(grace_s=0.2) as daemon, plain(daemon) as connection:
            await connection.send(upload(4))
            await told(connection, "voice_accepted")
            await connection.send(b"HANG")
            await told(connection, "voice_progress")
            daemon.daemon.stop()
            await connection.wait_closed()
            assert connection.close_code == 1001
            assert await daemon.task == 0

    run(talk())
