"""Home Assistant's protocol over real sockets: streams, one-shots, who goes away, nonsense."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

from daemon.config import ConfigError
from daemon.dialects.announcing import SERVICE_TYPE, announced
from daemon.dialects.doors import bound_doors
from tests.e2e.wire import CONFIG, Running, run, running
from tests.fakes import FragileEngine, RecordingEngine

TEXT = "Hello there. How are you today?"


@dataclass(slots=True)
class Answer:
    kinds: list[str]
    audio: bytes

    @property
    def order(self) -> list[str]:
        """The kinds, with repeated chunks as one."""
        return [
            kind
            for kind, before in zip(self.kinds, [None, *self.kinds], strict=False)
            if kind != before
        ]


@dataclass(slots=True)
class Home:
    daemon: Running

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncTcpClient]:
        assert self.daemon.daemon.doors is not None
        port = self.daemon.daemon.doors.wyoming_port
        assert port is not None
        async with AsyncTcpClient("127.0.0.1", port) as client:
            yield client


@contextlib.asynccontextmanager
async def home(**changes: Any) -> AsyncIterator[Home]:
    async with running(wyoming="tcp://127.0.0.1:0", **changes) as daemon:
        yield Home(daemon)


async def send(client: AsyncTcpClient, *messages: Any) -> None:
    for message in messages:
        await client.write_event(message.event())


async def answer(client: AsyncTcpClient, last: str) -> Answer:
    """Everything up to the event of that kind, or to the end of the connection."""
    found = Answer([], b"")
    while (event := await client.read_event()) is not None:
        found.kinds.append(event.type)
        if AudioChunk.is_type(event.type):
            part = AudioChunk.from_event(event)
            assert (part.rate, part.width, part.channels) == (24_000, 2, 1)
            found.audio += part.audio
        if event.type == last:
            break
    return found


def streamed(*texts: str) -> list[Any]:
    """As Home Assistant sends it: the whole text once more, for servers that cannot stream."""
    return [
        SynthesizeStart(),
        *(SynthesizeChunk(text=text) for text in texts),
        Synthesize(text="".join(texts)),
        SynthesizeStop(),
    ]


STREAM = ["audio-start", "audio-chunk", "audio-stop", "synthesize-stopped"]


def test_a_stream_is_spoken_once_and_says_when_it_is_over() -> None:
    """Home Assistant waits for synthesize-stopped; a server that also obeys the compatibility
    event says everything twice."""

    async def talk() -> None:
        async with home() as daemon, daemon.client() as client, daemon.daemon.wire() as wire:
            heard = await wire.speak("a", TEXT, format="pcm_s16le")
            expected = b"".join(packet.payload for packet in heard.packets)
            await send(client, *streamed("Hello the", "re. How a", "re you today?"))
            first = await answer(client, "synthesize-stopped")
            assert first.order == STREAM
            assert first.audio == expected
            await send(client, *streamed(TEXT))
            assert (await answer(client, "synthesize-stopped")).audio == expected
            await send(client, Synthesize(text=TEXT))
            once = await answer(client, "audio-stop")
            assert once.order == STREAM[:-1]
            assert once.audio == expected

    run(talk())


def test_speech_begins_before_the_text_has_ended() -> None:
    """The reason for streams: the first sentence is heard while the model writes the second."""

    async def talk() -> None:
        async with home() as daemon, daemon.client() as client:
            await send(client, SynthesizeStart(), SynthesizeChunk(text="One sentence. And the"))
            assert (await answer(client, "audio-chunk")).order == STREAM[:2]
            await send(client, SynthesizeChunk(text=" next one."), SynthesizeStop())
            assert (await answer(client, "synthesize-stopped")).order[-2:] == STREAM[-2:]

    run(talk())


def test_what_the_daemon_offers_is_described() -> None:
    """Home Assistant lists voices by description, and streams only if it is told that it may."""

    async def talk() -> None:
        async with home() as daemon, daemon.client() as client:
            await send(client, Describe())
            event = await client.read_event()
            assert event is not None
            (program,) = Info.from_event(event).tts
            assert program.supports_synthesize_streaming
            assert program.installed
            assert program.voices[0].name == "sine", "the default comes first"
            assert all(voice.description and voice.languages for voice in program.voices)
            await send(client, Ping(text="are you there"))
            event = await client.read_event()
            assert event is not None
            assert Pong.from_event(event).text == "are you there"

    run(talk())


def test_silence_follows_if_it_is_asked_for() -> None:
    """Cast loudspeakers cut the last quarter of a second."""

    async def talk() -> None:
        async with home() as plain, plain.client() as client:
            await send(client, Synthesize(text=TEXT))
            expected = (await answer(client, "audio-stop")).audio
        async with home(wyoming_silence_ms=250) as padded, padded.client() as client:
            await send(client, Synthesize(text=TEXT))
            audio = (await answer(client, "audio-stop")).audio
            assert audio == expected + bytes(2 * 6000)

    run(talk())


def test_nothing_to_say_ends_as_well() -> None:
    """An empty reply must not leave the house waiting."""

    async def talk() -> None:
        async with home() as daemon, daemon.client() as client:
            await send(client, *streamed())
            order = (await answer(client, "synthesize-stopped")).order
            assert order == ["audio-start", "audio-stop", "synthesize-stopped"]
            await send(client, Synthesize(text=""))
            assert (await answer(client, "audio-stop")).order == ["audio-start", "audio-stop"]

    run(talk())


def test_voices_and_languages_are_those_of_the_daemon() -> None:
    """Home Assistant sends `en-US`, and voices of a configuration that was another daemon's."""

    async def talk() -> None:
        async with home() as daemon:
            for voice, is_fine in (
                (SynthesizeVoice(name="sine"), True),
                (SynthesizeVoice(language="en"), True),
                (SynthesizeVoice(language="en_US"), True),
                (SynthesizeVoice(name="nobody"), False),
                (SynthesizeVoice(language="tlh"), False),
            ):
                async with daemon.client() as client:
                    await send(client, Synthesize(text=TEXT, voice=voice))
                    kinds = (await answer(client, "audio-stop")).kinds
                    assert kinds[-1] == ("audio-stop" if is_fine else "error"), voice

    run(talk())


