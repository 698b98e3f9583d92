"""What the loudspeaker gets: the daemon's samples, exactly, and silence as soon as it is wanted."""

import asyncio
import json

import numpy as np
import opuslib_next
from websockets.asyncio.client import connect

from chatterboxd_client.spawn import OwnDaemon
from daemon.wire.protocol import AudioFormat, AudioMessage
from tests.web.stage import NUM_TRIES, TAPPED, Samples, Stage, aligned, on_stage

TEXT = "All work and no play makes Jack a dull boy. And so it goes, on and on, to the very end."
LONG = TEXT * 20


async def opus_of(own: OwnDaemon, text: str, *, voice: str = "sine") -> Samples:
    """What a client of another make decodes at 48 kHz, as section 3 of docs/protocol.md says."""
    packets = await packets_of(own, text, voice=voice, audio_format="opus")
    decoder = opuslib_next.Decoder(48_000, 1)
    parts = []
    for packet in packets:
        raw = np.frombuffer(decoder.decode_float(packet.payload, 960), dtype=np.float32)
        start = 312 if packet.sequence == 0 else 0
        parts.append(raw[start:][: 2 * packet.num_samples])
    return np.concatenate(parts)


async def pcm_of(own: OwnDaemon, text: str) -> Samples:
    packets = await packets_of(own, text, voice="sine", audio_format="pcm_s16le")
    raw = b"".join(packet.payload for packet in packets)
    return np.frombuffer(raw, dtype="<i2").astype(np.float32) / np.float32(32767)


async def packets_of(
    own: OwnDaemon, text: str, *, voice: str, audio_format: str
) -> list[AudioMessage]:
    packets: list[AudioMessage] = []
    async with connect(own.url, compression=None) as socket:
        for message in (
            {"type": "open", "voice": voice, "format": audio_format, "max_lead_ms": 120_000},
            {"type": "text", "text": text},
            {"type": "end"},
        ):
            await socket.send(json.dumps(message | {"context": "a"}))
        async for data in socket:
            if isinstance(data, bytes):
                packets.append(AudioMessage.from_bytes(data))
            elif json.loads(data)["type"] == "audio_end":
                break
    assert {packet.format for packet in packets} <= set(AudioFormat)
    return packets


def test_opus_comes_out_as_any_decoder_gives_it() -> None:
    """A seam, a lost pre-skip, a click or an underrun: each moves or changes samples."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await stage.until_ready()
        assert await stage.page.inner_text("#format") == "Opus, decoded by this browser"
        await stage.tap()
        expected = await opus_of(own, TEXT)
        captured = await stage.heard_without_underrun(TEXT)
        assert (await stage.captured()).rate == 48_000
        heard = aligned(captured, expected)
        assert np.abs(heard - expected).max() < 2e-3
        assert np.count_nonzero(np.abs(captured) > 0.01) == np.count_nonzero(np.abs(heard) > 0.01)

    on_stage(scenario, **TAPPED)


def test_without_webcodecs_pcm_comes_and_the_page_says_so() -> None:
    """Safari before 26 has no AudioDecoder; its users must hear the same, bit for bit."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await stage.until_ready()
        said = await stage.page.inner_text("#format")
        assert said == "PCM, not compressed: this browser has no WebCodecs AudioDecoder"
        await stage.tap()
        expected = await pcm_of(own, TEXT)
        captured = await stage.heard_without_underrun(TEXT)
        assert (await stage.captured()).rate == 24_000
        assert np.abs(aligned(captured, expected) - expected).max() < 1e-6

    on_stage(scenario, **TAPPED, init="delete globalThis.AudioDecoder;")


def test_a_decoder_that_fails_is_replaced_by_pcm() -> None:
    """A browser may promise Opus and not keep it; the next utterance must sound."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await stage.until_ready()
        await stage.type_and_enter("This one is lost.")
        assert (await stage.until_seen("close"))["code"] == "undecodable"
        await stage.page.wait_for_function("() => chatterbox.player.format === 'pcm_s16le'")
        await stage.until_ready()
        await stage.type_and_enter("This one is heard.")
        assert (await stage.until_seen("close", count=2))["reason"] == "ended"

    broken = "AudioDecoder.prototype.decode = function () { throw new Error('no such codec'); };"
    on_stage(scenario, init=broken)


def test_stop_is_silence_within_fifty_milliseconds_and_without_a_click() -> None:
    """From the key press, by the clock of the audio device; the daemon learns what was heard."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await stage.until_ready()
        await stage.tap()
        await stage.page.evaluate(
            """() => document.addEventListener("keydown", ({ key }) => {
              if (key === "Escape") window.pressedAt = chatterbox.player.output.context.currentTime;
            }, { capture: true })"""
        )
        latencies_ms = []
        for attempt in range(1, NUM_TRIES + 1):
            await stage.type_and_enter(LONG)
            await stage.until_seen("sound", count=attempt)
            await asyncio.sleep(0.6)
            await stage.page.keyboard.press("Escape")
            ending = await stage.until_seen("close", count=attempt)
            captured = await stage.captured()
            last = captured.first_frame + int(np.flatnonzero(captured.samples)[-1])
            pressed_s = await stage.page.evaluate("pressedAt")
            latencies_ms.append((last / captured.rate - pressed_s) * 1000)
            assert ending["reason"] == "cancelled"
            assert LONG.startswith(ending["textSpoken"])
            assert ending["textSpoken"] + ending["textRemaining"] == LONG
            assert 0 < ending["playedMs"] < 20_000
        # A tone of 0.25 at 880 Hz or less moves by 0.03 from sample to sample; a cut would be more.
        assert np.abs(np.diff((await stage.captured()).samples)).max() < 0.06
        assert min(latencies_ms) > -20
        assert np.median(latencies_ms) <= 50

    on_stage(scenario, **TAPPED)


