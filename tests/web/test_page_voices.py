"""A voice of one's own, made on the page: from a file or the microphone, to its deletion."""

import asyncio
import io
import os
import wave
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chatterboxd_client.session import SpeechClient
from tests.e2e.owners import COMMAND
from tests.e2e.wire import Running, running
from tests.fakes import CloningSineEngine
from tests.web.stage import LONGEST_TEST_S, Stage, chromium

PITCH_HZ = 440


def wav(seconds: float, *, rate: int = 48_000) -> bytes:
    """A tone."""
    tone = np.sin(2 * np.pi * PITCH_HZ / rate * np.arange(round(seconds * rate)))
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((0.5 * 32767 * tone).astype("<i2").tobytes())
    return out.getvalue()


def on_stage(
    scenario: Callable[[Stage, Running, CloningSineEngine], Awaitable[None]],
    *,
    browser: Sequence[str] = (),
    **changes: Any,
) -> None:
    """A daemon in this process that makes voices for everybody, and one page of it."""
    settings: dict[str, Any] = {"cloning": "all", "ping_s": 60.0, **changes}

    async def run() -> None:
        async with (
            asyncio.timeout(LONGEST_TEST_S),
            chromium(browser) as chrome,
            running(
                build=CloningSineEngine,
                clone_command=COMMAND,
                **settings,
            ) as daemon,
        ):
            stage = await Stage.open(chrome, f"http://127.0.0.1:{daemon.port}/")
            await stage.until_ready()
            assert isinstance(daemon.engine, CloningSineEngine)
            await scenario(stage, daemon, daemon.engine)
            assert not stage.troubles
            await stage.page.context.close()

    asyncio.run(run())


async def until_told(stage: Stage, text: str) -> str:
    """Until the card says so; all that it says then."""
    await stage.page.wait_for_function(
        "(text) => document.querySelector('#own-state').textContent.includes(text)", arg=text
    )
    return await stage.page.inner_text("#own-state")


async def choose(stage: Stage, clip: bytes, *, name: str) -> None:
    file: Any = {"name": "clip.wav", "mimeType": "audio/wav", "buffer": clip}
    await stage.page.set_input_files("#own-file", [file])
    await stage.page.fill("#own-name", name)


async def chosen_voices(stage: Stage) -> list[str]:
    return await stage.page.locator("#set-voice option").all_text_contents()


def test_a_file_becomes_a_voice_that_speaks_and_is_deleted() -> None:
    """The whole way of it, with a clip of many messages, while the page speaks on."""
    clip = wav(8.0)

    async def scenario(stage: Stage, daemon: Running, engine: CloningSineEngine) -> None:
        page = stage.page
        await page.click("#settings summary")
        await page.click("#own-voices summary")
        await choose(stage, clip, name="Anna <b>")
        await page.click("#own-send")
        assert not engine.added, "nothing goes without consent"
        assert await page.inner_text("#own-state") == ""
        await page.check("#own-consent")
        await page.click("#own-send")
        await until_told(stage, "The voice Anna <b> is ready")
        ((voice, content),) = engine.added.items()
        assert content == b"voice of " + clip
        await page.wait_for_function(
            "(voice) => document.querySelector('#set-voice').value === voice", arg=voice
        )
        assert await chosen_voices(stage) == ["sine", "low", "Anna <b>"]
        assert not await page.is_checked("#own-consent"), "the next clip needs an answer of its own"
        await stage.type_and_enter("Hello from me.")
        assert (await stage.until_seen("opened"))["voice"] == voice
        assert (await stage.until_seen("close"))["reason"] == "ended"
        await page.reload()
        await stage.until_ready()
        await page.wait_for_function("() => document.querySelector('#own-list li') !== null")
        await page.click("#own-voices summary")
        assert "30 days left" in await page.inner_text("#own-list li")
        assert await page.input_value("#set-voice") == voice, "the choice is remembered"
        await page.click("#own-list button")
        await page.wait_for_function("() => document.querySelector('#own-list li') === null")
        assert not engine.added
        assert await chosen_voices(stage) == ["sine", "low"]
        await stage.type_and_enter("Hello from another one.")
        assert (await stage.until_seen("opened"))["voice"] == "sine"

    on_stage(scenario)


