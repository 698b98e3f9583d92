"""`say`, awaited and blocking, against a real daemon: strings, growing texts, cancel, play."""

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from chatterboxd_client import (
    BlockingSpeechClient,
    ConnectionLost,
    DaemonError,
    NoPlayer,
    SpeechClient,
    connected,
    say,
)
from tests.e2e.owners import ANNA, studio
from tests.e2e.wire import Running, run, running
from tests.fakes import RecordingEngine

TEXT = "Hello there. How are you today?"


async def growing() -> AsyncIterator[str]:
    for piece in ("Hello the", "re. How a", "re you today?"):
        await asyncio.sleep(0.01)
        yield piece


def slow() -> RecordingEngine:
    return RecordingEngine(samples_per_step=2400, cost_s=0.02)


def test_a_string_and_a_growing_text_are_the_same_speech(tmp_path: Path) -> None:
    """A lost piece, or an end that comes before the last, would be heard."""

    async def talk() -> None:
        async with running() as daemon, connected(daemon.url) as client:
            whole = await (await say(client, TEXT)).collect()
            grown = await (await say(client, growing(), format="pcm_s16le")).collect()
            assert whole.samples.size == grown.samples.size > 24_000
            assert whole.cancelled is None
            assert whole.timings.first_audio_ms is not None
            whole.write_wav(tmp_path / "a.wav")
            assert (tmp_path / "a.wav").stat().st_size == 44 + 2 * whole.samples.size

    run(talk())


def test_a_long_text_goes_in_messages_that_the_daemon_takes() -> None:
    """Where an operator allows short messages only, whatever was said ended the session."""

    def quick() -> RecordingEngine:
        return RecordingEngine(samples_per_char=100)

    async def talk() -> None:
        async with (
            running(build=quick, max_message_bytes=1024) as daemon,
            connected(daemon.url) as client,
        ):
            text = "A sentence of some length, and one more after it. " * 50
            spoken = await (await say(client, text, language="en", max_lead_ms=60_000)).collect()
            assert spoken.words[-1].end >= len(text) - 5

    run(talk())


def test_who_leaves_after_busy_is_not_kept() -> None:
    """`async with say(…)` waited for ever for the acknowledgement of a context that was no more."""

    def slow_one() -> RecordingEngine:
        return RecordingEngine(num_slots=1, samples_per_step=240, cost_s=0.05)

    async def talk() -> None:
        async with (
            running(build=slow_one, num_slots=1, max_wait_ms=50) as daemon,
            connected(daemon.url) as client,
            await say(client, "The only slot is taken by this. " * 5),
        ):
            await daemon.until(lambda: bool(daemon.engine.diary.busy))
            with pytest.raises(DaemonError, match="busy"):
                async with await say(client, "Me too!") as second:
                    await second.collect()

    run(talk())


def test_cancel_says_what_was_heard() -> None:
    """Barge-in: the model's history must hold what was said, and nothing else."""

    async def talk() -> None:
        async with running(build=slow) as daemon, connected(daemon.url) as client:
            spoken = await say(client, "One two three four five. Six seven eight nine ten.")
            async for _audio in spoken:
                cancelled = await spoken.cancel(played_ms=900)
                break
            assert cancelled.text_spoken + cancelled.text_remaining == (
                "One two three four five. Six seven eight nine ten."
            )
            assert cancelled.text_remaining
            async with await say(client, "Left in the middle of it. " * 20) as left:
                async for _audio in left:
                    break
            await daemon.until(lambda: not daemon.engine.diary.busy)

    run(talk())


def test_a_text_that_fails_is_cancelled_and_told() -> None:
    """When the language model breaks, its error must arrive, and the slot must not hang."""

    async def breaking() -> AsyncIterator[str]:
        yield "So far, so good. "
        raise RuntimeError("the model is gone")

    async def talk() -> None:
        async with running() as daemon, connected(daemon.url) as client:
            broken = await say(client, breaking())
            with pytest.raises(RuntimeError, match="the model is gone"):
                await broken.collect()
            await daemon.until(lambda: not daemon.engine.diary.busy)
            with pytest.raises(DaemonError, match="nobody"):
                await say(client, TEXT, voice="nobody")

    run(talk())


