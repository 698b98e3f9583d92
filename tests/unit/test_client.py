"""The client against a scripted connection: no socket, no daemon."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection

from chatterboxd_client.context import ClientContext, ConnectionLost, DaemonError
from chatterboxd_client.listening import BrokenStream
from chatterboxd_client.session import SpeechClient
from chatterboxd_client.speaking import say
from daemon.wire.protocol import (
    AudioEnd,
    AudioFormat,
    AudioMessage,
    Begin,
    Cancelled,
    Failed,
    Limits,
    Opened,
    OpusFacts,
    SegmentStart,
    TextDelta,
    Words,
    WordTime,
    to_json,
)

RATE = 24_000
BEGIN = Begin(
    server="0",
    model="scripted",
    sample_rate=RATE,
    formats=("opus", "pcm_s16le"),
    opus=OpusFacts(bitrate_default=32_000, bitrate_min=6_000, bitrate_max=128_000),
    voices=("a",),
    default_voice="a",
    languages=("en",),
    options=(),
    slots=1,
    limits=Limits(
        message_bytes=80,
        text_chars=1,
        contexts=1,
        messages_per_s=1,
        wait_ms=1,
        stall_ms=1,
        buffer_delay_ms_default=1,
        buffer_delay_ms_max=1,
        lead_ms_default=1,
        lead_ms_min=1,
        lead_ms_max=1,
    ),
)


class ScriptedSocket:
    """Answers each client message with what `answer` returns for it; `close` ends the session."""

    def __init__(self, answer: Callable[[dict[str, Any]], list[str | bytes]]) -> None:
        self.sent: list[dict[str, Any]] = []
        self._answer = answer
        self._incoming: asyncio.Queue[str | bytes | None] = asyncio.Queue()

    async def send(self, message: str) -> None:
        body = json.loads(message)
        self.sent.append(body)
        for item in self._answer(body):
            self._incoming.put_nowait(item)

    async def close(self) -> None:
        self._incoming.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        while (item := await self._incoming.get()) is not None:
            yield item


def opened(name: str, *, number: int = 1, format: str = "pcm_s16le") -> str:
    return to_json(
        Opened(
            context=name,
            number=number,
            voice="a",
            format=format,
            seed=0,
            language="en",
            options={},
            max_buffer_delay_ms=1,
            max_lead_ms=1,
        )
    )


def pcm(samples: NDArray[np.int16], *, sequence: int, number: int = 1) -> bytes:
    return AudioMessage(
        format=AudioFormat.PCM_S16LE,
        number=number,
        sequence=sequence,
        num_samples=len(samples),
        payload=samples.astype("<i2").tobytes(),
    ).to_bytes()


def audio_end(name: str, *, samples: int) -> str:
    return to_json(
        AudioEnd(context=name, samples=samples, packets=1, duration_ms=1, segments=1, text_chars=1)
    )


def failed(name: str | None, *, final: bool, code: str = "busy") -> str:
    return to_json(Failed(code=code, message="no", hint="Wait.", final=final, context=name))


def with_client(
    answer: Callable[[dict[str, Any]], list[str | bytes]],
    scenario: Callable[[SpeechClient, ScriptedSocket], Awaitable[None]],
) -> None:
    async def run() -> None:
        socket = ScriptedSocket(answer)
        async with SpeechClient(cast("ClientConnection", socket), BEGIN) as client:
            await asyncio.wait_for(scenario(client, socket), timeout=5)

    asyncio.run(run())


async def samples_of(context: ClientContext) -> NDArray[np.int16]:
    return np.concatenate([audio.samples async for audio in context.audio()])


HI = WordTime(text="Hi", start=0, end=2, sample=10, end_sample=600)


def ramp(start: int, stop: int) -> NDArray[np.int16]:
    return np.arange(start, stop, dtype=np.int16)


def test_samples_arrive_in_order_until_audio_end() -> None:
    """A client that drops or swaps samples would still produce a playable file."""

    def answer(message: dict[str, Any]) -> list[str | bytes]:
        if message["type"] == "open":
            return [opened("x")]
        if message["type"] == "end":
            segment = SegmentStart(context="x", segment=0, text="Hi", start=0, end=2, sample=0)
            return [
                to_json(segment),
                to_json(Words(context="x", words=(HI,))),
                pcm(ramp(0, 480), sequence=0),
                pcm(ramp(480, 700), sequence=1),
                audio_end("x", samples=700),
            ]
        return []

    async def scenario(client: SpeechClient, socket: ScriptedSocket) -> None:
        context = await client.open("x", format="pcm_s16le", max_lead_ms=7)
        await context.send_text("Hi")
        await context.end()
        assert (await samples_of(context)).tolist() == list(range(700))
        assert isinstance(context.ending, AudioEnd)
        assert context.words == [HI]
        assert [item["type"] for item in socket.sent] == ["open", "text", "end"]
        assert socket.sent[0]["max_lead_ms"] == 7
        assert "voice" not in socket.sent[0]

    with_client(answer, scenario)


def test_two_contexts_on_one_socket_stay_apart() -> None:
    """Audio is routed by number and control by name: a mix-up would play one text into another."""
    numbers = {"x": 1, "y": 2}

    def answer(message: dict[str, Any]) -> list[str | bytes]:
        name = message["context"]
        if message["type"] == "open":
            return [opened(name, number=numbers[name])]
        if message["type"] == "end" and name == "y":
            return [
                pcm(ramp(0, 3), sequence=0, number=1),
                pcm(ramp(10, 12), sequence=0, number=2),
                audio_end("x", samples=3),
                audio_end("y", samples=2),
            ]
        return []

    async def scenario(client: SpeechClient, socket: ScriptedSocket) -> None:
        first, second = await client.open("x"), await client.open("y")
        await first.end()
        await second.end()
        assert (await samples_of(second)).tolist() == [10, 11]
        assert (await samples_of(first)).tolist() == [0, 1, 2]

    with_client(answer, scenario)


def test_a_refused_open_raises_and_leaves_the_session_usable() -> None:
    """`open` must not wait for ever when the daemon answers with an error instead of `opened`."""

    def answer(message: dict[str, Any]) -> list[str | bytes]:
        if message.get("voice") == "nobody":
            return [failed(message["context"], final=False, code="unknown_voice")]
        return [opened(message["context"])] if message["type"] == "open" else []

    async def scenario(client: SpeechClient, socket: ScriptedSocket) -> None:
        with pytest.raises(DaemonError, match=r"no \(unknown_voice\)\. Wait\."):
            await client.open("x", voice="nobody")
        assert (await client.open("x")).opened is not None

    with_client(answer, scenario)


def test_a_final_error_ends_the_iteration() -> None:
    """`busy` arrives instead of audio: a client that only waits for audio_end would hang."""

    def answer(message: dict[str, Any]) -> list[str | bytes]:
        if message["type"] == "open":
            return [opened("x")]
        return [failed("x", final=True)]

    async def scenario(client: SpeechClient, socket: ScriptedSocket) -> None:
        context = await client.open("x")
        await context.end()
        with pytest.raises(DaemonError) as caught:
            await samples_of(context)
        assert caught.value.failed.code == "busy"

    with_client(answer, scenario)


def test_cancel_drops_what_was_not_read_and_returns_the_acknowledgement() -> None:
    """After a barge-in, audio that is still queued in the client must not reach the player."""
    acknowledgement = Cancelled(
        context="x", text_spoken="Hi", text_remaining=" you", played_ms=5, samples_sent=2
    )

    def answer(message: dict[str, Any]) -> list[str | bytes]:
        if message["type"] == "open":
            return [opened("x"), pcm(ramp(0, 2), sequence=0)]
        return [pcm(ramp(2, 4), sequence=1), to_json(acknowledgement)]

    async def scenario(client: SpeechClient, socket: ScriptedSocket) -> None:
        context = await client.open("x")
        assert await context.cancel(played_ms=5) == acknowledgement
        assert [event async for event in context.events()] == []
        assert context.ending == acknowledgement
        assert socket.sent[-1] == {"type": "cancel", "context": "x", "played_ms": 5}

    with_client(answer, scenario)


def test_cancel_after_audio_end_is_answered_too() -> None:
    """The cancel may cross audio_end; docs/protocol.md promises an acknowledgement all the same."""
    acknowledgement = Cancelled(
        context="x", text_spoken="Hi", text_remaining="", played_ms=5, samples_sent=0
    )

    def answer(message: dict[str, Any]) -> list[str | bytes]:
        if message["type"] == "open":
            return [opened("x"), audio_end("x", samples=0)]
        return [to_json(acknowledgement)]

    async def scenario(client: SpeechClient, socket: ScriptedSocket) -> None:
        context = await client.open("x")
        assert [event async for event in context.events()] == []
        assert await context.cancel() == acknowledgement

    with_client(answer, scenario)


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        ([pcm(ramp(0, 2), sequence=1)], "audio message 1 .* instead of 0"),
        ([pcm(ramp(0, 2), sequence=0, number=9)], "number 9"),
        ([pcm(ramp(0, 2), sequence=0), audio_end("x", samples=3)], "3 samples announced, 2 came"),
        ([b"\x09" * 16], "header version 9"),
        (["{"], "not JSON"),
    ],
    ids=["gap", "stray number", "wrong total", "unknown header", "no JSON"],
)
def test_a_stream_that_breaks_the_protocol_is_an_error(
    stream: list[str | bytes], complaint: str
) -> None:
    """Lost audio must be seen by whoever measures with this client, never smoothed over."""

    def answer(message: dict[str, Any]) -> list[str | bytes]:
        return [opened("x"), *stream]

    async def scenario(client: SpeechClient, socket: ScriptedSocket) -> None:
        context = await client.open("x")
        with pytest.raises(BrokenStream, match=complaint):
            await samples_of(context)
        with pytest.raises(BrokenStream):
            await context.send_text("more")

    with_client(answer, scenario)


def test_a_lost_connection_reaches_every_waiting_reader() -> None:
    """When the daemon dies, a program that waits for audio must learn it and not hang."""

    def answer(message: dict[str, Any]) -> list[str | bytes]:
        return [opened("x")]

    async def scenario(client: SpeechClient, socket: ScriptedSocket) -> None:
        context = await client.open("x")
        await socket.close()
        with pytest.raises(ConnectionLost):
            await samples_of(context)
        with pytest.raises(ConnectionLost):
            await context.end()

    with_client(answer, scenario)


def test_a_context_that_failed_has_nothing_to_cancel() -> None:
    """Whoever left `async with say(…)` after `busy` waited for ever: nobody acknowledges the cancel
    of a context that is no more. Nor may a second look at its events wait for what never comes."""

    def answer(message: dict[str, Any]) -> list[str | bytes]:
        name = message["context"]
        return [opened(name) if message["type"] == "open" else failed(name, final=True)]

    async def scenario(client: SpeechClient, socket: ScriptedSocket) -> None:
        with pytest.raises(DaemonError, match="busy"):
            async with await say(client, "Hi") as speaking:
                await speaking.collect()
        assert [message["type"] for message in socket.sent] == ["open", "text", "end"]
        with pytest.raises(DaemonError, match="busy"):
            await speaking.cancel()
        with pytest.raises(DaemonError, match="busy"):
            await speaking.collect()

    with_client(answer, scenario)


def test_leaving_what_was_said_to_its_end_cancels_nothing() -> None:
    """The daemon has ended the context, though nobody has read so far."""

    def answer(message: dict[str, Any]) -> list[str | bytes]:
        name = message["context"]
        answers = {"open": opened(name), "end": audio_end(name, samples=0)}
        return [answers[message["type"]]] if message["type"] in answers else []

    async def scenario(client: SpeechClient, socket: ScriptedSocket) -> None:
        async with await say(client, "Hi") as speaking:
            while not speaking.context.is_over:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0)
        assert socket.sent[-1]["type"] == "end"

    with_client(answer, scenario)


def test_whoever_stops_waiting_for_a_context_leaves_none_behind() -> None:
    """A timeout around `open`: the daemon opens it a moment later, and it would hold its place, and
    its name, for as long as the session lives."""

    def answer(message: dict[str, Any]) -> list[str | bytes]:
        if message["type"] == "open" and message.get("voice") == "slow":
            return []
        if message["type"] == "open":
            return [opened("x")]
        cancelled = Cancelled(
            context="x", text_spoken="", text_remaining="", played_ms=0, samples_sent=0
        )
        return [opened("x"), to_json(cancelled)]

    async def scenario(client: SpeechClient, socket: ScriptedSocket) -> None:
        waiting = asyncio.create_task(client.open("x", voice="slow"))
        while not socket.sent:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(ValueError, match="still open"):
            await client.open("x")
        while len(socket.sent) < 2:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0)
        assert socket.sent[-1] == {"type": "cancel", "context": "x"}
        while True:
            with contextlib.suppress(ValueError):
                await client.open("x")
                break
            await asyncio.sleep(0)

    with_client(answer, scenario)


def test_an_old_context_cannot_cancel_who_has_its_name_now() -> None:
    """`cancel` goes by name: that of a context which ended long ago is another's."""

    def answer(message: dict[str, Any]) -> list[str | bytes]:
        return [opened("x"), audio_end("x", samples=0)] if message["type"] == "open" else []

    async def scenario(client: SpeechClient, socket: ScriptedSocket) -> None:
        old = await client.open("x")
        assert [event async for event in old.events()] == []
        await client.open("x")
        with pytest.raises(ValueError, match="long ago"):
            await old.cancel()
        assert socket.sent[-1]["type"] == "open"

    with_client(answer, scenario)