def test_the_microphone_is_recorded_as_it_is(tmp_path: Path) -> None:
    """What MediaRecorder writes the daemon could not read; what a wrong header says would be heard
    as another pitch."""
    heard = tmp_path / "tone.wav"
    heard.write_bytes(wav(20.0))
    browser = [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={heard}",
    ]

    async def scenario(stage: Stage, daemon: Running, engine: CloningSineEngine) -> None:
        page = stage.page
        await page.click("#own-voices summary")
        await page.click("#own-record")
        await until_told(stage, "Recording, 2 s")
        await page.click("#own-record")
        told = await until_told(stage, "Recorded ")
        await page.fill("#own-name", "Me")
        await page.check("#own-consent")
        await page.click("#own-send")
        await until_told(stage, "is ready")
        (content,) = engine.added.values()
        with wave.open(io.BytesIO(content.removeprefix(b"voice of "))) as file:
            rate, num_frames = file.getframerate(), file.getnframes()
            assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
            samples = np.frombuffer(file.readframes(num_frames), dtype="<i2") / 32767
        assert f"{num_frames / rate:.1f} s" in told
        assert num_frames > rate
        middle = samples[rate // 2 : rate]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(middle.size)))
        assert abs(np.argmax(spectrum) * rate / middle.size - PITCH_HZ) < 5
        assert 0.2 < np.abs(middle).max() <= 1.0

    on_stage(scenario, browser=browser)


def test_what_is_wrong_with_a_clip_is_told_and_the_next_one_works() -> None:
    """An error that ends in the console leaves a person before a silent page."""

    async def scenario(stage: Stage, daemon: Running, engine: CloningSineEngine) -> None:
        page = stage.page
        await page.click("#own-voices summary")
        await page.fill("#own-name", "x")
        await page.check("#own-consent")
        await page.click("#own-send")
        await until_told(stage, "Choose a file")
        for clip, told in (
            (b"", "That file is empty"),
            (b"SILENT", "No voice: the clip is silent. Send another clip"),
            (b"CRASH", "No voice: the process that makes voices died"),
            (b"x" * 3000, "No voice: 3000 bytes are more than 2000"),
        ):
            await choose(stage, clip, name="x")
            await page.click("#own-send")
            await until_told(stage, told)
            assert await stage.notice() == ""
        await choose(stage, b"LOUD", name="y")
        await page.click("#own-send")
        assert "a bit loud" in await until_told(stage, "The voice y is ready")
        await page.wait_for_selector("#own-full", state="visible")
        assert await page.is_disabled("#own-send")

    on_stage(scenario, max_clip_bytes=2000, max_voices_per_token=1)


def test_the_card_is_there_only_where_clips_are_taken() -> None:
    """A form that can only fail is worse than none."""

    async def scenario(stage: Stage, daemon: Running, engine: CloningSineEngine) -> None:
        assert await stage.page.is_hidden("#own-voices")
        assert await stage.page.evaluate("chatterbox.player.offer.cloning ?? null") is None

    on_stage(scenario, cloning="tokens")


def test_an_upload_that_is_cut_off_is_told() -> None:
    """The daemon goes away in the middle: the form must not wait for ever."""

    async def scenario(stage: Stage, daemon: Running, engine: CloningSineEngine) -> None:
        page = stage.page
        await page.click("#own-voices summary")
        await choose(stage, b"HANG", name="x")
        await page.check("#own-consent")
        await page.click("#own-send")
        await until_told(stage, "Making the voice")
        daemon.daemon.stop()
        await until_told(stage, "No voice: the connection broke")
        assert not await page.is_disabled("#own-send")

    on_stage(scenario)


def test_a_file_that_changed_is_told_and_leaves_no_half_upload(tmp_path: Path) -> None:
    """Edited or deleted after it was chosen, it cannot be read any more: the page said nothing, and
    the daemon refused the next clip until it had waited for the rest of this one."""
    clip = tmp_path / "clip.wav"
    clip.write_bytes(wav(1.0))

    async def scenario(stage: Stage, daemon: Running, engine: CloningSineEngine) -> None:
        page = stage.page
        await page.click("#own-voices summary")
        await page.set_input_files("#own-file", clip)
        await page.fill("#own-name", "x")
        await page.check("#own-consent")
        clip.write_bytes(wav(2.0))
        os.utime(clip, (1, 1))
        await page.click("#own-send")
        await until_told(stage, "No voice: the file cannot be read. Choose it again.")
        await choose(stage, b"good", name="y")
        await page.click("#own-send")
        await until_told(stage, "The voice y is ready")

    on_stage(scenario)


def test_a_deletion_does_not_offer_a_second_upload() -> None:
    """The list that comes after it found the form ready for the next clip, though one was being
    made, and the daemon refused that."""

    async def scenario(stage: Stage, daemon: Running, engine: CloningSineEngine) -> None:
        page = stage.page
        await page.click("#own-voices summary")
        await choose(stage, b"first", name="first")
        await page.check("#own-consent")
        await page.click("#own-send")
        await page.wait_for_selector("#own-list li")
        await choose(stage, b"HANG", name="second")
        await page.check("#own-consent")
        await page.click("#own-send")
        await until_told(stage, "Making the voice")
        await page.click("#own-list button")
        await page.wait_for_function("() => document.querySelector('#own-list li') === null")
        assert await page.is_disabled("#own-send")

    on_stage(scenario)


def test_a_voice_that_is_gone_already_leaves_the_list() -> None:
    """Deleted in another window, or expired: its entry stayed, with a button that was dead."""

    async def scenario(stage: Stage, daemon: Running, engine: CloningSineEngine) -> None:
        page = stage.page
        await page.click("#own-voices summary")
        await choose(stage, b"first", name="first")
        await page.check("#own-consent")
        await page.click("#own-send")
        await page.wait_for_selector("#own-list li")
        async with await SpeechClient.connect(daemon.url) as other_window:
            (facts,) = await other_window.own_voices()
            await other_window.delete_voice(facts.voice)
        await page.click("#own-list button")
        await page.wait_for_function("() => document.querySelector('#own-list li') === null")
        assert facts.voice in await stage.notice()

    on_stage(scenario)