def player_in(folder: Path, monkeypatch: pytest.MonkeyPatch, *, script: str) -> None:
    player = folder / "aplay"
    player.write_text(f"#!/bin/sh\n{script}\n")
    player.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_play_hands_every_sample_to_the_player(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A player that is closed too early swallows the last word."""

    async def talk() -> None:
        player_in(tmp_path, monkeypatch, script=f"cat > {tmp_path}/played")
        async with running() as daemon, connected(daemon.url) as client:
            spoken = await (await say(client, TEXT)).play()
            played = np.frombuffer((tmp_path / "played").read_bytes(), "<i2")
            np.testing.assert_array_equal(played, spoken.samples)
            player_in(tmp_path, monkeypatch, script="exit 1")
            with pytest.raises(NoPlayer, match="could not"):
                await (await say(client, TEXT)).play()
            monkeypatch.setenv("PATH", "/nowhere")
            with pytest.raises(NoPlayer, match="installed"):
                await (await say(client, TEXT)).play()

    run(talk())


def test_cancel_while_it_plays_counts_what_was_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon has sent seconds more than the user heard; only the player's clock knows."""

    async def talk() -> None:
        player_in(tmp_path, monkeypatch, script="cat > /dev/null")
        async with running() as daemon, connected(daemon.url) as client:
            heard = await say(client, "A sentence that goes on. " * 10)
            playing = asyncio.create_task(heard.play())
            timings = heard.context.timings
            await daemon.until(lambda: 0 < (heard.played_ms or 0) < 1000 * (timings.audio_s - 1))
            cancelled = await heard.cancel()
            assert (await playing).cancelled == cancelled
            assert 0 < cancelled.played_ms < 1000 * cancelled.samples_sent / 24_000

    run(talk())


def test_a_token_lets_the_client_in() -> None:
    """A library that cannot show a token is of no use to anybody but its author."""
    token = "a-token-of-some-length"

    async def talk() -> None:
        async with (
            running(tokens=(f"me={token}",)) as daemon,
            await SpeechClient.connect(daemon.url, token=token) as client,
        ):
            assert (await (await say(client, TEXT)).collect()).samples.size

    run(talk())


def test_blocking_calls_do_the_same() -> None:
    """Scripts have no event loop; an iterator that blocks must not stop the audio."""

    def pieces() -> Iterator[str]:
        for piece in ("Hello the", "re. How a", "re you today?"):
            time.sleep(0.01)
            yield piece

    def use(daemon: Running) -> None:
        with BlockingSpeechClient(daemon.url) as client:
            assert client.begin.sample_rate == 24_000
            whole = client.say(TEXT).collect()
            grown = client.say(pieces(), format="pcm_s16le")
            assert sum(audio.samples.size for audio in grown) == whole.samples.size
            heard = client.say("On and on and on. " * 50)
            next(iter(heard))
            assert heard.cancel().text_remaining
            with pytest.raises(DaemonError):
                client.say(TEXT, voice="nobody")
        client.close()
        assert not [thread for thread in threading.enumerate() if thread.name == "speech client"]

    async def talk() -> None:
        async with running(build=slow) as daemon:
            await asyncio.to_thread(use, daemon)

    run(talk())


def test_a_blocking_client_has_voices_made() -> None:
    """A script that makes a voice of a clip had to start an event loop for it."""

    def use(daemon: Running) -> None:
        states: list[str] = []
        with BlockingSpeechClient(daemon.url, token=ANNA) as client:
            ready = client.clone_voice(
                b"clip" * 50_000,
                name="Me",
                consent=True,
                on_progress=lambda state, _ahead: states.append(state),
            )
            assert states == ["making"]
            assert client.say(TEXT, voice=ready.voice).collect().samples.size
            assert [voice.voice for voice in client.own_voices()] == [ready.voice]
            client.delete_voice(ready.voice)
            assert not client.own_voices()
            with pytest.raises(DaemonError, match="consent"):
                client.clone_voice(b"clip", name="Me", consent=False)

    async def talk() -> None:
        async with studio() as daemon:
            await asyncio.to_thread(use, daemon)

    run(talk())


def test_a_blocking_client_may_leave_anything_behind(caplog: pytest.LogCaptureFixture) -> None:
    """A text that is still being written, and a daemon that is gone: `close` must end its thread,
    and asyncio has nothing to complain of."""
    written = threading.Event()

    def pieces() -> Iterator[str]:
        yield "Hello. "
        written.wait(20)
        yield "Too late."

    def use(daemon: Running) -> None:
        with BlockingSpeechClient(daemon.url) as client:
            for _audio in client.say(pieces()):
                break
        written.set()
        with pytest.raises(ConnectionLost, match="closed"):
            client.say(TEXT)
        with BlockingSpeechClient(daemon.url) as lost:
            asyncio.run_coroutine_threadsafe(_abort(lost), lost._loop).result()
            with pytest.raises(ConnectionLost):
                lost.say(TEXT).collect()

    async def _abort(client: BlockingSpeechClient) -> None:
        client._client.abort()

    async def talk() -> None:
        async with running() as daemon:
            await asyncio.to_thread(use, daemon)

    run(talk())
    gc.collect()
    assert not [thread for thread in threading.enumerate() if thread.name == "speech client"]
    assert not caplog.records


def test_nobody_there_is_an_error_and_leaves_no_thread() -> None:
    """A typo in the address must not leave a thread that keeps the script alive."""
    with pytest.raises(ConnectionRefusedError):
        BlockingSpeechClient("ws://127.0.0.1:9")
    assert not [thread for thread in threading.enumerate() if thread.name == "speech client"]
