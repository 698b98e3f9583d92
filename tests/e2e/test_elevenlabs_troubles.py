"""ElevenLabs' sockets in trouble: no slot, slow and lost clients, a drain, nonsense."""

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.elevenlabs import LONG, PCM_BYTES_A_MS, TEXT, Heard, Socket, dialled, dialling
from tests.e2e.wire import Running, run, running
from tests.fakes import FragileEngine, RecordingEngine


def test_no_slot_is_an_error_of_its_context_alone() -> None:
    """And an end: who ignores errors, as Pipecat does, must not wait for it."""

    async def talk() -> None:
        def build() -> RecordingEngine:
            # So slow that the first phrase holds the slot for as long as this test may last.
            return RecordingEngine(num_slots=1, cost_s=0.05, samples_per_char=4 * 24_000)

        async with (
            running(build=build, num_slots=1, max_wait_ms=200) as daemon,
            dialled(daemon, output_format="pcm_24000") as wire,
        ):
            await wire.open("a", LONG)
            while not wire.heard.get("a", Heard()).audio:
                await wire.receive()
            await wire.open("b", TEXT)
            await wire.send("b", flush=True)
            heard = await wire.hear("b")
            assert heard.errors == ["system_busy"]
            assert wire.heard["a"].num_finals == 0
            await wire.send("a", close_context=True, immediate=True)
            assert (await wire.hear("a")).errors == []

    run(talk())


def test_what_the_engine_cannot_say_is_an_error_and_an_end() -> None:
    """Silence that ends well would pass for speech. The single socket says it by its close, too."""

    async def talk() -> None:
        def build() -> RecordingEngine:
            return FragileEngine(num_slots=8)

        async with running(build=build) as daemon:
            async with dialled(daemon, output_format="pcm_24000") as wire:
                heard = await wire.say("c", "FAIL")
                assert (heard.errors, heard.num_finals) == (["internal_error"], 1)
            async with dialled(daemon, kind="stream-input", output_format="pcm_24000") as wire:
                await wire.send(text="FAIL ")
                await wire.send(text="")
                code, _reason = await wire.closed()
                assert (code, wire.heard[None].errors) == (1008, ["internal_error"])

    run(talk())


def test_a_client_that_goes_away_frees_everything() -> None:
    """Contexts that speak, that wait for text, that were closed."""

    async def talk() -> None:
        async with running() as daemon:
            tasks_before = len(asyncio.all_tasks())
            for _ in range(5):
                async with dialled(daemon, output_format="pcm_24000") as wire:
                    await wire.open("a", LONG)
                    await wire.open("b", LONG)
                    await wire.send("b", close_context=True)
                    await wire.open("c", "half a")
                    await wire.receive()
                    wire.connection.transport.abort()
            await daemon.until(lambda: not daemon.engine.diary.busy)
            await daemon.until(lambda: len(asyncio.all_tasks()) <= tasks_before)
            async with dialled(daemon, output_format="pcm_24000") as wire:
                assert (await wire.say("c", TEXT)).num_finals == 1

    run(talk())


def test_a_slow_reader_is_given_up_and_nobody_else_notices() -> None:
    """Audio that nobody takes must not pile up, nor hold the slots."""

    async def talk() -> None:
        async with running(stall_s=1.0) as daemon, dialled(daemon, output_format="pcm_24000") as ok:
            async with deaf(daemon, num_contexts=14) as slow:
                await daemon.until(lambda: daemon.engine.diary.num_samples > 14 * 24_000)
                await asyncio.sleep(2.0)
                assert (await ok.say("c", TEXT)).num_finals == 1
                await daemon.until(lambda: not daemon.engine.diary.busy)
                # It had no room for a close either; what it takes now was in the kernel's hands.
                assert (await slow.closed())[0] in (1008, None)
            assert (await ok.say("d", TEXT)).num_finals == 1

    run(talk())


@contextlib.asynccontextmanager
async def deaf(daemon: Running, *, num_contexts: int) -> AsyncIterator[Socket]:
    """A client with much to say that takes almost nothing."""
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plug.connect(("127.0.0.1", daemon.port))
    plug.setblocking(False)
    path = "v1/text-to-speech/sine/multi-stream-input?output_format=pcm_48000"
    async with connect(
        daemon.url + path, sock=plug, compression=None, max_queue=1, close_timeout=1
    ) as connection:
        slow = Socket(connection)
        for number in range(num_contexts):
            await slow.open(str(number), LONG)
            await slow.send(str(number), close_context=True)
        yield slow