@pytest.mark.parametrize("text", ["Hello there, " * 9, "你好" * 20, "\0" * 30, "😀" * 20, ""])
def test_no_message_is_longer_than_the_daemon_allows(text: str) -> None:
    """A page in one piece ended the whole session: 1009, message too big."""

    def answer(message: dict[str, Any]) -> list[str | bytes]:
        return [opened("x")] if message["type"] == "open" else []

    async def scenario(client: SpeechClient, socket: ScriptedSocket) -> None:
        context = await client.open("x")
        await context.send_text(text)
        sent = [message for message in socket.sent if message["type"] == "text"]
        assert "".join(message["text"] for message in sent) == text
        most = max(
            len(to_json(TextDelta(context="x", text=part["text"])).encode()) for part in sent
        )
        assert most <= BEGIN.limits.message_bytes

    with_client(answer, scenario)


def test_unknown_messages_are_ignored() -> None:
    """v1 may grow: a message type that this client does not know must not end its session."""

    def answer(message: dict[str, Any]) -> list[str | bytes]:
        return ['{"type":"novelty","context":"x"}', opened("x"), audio_end("x", samples=0)]

    async def scenario(client: SpeechClient, socket: ScriptedSocket) -> None:
        context = await client.open("x")
        assert [event async for event in context.events()] == []

    with_client(answer, scenario)
