"""Home Assistant's protocol when something is wrong: errors, nonsense, who goes away, a stop."""

import asyncio
import contextlib
import json
import os
import signal
import socket
from dataclasses import replace

import pytest
from wyoming.error import Error
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

from chatterboxd_client.spawn import own_daemon
from daemon.config import ConfigError
from daemon.dialects.doors import bound_doors
from tests.e2e.home import STREAM, TEXT, answer, home, send
from tests.e2e.slow import free_port, narrow_plug, read_slowly
from tests.e2e.wire import CONFIG, run
from tests.fakes import FragileEngine, HeldEngine, RecordingEngine

_TCP_REPAIR = 19
"""Of linux/tcp.h: a socket closed in this state tells its peer nothing."""


def test_a_client_that_goes_away_frees_its_slot() -> None:
    """The protocol has no other interruption than a connection that is closed."""

    async def talk() -> None:
        def slow() -> RecordingEngine:
            return RecordingEngine(samples_per_step=2400, cost_s=0.02)

        async with home(build=slow) as daemon:
            diary = daemon.daemon.engine.diary
            async with daemon.client() as client:
                await send(client, SynthesizeStart(), SynthesizeChunk(text="On and on. " * 50))
                await answer(client, "audio-chunk")
                assert diary.busy
            await daemon.daemon.until(lambda: not diary.busy)
            num_steps = diary.num_steps
            await asyncio.sleep(0.2)
            assert diary.num_steps <= num_steps + 1
            assert b'outcome="gone"' in daemon.daemon.daemon.metrics.page()
            await daemon.until_nobody_is_there()

    run(talk())