def test_the_daemon_ends_although_somebody_takes_nothing() -> None:
    """A restart must not wait for a client that hangs."""

    async def talk() -> None:
        # Given up by its time it would be only long after the end of this test.
        async with running(stall_s=3600.0) as daemon, deaf(daemon, num_contexts=14):
            await daemon.until(lambda: daemon.engine.diary.num_samples > 14 * 24_000)
            daemon.daemon.stop()
            daemon.daemon.stop()  # at once
            assert await daemon.task == 0

    run(talk())


@pytest.mark.parametrize("seed", range(3))
def test_a_crowd_that_comes_and_goes_leaves_nothing(seed: int) -> None:
    """Contexts in every state, closed in every way, at the same time on several sockets."""

    async def one(daemon: Running, dice: random.Random) -> None:
        with contextlib.suppress(ConnectionClosed):
            async with dialled(
                daemon,
                kind=dice.choice(["multi-stream-input", "stream-input"]),
                output_format=dice.choice(["pcm_24000", "ulaw_8000", "mp3_22050_32"]),
                auto_mode=dice.choice(["true", "false"]),
            ) as wire:
                for _ in range(dice.randint(1, 25)):
                    context = dice.choice("abc")
                    await wire.send(
                        context,
                        text=dice.choice(["", " ", "So. ", TEXT, LONG]),
                        flush=dice.random() < 0.3,
                        close_context=dice.random() < 0.3,
                        immediate=dice.random() < 0.3,
                    )
                    if dice.random() < 0.5:
                        await asyncio.sleep(0.02 * dice.random())
                if dice.random() < 0.5:
                    wire.connection.transport.abort()
                elif dice.random() < 0.5:
                    await wire.send(close_socket=True)

    async def talk() -> None:
        async with running(max_wait_ms=500) as daemon:
            tasks_before = len(asyncio.all_tasks())
            dice = random.Random(seed)
            await asyncio.gather(*(one(daemon, random.Random(dice.random())) for _ in range(12)))
            await daemon.until(lambda: not daemon.engine.diary.busy)
            await daemon.until(lambda: len(asyncio.all_tasks()) <= tasks_before)
            async with dialled(daemon, output_format="pcm_24000") as wire:
                assert (await wire.say("c", TEXT)).text == TEXT + " "

    run(talk())


def test_a_drain_lets_contexts_finish_and_opens_no_new_one() -> None:
    """A restart that cuts sentences is heard by everybody."""

    async def talk() -> None:
        async with running(grace_s=60.0) as daemon:
            async with (
                dialled(daemon, output_format="pcm_24000") as idle,
                dialled(daemon, output_format="pcm_24000") as wire,
            ):
                await wire.open("c", TEXT)
                await wire.receive()
                daemon.daemon.stop()
                assert (await idle.closed())[0] == 1001
                await wire.send("d", text="a new one")
                await wire.send("c", close_context=True)
                assert (await wire.closed())[0] == 1001
                assert wire.heard["c"].num_finals == 1
                assert wire.heard["c"].text == TEXT + " "
                assert wire.heard["d"].errors == ["system_busy"]
            assert await daemon.task == 0

    run(talk())


# --- nonsense -------------------------------------------------------------------------------------

_NAMES = ("text", "context_id", "contextId", "flush", "close_context", "voice_settings", "x")
_VALUES: tuple[object, ...] = (
    *("", " ", "a", "b", "Hello. ", "\ud800", "🙂" * 50, None, True, False, 0, -1, 1e400),
    *([], {}, {"speed": 0.8}, {"speed": []}, ["a"], {"a": {"b": []}}),
)


@pytest.mark.parametrize("seed", range(4))
def test_nonsense_is_answered_and_the_socket_goes_on(seed: int) -> None:
    """Whatever a client sends, the next good context must be heard whole."""
    dice = random.Random(seed)

    def message() -> str | bytes:
        kind = dice.random()
        if kind < 0.1:
            return dice.choice(["", "{", "null", "[]", "5", '{"text":', "[" * 5000, '"a"'])
        if kind < 0.15:
            return dice.randbytes(20)
        fields = dice.sample(_NAMES, dice.randint(0, 5))
        return json.dumps({name: dice.choice(_VALUES) for name in fields})

    async def talk() -> None:
        async with dialling() as (daemon, wire):
            for _ in range(150):
                await wire.connection.send(message())
            heard = await wire.say("good", TEXT)
            assert heard.text == TEXT + " "
            assert len(heard.audio) // PCM_BYTES_A_MS == heard.aligned_ms
            await wire.send(close_socket=True)
            assert (await wire.closed())[0] == 1000
            # Errors may come before anything was opened; ends only after.
            assert all(item.num_finals <= 150 for item in wire.heard.values())
            await daemon.until(lambda: not daemon.engine.diary.busy)

    run(talk())
