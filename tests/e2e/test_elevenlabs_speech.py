"""What ElevenLabs' clients hear: audio in every format, and characters whose times cover it."""

import io
from collections.abc import Callable

import av
import pytest

from tests.e2e.elevenlabs import LONG, PCM_BYTES_A_MS, TEXT, Heard, dialled, dialling
from tests.e2e.wire import run, running
from tests.fakes import RecordingEngine, UnhurriedEngine


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
            aligned = [item for item in heard.messages if item.get("alignment")]
            assert len(aligned) > 2
            for item in aligned:
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


def test_a_pause_that_the_text_asks_for_is_part_of_the_alignment() -> None:
    """Left out of it, all words behind the pause would come too early. At the end, too."""

    async def talk() -> None:
        async with dialling() as (_daemon, wire):
            heard = await wire.say("c", 'One. <break time="700ms"/> Two. <break time="700ms"/>')
            assert heard.text.rstrip() == "One. Two."
            assert heard.aligned_ms == len(heard.audio) // PCM_BYTES_A_MS > 1400

    run(talk())


def test_a_long_pause_leaves_while_it_lasts() -> None:
    """Kept until the words behind it, six seconds came when the listener's two had run out: he
    heard ten. And one message of it was more than the SDK's sockets take."""

    async def talk() -> None:
        async with dialling() as (_daemon, wire):
            heard = await wire.say("c", 'One. <break time="3s"/> Two.')
            assert len(heard.audio) > 3000 * PCM_BYTES_A_MS
            assert max(map(len, heard.parts)) <= 500 * PCM_BYTES_A_MS

    run(talk())
