"""The client against a scripted connection: no socket, no daemon."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import numpy as np
import opuslib_next
import pytest
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection

from chatterboxd_client.listening import Audio, AudioDecoder, BrokenStream, Timings, is_audible
from chatterboxd_client.session import ClientContext, ConnectionLost, DaemonError, SpeechClient
from daemon.wire.protocol import (
    PRE_SKIP_48K,
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
    Words,
    WordTime,
    to_json,
)

RATE = 24_000
PACKET = 480
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
        message_bytes=1,
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


def test_unknown_messages_are_ignored() -> None:
    """v1 may grow: a message type that this client does not know must not end its session."""

    def answer(message: dict[str, Any]) -> list[str | bytes]:
        return ['{"type":"novelty","context":"x"}', opened("x"), audio_end("x", samples=0)]

    async def scenario(client: SpeechClient, socket: ScriptedSocket) -> None:
        context = await client.open("x")
        assert [event async for event in context.events()] == []

    with_client(answer, scenario)


def opus_messages(signal: NDArray[np.int16], *, pre_skip: int) -> list[AudioMessage]:
    """What a daemon sends for this signal, by section 3 of docs/protocol.md."""
    encoder = opuslib_next.Encoder(RATE, 1, opuslib_next.APPLICATION_AUDIO)
    encoder.bitrate = 96_000
    num_packets = -(-(len(signal) + pre_skip) // PACKET)
    padded = np.zeros(num_packets * PACKET, np.int16)
    padded[: len(signal)] = signal
    messages = []
    num_left = len(signal)
    for index in range(num_packets):
        part = padded[index * PACKET : (index + 1) * PACKET]
        num_samples = min(num_left, PACKET - (pre_skip if index == 0 else 0))
        num_left -= num_samples
        messages.append(
            AudioMessage(
                format=AudioFormat.OPUS,
                number=1,
                sequence=index,
                num_samples=num_samples,
                payload=encoder.encode(part.tobytes(), PACKET),
            )
        )
    return messages


def test_opus_comes_back_aligned_and_at_full_length() -> None:
    """Pre-skip counted at the wrong rate (312 instead of 156) shifts the audio by 6.5 ms."""
    time_s = np.arange(5_000) / RATE
    signal = (8_000 * np.sin(2 * np.pi * (300 + 2_000 * time_s) * time_s)).astype(np.int16)
    decoder = AudioDecoder(audio_format=AudioFormat.OPUS, sample_rate=RATE, pre_skip=PRE_SKIP_48K)
    parts = [decoder.decode(message) for message in opus_messages(signal, pre_skip=156)]
    decoded = np.concatenate(parts)
    assert len(decoded) == len(signal)
    assert len(parts[0]) == PACKET - 156
    assert np.corrcoef(decoded[240:-240], signal[240:-240])[0, 1] > 0.98


def test_a_broken_opus_packet_is_named() -> None:
    """libopus's error must surface as the stream's fault, not as a foreign exception."""
    decoder = AudioDecoder(audio_format=AudioFormat.OPUS, sample_rate=RATE, pre_skip=312)
    message = AudioMessage(
        format=AudioFormat.OPUS, number=1, sequence=0, num_samples=1, payload=b"\xff\xff\xff"
    )
    with pytest.raises(BrokenStream, match="does not decode"):
        decoder.decode(message)


def test_audible_means_ten_loud_milliseconds() -> None:
    """A click or codec noise before the speech would otherwise count as first audio."""
    tone = np.full(240, 200, np.int16)  # -44 dBFS
    hiss = np.full(2_400, 60, np.int16)  # -55 dBFS
    click = np.zeros(240, np.int16)
    click[7] = 1_000
    assert is_audible(np.concatenate([hiss[:240], tone]), sample_rate=RATE)
    assert not is_audible(hiss, sample_rate=RATE)
    assert not is_audible(np.zeros(480, np.int16), sample_rate=RATE)
    assert is_audible(np.concatenate([click, click * 3]), sample_rate=RATE)
    assert not is_audible(np.zeros(0, np.int16), sample_rate=RATE)


def test_first_audio_waits_for_the_first_audible_packet() -> None:
    """Leading silence must not flatter the figure; the gap is what a listener would have missed."""
    timings = Timings(sample_rate=RATE, text_sent_at=10.0)
    assert timings.first_audio_ms is None
    assert timings.real_time_factor is None
    silence, tone = np.zeros(480, np.int16), np.full(480, 5_000, np.int16)
    timings.note(Audio(sequence=0, samples=silence, received_at=10.1))
    assert timings.first_audio_ms is None
    timings.note(Audio(sequence=1, samples=tone, received_at=10.15))
    timings.note(Audio(sequence=2, samples=tone, received_at=10.16))
    assert timings.first_audio_ms == pytest.approx(150)
    assert timings.audio_s == pytest.approx(0.06)
    assert timings.real_time_factor == pytest.approx(0.16 / 0.06)
    # Packet 0 lasts until 10.12; packet 1 comes at 10.15.
    assert timings.worst_gap_s == pytest.approx(0.03)
