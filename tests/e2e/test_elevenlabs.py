"""ElevenLabs' sockets and lists over real sockets: contexts, alignment, interruptions, refusals."""

import asyncio
import base64
import contextlib
import io
import json
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import av
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.wire import Running, run, running
from tests.fakes import FragileEngine, RecordingEngine, UnhurriedEngine

TEXT = "Hello there. How are you today?"
LONG = "All work and no play makes Jack a dull boy, and so it goes on and on. " * 20
TOKEN = "a-token-of-some-length"
PCM_BYTES_A_MS = 48


@dataclass(slots=True)
class Heard:
    """What came for one context."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def audio(self) -> bytes:
        return b"".join(base64.b64decode(item.get("audio") or "") for item in self.messages)

    @property
    def text(self) -> str:
        return "".join(
            char
            for item in self.messages
            for char in (item.get("alignment") or {"chars": ""})["chars"]
        )

    @property
    def aligned_ms(self) -> int:
        """As Pipecat adds it up."""
        tables = [item["alignment"] for item in self.messages if item.get("alignment")]
        return sum(item["charStartTimesMs"][-1] + item["charDurationsMs"][-1] for item in tables)

    @property
    def num_finals(self) -> int:
        return sum(item.get("isFinal") is True for item in self.messages)

    @property
    def errors(self) -> list[str]:
        return [item["error"] for item in self.messages if "error" in item]


class Socket:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.heard: dict[str | None, Heard] = {}

    async def send(self, context: str | None = None, **body: object) -> None:
        named = body if context is None else {"context_id": context, **body}
        await self.connection.send(json.dumps(named))

    async def open(self, context: str, *texts: str) -> None:
        await self.send(context, text=" ", voice_settings={"stability": 0.5})
        for text in texts:
            await self.send(context, text=text)

    async def receive(self) -> dict[str, Any]:
        message = json.loads(await self.connection.recv())
        assert isinstance(message, dict)
        self.heard.setdefault(message.get("contextId"), Heard()).messages.append(message)
        return message

    async def hear(self, context: str | None) -> Heard:
        """Until its end."""
        while context not in self.heard or not self.heard[context].num_finals:
            await self.receive()
        return self.heard[context]

    async def say(self, context: str, text: str) -> Heard:
        await self.open(context, text)
        await self.send(context, text="", flush=True)
        await self.send(context, close_context=True)
        return await self.hear(context)

    async def closed(self) -> tuple[int | None, str]:
        """Receive until the socket is closed."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.receive()
        received = self.connection.protocol.close_rcvd
        return (received.code, received.reason) if received else (None, "")

    async def expect_silence(self, duration_s: float = 0.3) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration_s):
                raise AssertionError(f"{await self.receive()} arrived")


@contextlib.asynccontextmanager
async def dialled(
    daemon: Running, *, kind: str = "multi-stream-input", voice: str = "sine", **query: str
) -> AsyncIterator[Socket]:
    fields = "&".join(f"{name}={value}" for name, value in query.items())
    url = f"{daemon.url}v1/text-to-speech/{voice}/{kind}?{fields}"
    async with connect(url, compression=None, close_timeout=1, max_size=2**24) as connection:
        yield Socket(connection)


@contextlib.asynccontextmanager
async def dialling(**changes: Any) -> AsyncIterator[tuple[Running, Socket]]:
    async with running(**changes) as daemon, dialled(daemon, output_format="pcm_24000") as wire:
        yield daemon, wire


# --- speaking -------------------------------------------------------------------------------------


def test_a_context_is_spoken_whole_and_its_alignment_covers_it() -> None:
    """Pipecat's clock of words is the sum of the alignments, and it waits for one isFinal that
    carries no audio; audio in it would be lost."""

    async def talk() -> None:
        async with dialling() as (daemon, wire):
            async with daemon.wire() as native:
                expected = (await native.speak("a", TEXT, format="pcm_s16le")).end.samples
            heard = await wire.say("c", TEXT)
            assert len(heard.audio) == 2 * expected
            assert heard.text == TEXT + " "
            assert heard.aligned_ms == len(heard.audio) // PCM_BYTES_A_MS
            assert heard.num_finals == 1
            assert heard.messages[-1] == {"audio": None, "isFinal": True, "contextId": "c"}
            assert not heard.errors
            for item in heard.messages[:-1]:
                assert item["isFinal"] is False
                assert item["alignment"] == item["normalizedAlignment"]
            await wire.expect_silence()

    run(talk())


