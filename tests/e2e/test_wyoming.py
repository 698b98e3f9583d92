"""Home Assistant's protocol over real sockets: streams, one-shots, what is offered, discovery."""

import asyncio
import ipaddress
from dataclasses import replace
from typing import Any

import pytest
from wyoming.audio import AudioStart, AudioStop
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeVoice,
)

from daemon.dialects.announcing import SERVICE_TYPE, announced
from daemon.dialects.doors import bound_doors
from tests.e2e.home import STREAM, TEXT, answer, home, send, streamed
from tests.e2e.wire import CONFIG, run


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


@pytest.mark.parametrize(
    ("name", "host"), [("kitchen", "127.0.0.1"), ("garage", "0.0.0.0"), ("attic", "[::]")]
)
def test_home_assistant_finds_the_daemon(name: str, host: str) -> None:
    """Discovery saves the user from typing an address; it must name one that others can reach, and
    `::` is no more an address than `0.0.0.0` is."""
    from zeroconf import IPVersion, Zeroconf

    async def talk() -> None:
        config = replace(CONFIG, wyoming=f"tcp://{host}:0", public_without_token=True)
        with bound_doors(config, needs_token=False) as doors:
            assert doors.wyoming is not None
            async with announced(doors.wyoming, name=name):
                info = await asyncio.to_thread(look_up)
                assert info is not None
                assert info.port == doors.wyoming_port
                (address,) = map(ipaddress.ip_address, info.parsed_addresses())
                assert address.is_loopback == (host == "127.0.0.1")
                assert not address.is_unspecified

    def look_up() -> Any:
        finder = Zeroconf(ip_version=IPVersion.V4Only)
        try:
            return finder.get_service_info(SERVICE_TYPE, f"{name}.{SERVICE_TYPE}", timeout=20_000)
        finally:
            finder.close()

    run(talk())
