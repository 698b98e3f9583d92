"""Whatever a client sends, it gets a clear error, and everything else goes on."""

import asyncio
import json
import socket

from websockets.asyncio.client import connect

from daemon.wire.protocol import Cancelled, Failed, Opened
from tests.e2e.wire import run, running
from tests.fakes import RecordingEngine

OPEN = {"type": "open", "context": "bad"}
BAD_MESSAGES = [
    ("bad_json", "{"),
    ("bad_json", "[]"),
    ("bad_json", '"text"'),
    ("bad_json", '{"type": "cancel", "context": "live", "played_ms": NaN}'),
    ("bad_json", "[" * 30_000),
    ("bad_message", "{}"),
    ("bad_message", {"type": 3}),
    ("bad_message", {"type": "open"}),
    ("bad_message", {"type": "open", "context": ""}),
    ("bad_message", {"type": "open", "context": "x" * 65}),
    ("bad_message", {"type": "open", "context": 5}),
    ("bad_message", '{"type": "open", "context": "\\ud800"}'),
    ("bad_message", OPEN | {"seed": -1}),
    ("bad_message", OPEN | {"seed": 1.5}),
    ("bad_message", OPEN | {"seed": True}),
    ("bad_message", OPEN | {"seed": 2**31}),
    ("bad_message", OPEN | {"options": [1]}),
    ("bad_message", OPEN | {"options": {"speed": "fast"}}),
    ("bad_message", OPEN | {"bitrate": 100}),
    ("bad_message", OPEN | {"bitrate": 32000, "format": "pcm_s16le"}),
    ("bad_message", OPEN | {"max_lead_ms": 10}),
    ("bad_message", OPEN | {"max_lead_ms": 10**9}),
    ("bad_message", OPEN | {"max_buffer_delay_ms": -5}),
    ("bad_message", OPEN | {"max_led_ms": 1000}),
    ("bad_message", {"type": "text", "context": "live"}),
    ("bad_message", {"type": "text", "context": "live", "text": 3}),
    ("bad_message", '{"type": "text", "context": "live", "text": "\\udc00"}'),
    ("bad_message", {"type": "cancel", "context": "live", "played_ms": -1}),
    ("bad_message", {"type": "cancel", "context": "live", "played_ms": "1"}),
    ("unknown_type", {"type": "shout", "context": "live"}),
    ("unknown_voice", OPEN | {"voice": "nobody"}),
    ("unknown_voice", OPEN | {"voice": ""}),
    ("unknown_format", OPEN | {"format": "mp3"}),
    ("unknown_language", OPEN | {"language": "tlh"}),
    ("bad_option", OPEN | {"options": {"warmth": 1}}),
    ("bad_option", OPEN | {"options": {"speed": 3}}),
    ("duplicate_context", {"type": "open", "context": "live"}),
    ("unknown_context", {"type": "text", "context": "nobody", "text": "Hello."}),
    ("unknown_context", {"type": "flush", "context": "nobody"}),
    ("unknown_context", {"type": "end", "context": "nobody"}),
    ("unknown_context", {"type": "cancel", "context": "nobody"}),
    ("text_too_long", {"type": "text", "context": "live", "text": "x" * 2001}),
    ("text_after_end", {"type": "text", "context": "ended", "text": "Hello."}),
    ("text_after_end", {"type": "flush", "context": "ended"}),
    ("text_after_end", {"type": "end", "context": "ended"}),
]


def test_each_bad_message_gets_its_error_and_the_session_goes_on() -> None:
    """One malformed message of one client must not cost anybody a running context."""

    async def talk() -> None:
        async with running(max_text_chars=2000) as daemon, daemon.wire() as wire:
            await wire.send("open", "live", max_buffer_delay_ms=60_000)
            await wire.receive_until(Opened)
            await wire.send("text", "live", text="Hello ")
            # Paced, so that it has ended for the client, but is still being sent.
            await wire.say("ended", "A rather long text. " * 10, max_lead_ms=200)
            await wire.receive_until(Opened)
            for code, message in BAD_MESSAGES:
                raw = message if isinstance(message, str) else json.dumps(message)
                await wire.connection.send(raw)
                error = await wire.receive_until(Failed)
                assert error.code == code, raw[:100]
                assert not error.final
                assert error.message
                assert error.hint
                if isinstance(message, dict) and message.get("context") in ("live", "ended", "bad"):
                    assert error.context == message["context"]
            await wire.send("text", "live", text="there.")
            await wire.send("end", "live")
            assert (await wire.hear("live")).end.text_chars == len("Hello there.")
            await wire.send("cancel", "ended")
            assert (await wire.receive_until(Cancelled)).context == "ended"

    run(talk())