def test_tokens_of_a_model_are_spoken_as_one_text() -> None:
    """A token is no word: spaces put between them would be read, and shown, in mid-word."""

    async def talk() -> None:
        async with dialling() as (_daemon, wire):
            await wire.open("c", "Hel", "lo th", "ere, wor", "ld.")
            await wire.send("c", close_context=True)
            assert (await wire.hear("c")).text == "Hello there, world. "

    run(talk())


def test_absolute_times_for_who_asks_for_sync_alignment() -> None:
    """LiveKit asks, and takes `normalizedAlignment` as counted from the context's start."""

    async def talk() -> None:
        async with (
            running() as daemon,
            dialled(daemon, output_format="pcm_24000", sync_alignment="true") as wire,
        ):
            heard = await wire.say("c", TEXT)
            begun_ms = 0
            for item in heard.messages[:-1]:
                relative = item["alignment"]["charStartTimesMs"]
                absolute = item["normalizedAlignment"]["charStartTimesMs"]
                assert absolute == [begun_ms + start_ms for start_ms in relative]
                begun_ms += relative[-1] + item["alignment"]["charDurationsMs"][-1]

    run(talk())


def test_a_flush_speaks_and_ends_nothing() -> None:
    """The text waits for more, unless it is flushed; isFinal would end the turn too early."""

    async def talk() -> None:
        async with dialling(max_buffer_delay_ms=60_000) as (_daemon, wire):
            await wire.open("c", "no full stop")
            await wire.expect_silence()
            await wire.send("c", flush=True)
            while "stop " not in wire.heard.get("c", Heard()).text:
                await wire.receive()
            await wire.expect_silence()
            assert wire.heard["c"].num_finals == 0
            await wire.send("c", text="and more", flush=True)
            await wire.send("c", close_context=True)
            heard = await wire.hear("c")
            assert heard.text == "no full stop and more "
            assert heard.aligned_ms == len(heard.audio) // PCM_BYTES_A_MS

    run(talk())


def test_auto_mode_takes_each_message_as_a_phrase() -> None:
    """Pipecat sends whole sentences without spaces around them, and waits for each to be heard."""

    async def talk() -> None:
        async with (
            running(max_buffer_delay_ms=60_000) as daemon,
            dialled(daemon, output_format="pcm_24000", auto_mode="true") as wire,
        ):
            await wire.open("c", "So it is", "and so it was")
            while "was " not in wire.heard.get("c", Heard()).text:
                await wire.receive()
            assert wire.heard["c"].text == "So it is and so it was "

    run(talk())


def test_contexts_speak_at_the_same_time() -> None:
    """One after the other, the answer after an interruption would wait for what nobody hears."""

    async def talk() -> None:
        async with dialling() as (_daemon, wire):
            alone = await wire.say("x", TEXT)
            order = []
            for name in ("a", "b"):
                await wire.open(name, LONG if name == "a" else TEXT)
                await wire.send(name, close_context=True)
            while not wire.heard.get("b", Heard()).num_finals:
                order.append((await wire.receive())["contextId"])
            assert "a" in order[order.index("b") :]
            assert wire.heard["b"].audio == alone.audio
            assert wire.heard["a"].num_finals == 0

    run(talk())


def test_messages_without_an_id_are_one_context() -> None:
    """The id may be left out; a second context for each message would speak them together."""

    async def talk() -> None:
        async with dialling() as (_daemon, wire):
            await wire.send(text=" ")
            await wire.send(text=TEXT)
            await wire.send(close_context=True)
            assert (await wire.hear("default")).text == TEXT + " "

    run(talk())