def test_errors_are_told_and_end_the_connection() -> None:
    """Home Assistant overlooks an error event, but not the end of the connection."""

    async def talk() -> None:
        async with home(build=FragileEngine) as daemon, daemon.client() as client:
            await send(client, Synthesize(text="FAIL"))
            assert (await answer(client, "audio-stop")).kinds == ["error"]
        async with home(max_sessions=1) as daemon, daemon.daemon.wire(), daemon.client() as client:
            event = await client.read_event()
            assert event is not None
            assert Error.from_event(event).code == "full"
            assert await client.read_event() is None
        async with home(max_text_chars=20) as daemon, daemon.client() as client:
            await send(client, Synthesize(text="much too long for this daemon"))
            event = await client.read_event()
            assert event is not None
            assert Error.from_event(event).code == "text_too_long"

    run(talk())


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"[]\n",
        b"{}\n",
        b'{"type": 5}\n',
        b'{"type": "synthesize"}\n',
        b'{"type": "synthesize", "data": {"text": 5}}\n',
        b'{"type": "synthesize", "data": {"text": "\\ud800"}}\n',
        b'{"type": "synthesize", "data": {"text": "a", "voice": 5}}\n',
        b'{"type": "synthesize", "data": []}\n',
        b'{"type": "synthesize", "data_length": 100000000000}\n{',
        b'{"type": "x", "payload_length": 100000000000}\n{',
        b'{"type": "x", "payload_length": "many"}\n{',
        b'{"type": "synthesize-start"}\n{"type": "synthesize-start"}\n',
        b'{"type": "ping", "data": {"text": "\\ud800"}}\n',
        b'{"type": "x", "data": ' + b"[" * 20_000 + b"\n",
        b"x" * 200_000,
        b"\xff\n",
    ],
)
def test_nonsense_ends_one_connection(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A port scanner must not bring the house down, make the daemon wait for 100 GB, or fill
    the log with traces of bugs that are none."""

    async def talk() -> None:
        async with home() as daemon:
            reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
            writer.write(data)
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            await daemon.until_nobody_is_there()
            async with daemon.client() as client:
                await send(client, Synthesize(text=TEXT))
                assert (await answer(client, "audio-stop")).audio
        assert not [record for record in caplog.records if record.exc_info]

    run(talk())


@pytest.mark.parametrize("is_full", [False, True])
def test_an_error_reaches_whoever_is_still_writing(is_full: bool) -> None:
    """Home Assistant writes its text while it reads: a socket closed under it takes the error back,
    and its user is told of a broken pipe instead of a voice that is not there."""

    async def talk() -> None:
        async with contextlib.AsyncExitStack() as stack:
            daemon = await stack.enter_async_context(home(max_sessions=1))
            if is_full:
                await stack.enter_async_context(daemon.daemon.wire())
            client = await stack.enter_async_context(daemon.client())
            await send(client, SynthesizeStart(voice=SynthesizeVoice(name="nobody")))
            for _piece in range(50):
                await send(client, SynthesizeChunk(text="A piece of text. "))
                await asyncio.sleep(0.005)
            event = await client.read_event()
            assert event is not None
            error = Error.from_event(event)
            assert error.text == ("the daemon is full" if is_full else "there is no voice 'nobody'")
            assert await client.read_event() is None

    run(talk())


def test_a_client_without_power_gives_its_place_back() -> None:
    """It says no farewell. Only questions of the kernel's find out, and nobody else may come in
    for as long as they are not asked."""

    async def talk() -> None:
        async with home(ping_s=1.0) as daemon:
            plug = socket.create_connection(("127.0.0.1", daemon.port))
            plug.sendall(json.dumps({"type": "synthesize-start"}).encode() + b"\n")
            page = daemon.daemon.daemon.metrics.page
            await daemon.daemon.until(lambda: b"\nchatterboxd_contexts 1.0" in page())
            try:
                plug.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
            except PermissionError:
                pytest.skip("only root can vanish without a word")
            plug.close()
            await daemon.until_nobody_is_there()

    run(talk())


def test_who_listens_slowly_hears_the_end_before_the_daemon_goes() -> None:
    """The last seconds were still in the daemon's own buffers when it said that all was spoken, and
    ended: whoever played them as they came was cut off."""

    async def talk() -> None:
        port = free_port()
        async with own_daemon(["--engine", "sine", "--wyoming", f"tcp://127.0.0.1:{port}"]) as own:
            with narrow_plug(port) as plug:
                wish = {"type": "synthesize", "data": {"text": "a" * 36}}
                plug.sendall(json.dumps(wish).encode() + b"\n")
                begun = await read_slowly(plug, until=b"audio-chunk")
                os.kill(own.pid, signal.SIGTERM)
                rest = await read_slowly(plug, until=b"audio-stop")
        assert b"audio-stop" in rest, f"{len(begun + rest)} bytes came"

    asyncio.run(talk())


def test_running_speech_finishes_when_the_daemon_is_told_to_stop() -> None:
    """A restart of the daemon must not cut a sentence in the kitchen."""

    async def talk() -> None:
        engine = HeldEngine(num_steps=2)
        async with home(build=lambda: engine) as daemon, daemon.client() as client:
            await send(client, SynthesizeStart(), SynthesizeChunk(text=TEXT), SynthesizeStop())
            await answer(client, "audio-chunk")
            daemon.daemon.daemon.stop()
            engine.go.set()
            assert (await answer(client, SynthesizeStopped().event().type)).order[-2:] == STREAM[2:]
            assert await client.read_event() is None
            assert await daemon.daemon.task == 0

    run(talk())


def test_the_network_is_only_served_on_purpose() -> None:
    """Nobody can show a token here, so tokens elsewhere are no guard."""
    config = replace(CONFIG, wyoming="tcp://0.0.0.0:0")
    with (
        pytest.raises(ConfigError, match=r"wyoming.*public_without_token"),
        bound_doors(config, needs_token=True),
    ):
        pass
    with bound_doors(replace(config, public_without_token=True), needs_token=True) as doors:
        assert doors.wyoming_port


@pytest.mark.parametrize(
    "uri", ["127.0.0.1:10700", "unix:///tmp/x", "tcp://127.0.0.1", "tcp://a:b"]
)
def test_other_addresses_are_refused(uri: str) -> None:
    """A typo must be told at the start, not by silence."""
    with pytest.raises(ConfigError, match="tcp://"):
        replace(CONFIG, wyoming=uri)
