"""A text, or a text that is still being written, in; its speech, to collect or to play, out.

`say` opens a context of a session and writes the text into it in the background.
"""

import asyncio
import contextlib
import time
import wave
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from chatterboxd_client.context import ClientContext, ConnectionLost, ContextEvent, DaemonError
from chatterboxd_client.listening import Audio, BrokenStream, Timings
from chatterboxd_client.player import Player
from chatterboxd_client.session import SpeechClient
from daemon.wire.protocol import Cancelled, Failed, WordTime


class Settings(TypedDict, total=False):
    """What `open` of docs/protocol.md takes."""

    voice: str | None
    format: str | None
    bitrate: int | None
    seed: int | None
    language: str | None
    options: dict[str, float]
    max_lead_ms: int | None
    max_buffer_delay_ms: int | None
    lexicon: dict[str, str] | None


class NoPlayer(Exception):
    """This machine has no program that plays sound, or it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What was said, to the end or to the cancel. `timings` tell how fast it came."""

    samples: NDArray[np.int16]
    sample_rate: int
    timings: Timings
    words: tuple[WordTime, ...]
    """When each word is heard, in samples. `begin.word_times` says how exactly."""
    cancelled: Cancelled | None
    """With the text that was heard and the text that was not, if it was cancelled."""

    def write_wav(self, path: Path | str) -> None:
        write_wav(Path(path), self.samples, sample_rate=self.sample_rate)


class Speaking:
    """Speech on its way. Iterate over it, or `collect`, or `play`; once. As a context manager it is
    cancelled when the block is left too early."""

    def __init__(self, context: ClientContext, text: str | AsyncIterable[str]) -> None:
        self.context = context
        self._playing_since_s: float | None = None
        self._has_failed = False
        self._writing = asyncio.create_task(self._write(text), name="speech client writer")
        # Whoever listens gets what it raised; if nobody does, nobody is to be bothered.
        self._writing.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if not self.context.is_over:
            # It may end otherwise meanwhile, which is nobody's concern any more.
            with contextlib.suppress(DaemonError, ConnectionLost, BrokenStream):
                await self.cancel()
        await self._stop_writing()

    async def _write(self, text: str | AsyncIterable[str]) -> None:
        try:
            if isinstance(text, str):
                await self.context.send_text(text)
            else:
                async for piece in text:
                    await self.context.send_text(piece)
            await self.context.end()
        except (ConnectionLost, BrokenStream, DaemonError):
            return  # whoever listens learns of it from the session
        except Exception:
            self._has_failed = True
            # Without the rest of its text the context would wait for ever.
            await self.context.cancel()
            raise

    async def _stop_writing(self) -> None:
        self._writing.cancel()
        await asyncio.gather(self._writing, return_exceptions=True)

    @property
    def played_ms(self) -> float | None:
        """How much a listener has heard, by the clock; None unless it is being played."""
        if self._playing_since_s is None:
            return None
        return 1000 * min(time.monotonic() - self._playing_since_s, self.context.timings.audio_s)

    async def cancel(self, *, played_ms: float | None = None) -> Cancelled:
        """Stop at once. Returns what of the text was heard, up to `played_ms` if that is known."""
        self._writing.cancel()
        return await self.context.cancel(
            played_ms=self.played_ms if played_ms is None else played_ms
        )

    async def events(self) -> AsyncIterator[ContextEvent]:
        """All that the daemon tells, in order. What the text's own iterator raised is raised here,
        when the speech before it is over."""
        try:
            async for event in self.context.events():
                yield event
            if self._has_failed:
                await self._writing
        finally:
            await self._stop_writing()

    async def __aiter__(self) -> AsyncIterator[Audio]:
        async for event in self.events():
            if isinstance(event, Failed):
                raise DaemonError(event)
            if isinstance(event, Audio):
                yield event

    async def collect(self) -> Spoken:
        return self._spoken([audio.samples async for audio in self])

    async def play(self) -> Spoken:
        """Through the machine's player, while it comes; returns when it was heard. Raises
        `NoPlayer`."""
        player = await Player.start(sample_rate=self.context.timings.sample_rate)
        if player is None:
            await self.cancel()
            raise NoPlayer("neither aplay nor paplay nor ffplay is installed")
        parts = []
        try:
            async for audio in self:
                if self._playing_since_s is None:
                    self._playing_since_s = time.monotonic()
                player.play(audio.samples)
                parts.append(audio.samples)
            spoken = self._spoken(parts)
            if spoken.cancelled is None and not await player.finish():
                raise NoPlayer(f"{player.name} could not play it")
        finally:
            await player.stop()
        return spoken

    def _spoken(self, parts: list[NDArray[np.int16]]) -> Spoken:
        ending = self.context.ending
        return Spoken(
            samples=np.concatenate([np.zeros(0, np.int16), *parts]),
            sample_rate=self.context.timings.sample_rate,
            timings=self.context.timings,
            words=tuple(self.context.words),
            cancelled=ending if isinstance(ending, Cancelled) else None,
        )


async def say(
    client: SpeechClient, text: str | AsyncIterable[str], **settings: Unpack[Settings]
) -> Speaking:
    """Returns once the daemon has opened the context. Raises `DaemonError` if it refuses."""
    return Speaking(await client.open(**settings), text)


@contextlib.asynccontextmanager
async def connected(url: str, *, token: str | None = None) -> AsyncIterator[SpeechClient]:
    async with await SpeechClient.connect(url, token=token) as client:
        yield client


def write_wav(path: Path, samples: NDArray[np.int16], *, sample_rate: int) -> None:
    with path.open("wb") as file, wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(sample_rate)
        wav.setnframes(len(samples))
        wav.writeframes(samples.astype("<i2").tobytes())