@pytest.mark.parametrize(
    ("name", "bytes_a_s"),
    [
        ("pcm_8000", 16_000),
        ("pcm_44100", 88_200),
        ("ulaw_8000", 8_000),
        ("alaw_8000", 8_000),
        ("mp3_22050_32", 4_000),
        ("mp3_44100_128", 16_000),
        ("opus_48000_64", None),
    ],
)
def test_every_kind_of_output(name: str, bytes_a_s: int | None) -> None:
    """A wrong rate is a voice too high or low; a lost end is the last word cut."""

    async def talk() -> None:
        async with running() as daemon:
            async with dialled(daemon, output_format="pcm_24000") as wire:
                duration_s = len((await wire.say("c", TEXT)).audio) / 48_000
            async with dialled(daemon, output_format=name) as wire:
                heard = await wire.say("c", TEXT)
            assert heard.aligned_ms == pytest.approx(1000 * duration_s, abs=1)
            if bytes_a_s is not None:
                slack_s = 0.15 if name.startswith("mp3") else 0.001
                assert duration_s <= len(heard.audio) / bytes_a_s + 0.001
                assert len(heard.audio) / bytes_a_s <= duration_s + slack_s
            if name.startswith(("mp3", "opus")):
                assert decoded_s(heard.audio) == pytest.approx(duration_s, abs=0.15)

    run(talk())


def decoded_s(data: bytes) -> float:
    with av.open(io.BytesIO(data), mode="r") as container:
        return sum((frame.samples / frame.sample_rate for frame in container.decode(audio=0)), 0.0)


@pytest.mark.parametrize("build", [RecordingEngine, UnhurriedEngine])
def test_speed_is_the_only_voice_setting_that_counts(
    build: Callable[[], RecordingEngine],
) -> None:
    """Faster speech with the words' old times would show them too late; by the model or, where it
    cannot, by the encoder."""

    async def talk() -> None:
        async with dialling(build=build) as (_daemon, wire):
            text = "How are you today"  # without a pause: those are as long at any speed
            usual = await wire.say("a", text)
            await wire.send("b", text=" ", voice_settings={"speed": 1.2, "style": 0.4})
            await wire.send("b", text=text)
            await wire.send("b", close_context=True)
            faster = await wire.hear("b")
            assert len(faster.audio) == pytest.approx(len(usual.audio) / 1.2, rel=0.05)
            assert faster.aligned_ms == pytest.approx(usual.aligned_ms / 1.2, rel=0.02)
            assert faster.text == usual.text
            await wire.send("c", text=" ", voice_settings={"speed": 9})
            assert (await wire.receive())["error"] == "bad_message"

    run(talk())


# --- the life of contexts -------------------------------------------------------------------------


def test_messages_for_contexts_that_are_not_there_open_none() -> None:
    """Real clients flush, close and keep alive contexts that they never opened; each would hold a
    place until the limit is reached."""

    async def talk() -> None:
        async with dialling(max_contexts=1) as (daemon, wire):
            for name in ("p", "q", "r"):
                await wire.send(name, flush=True)
                await wire.send(name, close_context=True)
                await wire.send(name, text="")
            await wire.send(text="")
            assert (await wire.say("c", TEXT)).num_finals == 1
            assert set(wire.heard) == {"c"}
            assert len(daemon.engine.diary.started) == 2

    run(talk())


def test_a_context_without_words_ends_as_well() -> None:
    """Whoever waits for isFinal would wait for ever."""

    async def talk() -> None:
        async with dialling() as (_daemon, wire):
            for name, text in (("a", ""), ("b", "   "), ("c", "🙂")):
                await wire.open(name, text)
                await wire.send(name, close_context=True)
                heard = await wire.hear(name)
                assert (heard.num_finals, heard.audio) == (1, b"")

    run(talk())


def test_a_closed_context_is_finished_and_its_place_is_free_at_once() -> None:
    """The same message says that a turn is complete and that it was interrupted: what was sent must
    be heard, and clients that interrupt in a row must not run into the limit."""

    async def talk() -> None:
        async with dialling(max_contexts=2) as (_daemon, wire):
            for name in ("a", "b", "c", "d"):
                await wire.open(name, LONG[:300] if name == "a" else TEXT)
                await wire.send(name, close_context=True)
            heard = {name: await wire.hear(name) for name in ("b", "c", "d")}
            assert {item.text for item in heard.values()} == {TEXT + " "}
            # Of what was closed, no more than may be open goes on: the oldest was cut.
            assert (await wire.hear("a")).num_finals == 1
            assert len(wire.heard["a"].text) < 300
            assert all(item.num_finals == 1 for item in wire.heard.values())

    run(talk())