def test_a_client_that_goes_away_frees_its_slot() -> None:
    """Home Assistant interrupts by closing the connection."""

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
            page = daemon.daemon.daemon.metrics.page().decode()
            assert 'outcome="gone"' in page
            assert "chatterboxd_sessions 0.0" in page

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
        b"x" * 200_000,
        b"\xff\n",
    ],
)
def test_nonsense_ends_one_connection(data: bytes) -> None:
    """A port scanner must not bring the house down, nor make the daemon wait for 100 GB."""

    async def talk() -> None:
        async with home() as daemon:
            assert daemon.daemon.daemon.doors is not None
            port = daemon.daemon.daemon.doors.wyoming_port
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(3):
                    await reader.read()
            writer.close()
            async with daemon.client() as client:
                await send(client, Synthesize(text=TEXT))
                assert (await answer(client, "audio-stop")).audio

    run(talk())


def test_events_of_other_services_are_ignored() -> None:
    """Wyoming grows; an event that is not about speech must not end the connection."""

    async def talk() -> None:
        async with home() as daemon, daemon.client() as client:
            await client.write_event(Event("select-program", {"name": "x"}))
            await send(client, SynthesizeChunk(text="outside of a stream"), SynthesizeStop())
            await send(client, AudioStart(rate=1, width=2, channels=1), AudioStop())
            await send(client, Synthesize(text=TEXT))
            assert (await answer(client, "audio-stop")).order == STREAM[:-1]

    run(talk())


def test_running_speech_finishes_when_the_daemon_is_told_to_stop() -> None:
    """A restart of the daemon must not cut a sentence in the kitchen."""

    async def talk() -> None:
        def slow() -> RecordingEngine:
            return RecordingEngine(samples_per_step=2400, cost_s=0.02)

        async with home(build=slow) as daemon, daemon.client() as client:
            await send(client, SynthesizeStart(), SynthesizeChunk(text=TEXT), SynthesizeStop())
            await answer(client, "audio-chunk")
            daemon.daemon.daemon.stop()
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


def test_home_assistant_finds_the_daemon() -> None:
    """Discovery saves the user from typing an address; it must name the one that listens."""
    from zeroconf import IPVersion, Zeroconf

    async def talk() -> None:
        config = replace(CONFIG, wyoming="tcp://127.0.0.1:0", wyoming_zeroconf="kitchen")
        with bound_doors(config, needs_token=False) as doors:
            assert doors.wyoming is not None
            async with announced(doors.wyoming, name="kitchen"):
                info = await asyncio.to_thread(look_up)
                assert info is not None
                assert info.port == doors.wyoming_port
                assert info.parsed_addresses() == ["127.0.0.1"]

    def look_up() -> Any:
        finder = Zeroconf(ip_version=IPVersion.V4Only)
        try:
            return finder.get_service_info(SERVICE_TYPE, f"kitchen.{SERVICE_TYPE}", timeout=5000)
        finally:
            finder.close()

    run(talk())