def test_a_hundred_contexts() -> None:
    """Those within the limit speak, each other one is told; nobody is dropped."""

    async def talk() -> None:
        async with running(max_contexts=16) as daemon, daemon.wire() as wire:
            for number in range(100):
                await wire.send("open", f"c{number}")
            for number in range(16):
                await wire.send("text", f"c{number}", text="Hello.")
                await wire.send("end", f"c{number}")
            for number in range(16):
                assert (await wire.hear(f"c{number}")).end.samples
            assert [error.code for error in wire.stray if isinstance(error, Failed)] == [
                "too_many_contexts"
            ] * 84
            assert (await wire.speak("c99", "Hello.")).end.samples

    run(talk())


def test_a_binary_message_closes_its_socket_alone() -> None:
    """Somebody who streams audio at the daemon must be told, not ignored."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as neighbour, daemon.wire() as wire:
            await neighbour.say("a", "Hello there, neighbour. " * 5)
            await wire.connection.send(b"\x00\x01")
            assert await wire.close_code() == 1003
            assert (await neighbour.hear("a")).end.samples

    run(talk())


def test_a_message_that_is_too_long_closes_its_socket_alone() -> None:
    """The limit is what keeps one client from filling the memory."""

    async def talk() -> None:
        async with (
            running(max_message_bytes=2048) as daemon,
            daemon.wire() as neighbour,
            daemon.wire() as wire,
        ):
            assert wire.begin is not None
            assert wire.begin.limits.message_bytes == 2048
            await wire.connection.send("x" * 3000)
            assert await wire.close_code() == 1009
            assert (await neighbour.speak("a", "Hello.")).end.samples

    run(talk())


def test_text_that_is_not_utf8_closes_its_socket_alone() -> None:
    """WebSocket demands 1007; an exception in the reader would give 1011 and a traceback."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as neighbour, daemon.wire() as wire:
            await wire.connection.send(b"\xff\xfe", text=True)
            assert await wire.close_code() == 1007
            assert (await neighbour.speak("a", "Hello.")).end.samples

    run(talk())


def test_noise_on_the_port_harms_nobody() -> None:
    """Port scanners and HTTP clients arrive on every open port."""

    async def talk() -> None:
        async with running() as daemon, daemon.wire() as neighbour:
            for noise in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.0\r\n\r\n", b"", b"A" * 100_000):
                with socket.create_connection(("127.0.0.1", daemon.port)) as plug:
                    plug.setblocking(False)
                    await asyncio.get_running_loop().sock_sendall(plug, noise)
            assert (await neighbour.speak("a", "Hello.")).end.samples

    run(talk())


def test_a_client_may_or_may_not_offer_the_subprotocol() -> None:
    """The library's own choice would be to refuse clients that offer none, or another."""

    async def talk() -> None:
        async with running() as daemon:
            for offered, chosen in (
                (None, None),
                (["chatterboxd.v1"], "chatterboxd.v1"),
                (["soap", "chatterboxd.v1"], "chatterboxd.v1"),
            ):
                async with connect(daemon.url, subprotocols=offered) as connection:  # type: ignore[arg-type]
                    assert connection.subprotocol == chosen
                    assert '"begin"' in str(await connection.recv())

    run(talk())


def test_a_context_without_a_slot_is_told_busy() -> None:
    """Waiting for ever is the worst answer: the caller could have gone elsewhere."""

    async def talk() -> None:
        def build() -> RecordingEngine:
            return RecordingEngine(num_slots=1, samples_per_step=240, cost_s=0.01)

        async with running(build=build, max_wait_ms=200) as daemon, daemon.wire() as wire:
            await wire.say("first", "All work and no play makes Jack a dull boy, they say.")
            while not (wire.heard.get("first") and wire.heard["first"].packets):
                await wire.receive()
            await wire.say("second", "Hello.")
            heard = await wire.hear("second")
            error = heard.messages[-1]
            assert isinstance(error, Failed)
            assert (error.code, error.final, heard.packets) == ("busy", True, [])
            assert not wire.heard["first"].is_over
            await wire.send("cancel", "first")
            await wire.receive_until(Cancelled)
            assert (await wire.speak("second", "Hi.")).end.samples

    run(talk())


def test_a_segment_that_fails_is_left_out() -> None:
    """One cursed sentence must not end the utterance, let alone the daemon."""
    from tests.fakes import FragileEngine

    async def talk() -> None:
        async with running(build=FragileEngine) as daemon, daemon.wire() as wire:
            heard = await wire.speak("a", "Hello there. Now FAIL please. And go on.")
            errors = heard.of(Failed)
            assert [(error.code, error.final) for error in errors] == [("segment_failed", False)]
            assert "cursed" in errors[0].message
            assert heard.end.segments == 2
            assert heard.samples().size == heard.end.samples

    run(talk())