def test_a_closed_context_takes_no_more_text() -> None:
    """Said after its end it would be lost without a word; keepalives may still come."""

    async def talk() -> None:
        async with dialling() as (_daemon, wire):
            await wire.open("c", TEXT)
            await wire.send("c", close_context=True)
            await wire.send("c", text="")
            await wire.send("c", text="more", flush=True)
            heard = await wire.hear("c")
            assert heard.errors == ["text_after_end"]
            assert (heard.text, heard.num_finals) == (TEXT + " ", 1)

    run(talk())


def test_too_many_open_contexts_are_refused_by_name() -> None:
    """The others go on, and there is room as soon as one is closed."""

    async def talk() -> None:
        async with dialling(max_contexts=2) as (_daemon, wire):
            for name in ("a", "b", "c"):
                await wire.open(name)
            refusal = await wire.receive()
            assert (refusal["error"], refusal["contextId"]) == ("max_active_conversations", "c")
            await wire.send("a", close_context=True)
            assert (await wire.say("c", TEXT)).text == TEXT + " "

    run(talk())


def test_a_closed_context_that_nobody_hears_wastes_little() -> None:
    """Clients drop the audio of an interrupted turn; it must not be made faster than it is played,
    and the next turn must not wait for it."""

    async def talk() -> None:
        async with dialling(num_slots=2) as (daemon, wire):
            await wire.open("old", LONG)
            await wire.send("old", close_context=True)
            while not wire.heard.get("old", Heard()).audio:
                await wire.receive()
            begun_s = time.monotonic()
            new = await wire.say("new", "Yes?")
            assert new.num_finals == 1
            await asyncio.sleep(0.3)
            lead_s = daemon.engine.diary.num_samples / 24_000 - (time.monotonic() - begun_s)
            assert lead_s < 2 * 2.0 + 2.0  # of either context, and the segment ahead

    run(talk())


def test_immediately_closed_means_silence() -> None:
    """Our extension: nothing but isFinal may follow, and the slot is free."""

    async def talk() -> None:
        async with dialling() as (daemon, wire):
            await wire.open("c", LONG)
            while not wire.heard.get("c", Heard()).audio:
                await wire.receive()
            await wire.send("c", close_context=True, immediate=True)
            num_before = len(wire.heard["c"].messages)
            await wire.hear("c")
            assert len(wire.heard["c"].messages) - num_before < 40  # what was on its way
            await wire.expect_silence()
            await daemon.until(lambda: not daemon.engine.diary.busy)
            await wire.open("d", LONG)
            await wire.send("d", close_context=True)
            await wire.send("d", close_context=True, immediate=True)
            assert (await wire.hear("d")).num_finals == 1

    run(talk())


def test_closed_twice_means_silence() -> None:
    """Pipecat closes a context at the end of its text, and again if its user interrupts; a minute
    of speech would be made for nobody."""

    async def talk() -> None:
        async with dialling() as (daemon, wire):
            await wire.open("c", LONG)
            await wire.send("c", flush=True)
            await wire.send("c", close_context=True)
            while not wire.heard.get("c", Heard()).audio:
                await wire.receive()
            await wire.send("c", close_context=True)
            num_before = len(wire.heard["c"].messages)
            assert (await wire.hear("c")).num_finals == 1
            assert len(wire.heard["c"].messages) - num_before < 40  # what was on its way
            await daemon.until(lambda: not daemon.engine.diary.busy)

    run(talk())


def test_a_name_can_be_used_again() -> None:
    """The default context is; its second turn must not sound like the end of the first."""

    async def talk() -> None:
        async with dialling() as (_daemon, wire):
            first = await wire.say("c", TEXT)
            wire.heard.clear()
            assert (await wire.say("c", TEXT)).audio == first.audio

    run(talk())


def test_closing_the_socket_finishes_what_is_open() -> None:
    """Then it is the daemon that closes: Pipecat waits for that."""

    async def talk() -> None:
        async with dialling() as (_daemon, wire):
            await wire.open("c", TEXT)
            await wire.send(close_socket=True)
            await wire.send("d", text="ignored")
            assert await wire.closed() == (1000, "")
            assert wire.heard["c"].text == TEXT + " "
            assert set(wire.heard) == {"c"}
        async with dialling() as (_daemon, wire):
            await wire.send(close_socket=True)
            assert await wire.closed() == (1000, "")

    run(talk())