def test_speaking_again_cuts_off_the_old_and_says_the_new_whole() -> None:
    """A late packet of the old one among the new would be a word from nowhere."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await stage.until_ready()
        await stage.tap()
        expected = await opus_of(own, TEXT, voice="low")
        for attempt in range(1, NUM_TRIES + 1):
            await stage.page.evaluate("text => { chatterbox.player.speak(text); }", LONG)
            await stage.until_seen("sound", count=2 * attempt - 1)
            await asyncio.sleep(0.3)
            frame = (await stage.captured()).samples.size
            await stage.page.evaluate(
                "text => { chatterbox.player.speak(text, { voice: 'low' }); }", TEXT
            )
            second = await stage.until_seen("close", count=2 * attempt)
            first = await stage.until_seen("close", count=2 * attempt - 1)
            assert (first["reason"], second["reason"]) == ("cancelled", "ended")
            started = (await stage.seen("start"))[-1]
            underruns = [item["name"] for item in await stage.seen("underrun")]
            assert started["name"] == second["name"]
            if second["name"] not in underruns:
                break
        tail = (await stage.captured()).samples[frame:]
        places = np.flatnonzero(np.abs(tail) > 0.01)
        second_at = places[-1] - np.flatnonzero(np.abs(expected) > 0.01)[-1]
        assert np.abs(tail[second_at:][: expected.size] - expected).max() < 2e-3

    on_stage(scenario, **TAPPED)


def test_what_is_typed_is_spoken_while_it_is_typed() -> None:
    """Waiting for the end of the text is what this page is not for."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await stage.until_ready()
        await stage.page.click("text=While typing")
        await stage.page.focus("#text")
        await stage.page.keyboard.type("One two three, and that was one whole phrase. Then ")
        await stage.until_seen("sound")
        assert await stage.page.inner_text("#reading") != ""
        await stage.page.keyboard.type("comes another one.")
        ending = await stage.until_seen("close")
        assert ending["reason"] == "ended"
        texts = [segment["text"].strip() for segment in await stage.seen("segment")]
        assert " ".join(texts).replace(" ", "") == (
            "One two three, and that was one whole phrase. Then comes another one."
        ).replace(" ", "")

    on_stage(scenario)


def test_the_word_that_is_heard_is_the_one_that_is_marked() -> None:
    """By the daemon's times, not by a guess; at every moment that the player tells of."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await stage.until_ready()
        assert await stage.page.is_hidden("#estimated"), "this engine's times are exact"
        await stage.page.evaluate(
            """() => {
              window.marked = [];
              chatterbox.player.addEventListener("level", ({ detail }) => {
                const word = document.querySelector(".reading .now")?.textContent;
                if (word) marked.push([detail.utterance.heardMs, word]);
              });
            }"""
        )
        await stage.type_and_enter(TEXT)
        assert (await stage.until_seen("close"))["reason"] == "ended"
        words = [word for event in await stage.seen("words") for word in event["words"]]
        assert [word["text"] for word in words] == TEXT.split()
        marked = await stage.page.evaluate("() => marked")
        assert len(marked) > 20
        assert {word for _, word in marked} >= {"All", "dull", "end."}
        for heard_ms, word in marked:
            begun = [item for item in words if item["sample"] / 24 <= heard_ms]
            # The clock goes on between the mark and this look at it.
            assert word in {item["text"] for item in begun[-2:]}, (heard_ms, word)

    on_stage(scenario)


def test_the_demo_sounds_before_it_is_written() -> None:
    """It shows what the daemon is for: speech while a language model still writes."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await stage.until_ready()
        await stage.page.click("#demo")
        await stage.until_seen("sound")
        written = len(await stage.page.inner_text("#reading"))
        assert 0 < written < 300
        await stage.page.wait_for_selector(".reading .now")
        await stage.page.wait_for_function(
            "() => document.querySelectorAll('.reading .said').length > 4"
        )
        await stage.page.keyboard.press("Escape")
        assert (await stage.until_seen("close"))["reason"] == "cancelled"

    on_stage(scenario)


def test_a_page_of_text_with_everything_in_it_is_taken() -> None:
    """Message limits, surrogate pairs at a cut, lone surrogates: pasted text has them all."""

    async def scenario(stage: Stage, own: OwnDaemon) -> None:
        await stage.until_ready()
        text = "Grüße, 😀 and all that.\n" * 1200
        await stage.page.evaluate("text => { chatterbox.player.speak(text + '\\ud83d'); }", text)
        await stage.until_seen("sound")
        assert not await stage.seen("refused")
        assert await stage.notice() == ""
        await stage.page.keyboard.press("Escape")
        ending = await stage.until_seen("close")
        assert ending["textSpoken"] + ending["textRemaining"] == text + "\ufffd"

    on_stage(scenario)