def test_silence_ends_contexts_and_sockets_and_keepalives_prevent_it() -> None:
    """A client that is gone without a word must not hold its places; one that waits for its model
    says so."""

    async def talk() -> None:
        async with (
            running(max_buffer_delay_ms=60_000) as daemon,
            dialled(daemon, output_format="pcm_24000", inactivity_timeout="1") as wire,
        ):
            await wire.open("c", "waiting")
            for _ in range(4):
                await asyncio.sleep(0.4)
                await wire.send("c", text="")
            assert not wire.heard
            assert (await wire.hear("c")).text == "waiting "
            for _ in range(4):
                await asyncio.sleep(0.4)
                await wire.send(text="")
            code, reason = await wire.closed()
            assert code == 1008
            assert "nothing was sent" in reason

    run(talk())


def test_who_listens_is_not_silent() -> None:
    """A text that takes longer to say than the service waits for more must not end its context."""

    async def talk() -> None:
        async with (
            running() as daemon,
            dialled(daemon, output_format="pcm_24000", inactivity_timeout="1") as wire,
        ):
            await wire.open("c", LONG[:71])
            while wire.heard.get("c", Heard()).aligned_ms < 4500:
                assert not (await wire.receive())["isFinal"]
            await wire.send("c", text="And more. ", close_context=True)
            heard = await wire.hear("c")
            assert heard.errors == []
            assert heard.text == LONG[:71] + "And more. "

    run(talk())


def test_a_pause_that_the_text_asks_for_is_part_of_the_alignment() -> None:
    """Left out of it, all words behind the pause would come too early."""

    async def talk() -> None:
        async with dialling() as (_daemon, wire):
            heard = await wire.say("c", 'One. <break time="700ms"/> Two.')
            assert heard.text == "One. Two. "
            assert heard.aligned_ms == len(heard.audio) // PCM_BYTES_A_MS > 700

    run(talk())


# --- one context a socket -------------------------------------------------------------------------


def test_the_single_socket_ends_with_an_empty_text() -> None:
    """The SDK sends this and then reads until the daemon closes; a `message` in what came last
    would be raised as an error."""

    async def talk() -> None:
        async with (
            running() as daemon,
            dialled(daemon, kind="stream-input", output_format="pcm_24000") as wire,
        ):
            config = {"chunk_length_schedule": [50]}
            await wire.send(text=" ", voice_settings=None, generation_config=config)
            for word in TEXT.split():
                await wire.send(text=f"{word} ", try_trigger_generation=True)
            await wire.send(text="")
            assert await wire.closed() == (1000, "")
            heard = wire.heard[None]
            assert heard.text == TEXT + " "
            assert heard.messages[-1] == {"audio": None, "isFinal": True}
            assert heard.aligned_ms == len(heard.audio) // PCM_BYTES_A_MS

    run(talk())


def test_the_single_socket_without_text_just_closes() -> None:
    """An empty text first is the end of nothing."""

    async def talk() -> None:
        async with running() as daemon, dialled(daemon, kind="stream-input") as wire:
            await wire.send(text="")
            assert await wire.closed() == (1000, "")
            assert not wire.heard

    run(talk())


# --- troubles -------------------------------------------------------------------------------------


def test_no_slot_is_an_error_of_its_context_alone() -> None:
    """And an end: who ignores errors, as Pipecat does, must not wait for it."""

    async def talk() -> None:
        def build() -> RecordingEngine:
            return RecordingEngine(num_slots=1, cost_s=0.05)

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
        async with running(stall_s=60.0) as daemon, deaf(daemon, num_contexts=14):
            await daemon.until(lambda: daemon.engine.diary.num_samples > 14 * 24_000)
            begun_s = time.monotonic()
            daemon.daemon.stop()
            daemon.daemon.stop()  # at once
            assert await daemon.task == 0
            assert time.monotonic() - begun_s < 5.0

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
        async with running() as daemon:
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


# --- before the upgrade ---------------------------------------------------------------------------


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
            async with asyncio.timeout(2):
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
