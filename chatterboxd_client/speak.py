"""Text in, a WAV file out (and sound, if the machine can), through a daemon over a WebSocket.

What `make speak` runs. Sends the text in small pieces as a language model would write it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.http11 import Response

from chatterboxd_client.context import ClientContext, ConnectionLost, DaemonError
from chatterboxd_client.listening import (
    AUDIBLE_DBFS,
    AUDIBLE_WINDOW_MS,
    Audio,
    BrokenStream,
    Timings,
)
from chatterboxd_client.player import Player
from chatterboxd_client.session import SpeechClient
from chatterboxd_client.spawn import DaemonDidNotStart, own_daemon
from chatterboxd_client.speaking import Speaking, say, write_wav
from daemon.config import ENGINES
from daemon.wire.protocol import Failed, Warned

PIECE_CHARS = 4
PIECE_INTERVAL_S = 0.016
"""62 pieces a second: a fast language model."""
PROGRESS_INTERVAL_S = 0.1

_EPILOG = f"""\
The last line on standard output is one JSON object:
  first_audio_ms    first text byte sent until the packet with the first audible sample arrived
                    (audible: {AUDIBLE_WINDOW_MS} ms whose RMS is above {AUDIBLE_DBFS:.0f} dBFS);
                    the start of the daemon is not in it; null if nothing was audible
  audio_s           seconds of audio received
  real_time_factor  first text byte sent until the last audio arrived, divided by audio_s. The
                    daemon is asked for its longest lead, so that nothing waits for playback; the
                    time that the text takes to be written ({PIECE_CHARS} characters every
                    {1000 * PIECE_INTERVAL_S:.0f} ms) is in it; null without audio
  packets           audio messages received
Exit status: 0 if the text was spoken, 1 if it was not, 2 for a wrong command line,
128 + the signal's number when interrupted.
"""


class CannotSpeak(Exception):
    """The reason in words for the user, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The command line."""

    text: str
    out: Path
    url: str | None
    token: str | None
    engine: str
    format: str
    voice: str | None
    seed: int | None
    play: str
    daemon_arguments: tuple[str, ...]


def parse_arguments(arguments: list[str] | None = None) -> Wish:
    parser = argparse.ArgumentParser(
        prog="python -m chatterboxd_client.speak",
        description="Speak a text into a WAV file through a daemon. Without --url, one is started"
        " for the while; it takes the options that are not listed here (python -m daemon --help).",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--text", required=True, help="what to say")
    parser.add_argument(
        "--out", type=Path, default=Path("speech.wav"), help="the WAV file (default: speech.wav)"
    )
    parser.add_argument("--url", help="speak through this running daemon, such as ws://host:8765")
    parser.add_argument("--token", help="with --url: if the daemon asks for one")
    parser.add_argument(
        "--engine", choices=ENGINES, default=ENGINES[0], help="of the daemon started here"
    )
    parser.add_argument("--format", default="opus", help="opus or pcm_s16le (default: opus)")
    parser.add_argument("--voice", help="default: the daemon's")
    parser.add_argument("--seed", type=int, help="another number, another reading (default: 0)")
    parser.add_argument(
        "--play",
        choices=("auto", "always", "never"),
        default="auto",
        help="play while the audio arrives; auto: if standard output is a terminal",
    )
    known, others = parser.parse_known_args(arguments)
    if others and known.url is not None:
        parser.error(f"with --url, no daemon is started that could take {' '.join(others)}")
    if known.token is not None and known.url is None:
        parser.error("--token is for the daemon of --url; one that is started here asks for none")
    return Wish(**vars(known), daemon_arguments=tuple(others))


def pieces_of(text: str) -> Iterator[str]:
    """The text in pieces of up to four characters, white space before a word being extra."""
    yield from re.findall(rf"\s*\S{{1,{PIECE_CHARS}}}|\s+", text)


class Progress:
    """What happens, on standard error: one line rewritten on a terminal, milestones elsewhere."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._shown_at = 0.0

    def milestone(self, line: str) -> None:
        self._write(("\r\033[K" if self._on_terminal else "") + line + "\n")

    def passing(self, line: str) -> None:
        now = time.monotonic()
        if self._on_terminal and now - self._shown_at > PROGRESS_INTERVAL_S:
            self._shown_at = now
            self._write("\r\033[K" + line)

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


@contextlib.asynccontextmanager
async def _daemon_url(wish: Wish, progress: Progress) -> AsyncIterator[str]:
    """The URL that was asked for, or the one of a daemon that lives as long as the block."""
    if wish.url is not None:
        yield wish.url
        return
    started_at = time.monotonic()
    progress.milestone("starting a daemon and loading the voice ...")
    async with own_daemon(
        ["--engine", wish.engine, *wish.daemon_arguments],
        on_wait=lambda waited_s: progress.passing(f"loading ... {waited_s:.0f} s"),
    ) as daemon:
        progress.milestone(f"ready after {time.monotonic() - started_at:.1f} s")
        try:
            yield daemon.url
        except ConnectionLost as error:
            raise CannotSpeak(f"the daemon went away: {error}\n{daemon.said()}") from error


async def _connect(url: str, token: str | None) -> SpeechClient:
    try:
        return await SpeechClient.connect(url, token=token)
    except InvalidStatus as error:
        raise CannotSpeak(_refusal(url, error.response)) from error
    except (InvalidHandshake, InvalidURI, BrokenStream) as error:
        raise CannotSpeak(f"{url} is not a chatterboxd daemon: {error}") from error
    except OSError as error:
        raise CannotSpeak(
            f"nobody answers at {url} ({error}); `make serve` starts a daemon"
        ) from error


def _refusal(url: str, response: Response) -> str:
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        return f"the daemon at {url} wants another token, or one at all: --token"
    wait_s = response.headers.get("Retry-After")
    if wait_s is None:
        return f"{url} answers {response.status_code} {response.reason_phrase}"
    return f"the daemon at {url} is full or shutting down; try again in {wait_s} s"


async def written_like_by_a_model(text: str) -> AsyncIterator[str]:
    """The pieces on a steady beat, however long whoever takes them needs."""
    loop = asyncio.get_running_loop()
    next_at = loop.time()
    for piece in pieces_of(text):
        await asyncio.sleep(next_at - loop.time())
        yield piece
        next_at += PIECE_INTERVAL_S


async def write_like_a_model(context: ClientContext, text: str) -> None:
    async for piece in written_like_by_a_model(text):
        await context.send_text(piece)
    await context.end()


class Listening:
    """Collects the audio of one context, and plays and reports it meanwhile."""

    def __init__(self, speaking: Speaking, *, player: Player | None, progress: Progress):
        self._speaking = speaking
        self._player = player
        self._progress = progress
        self._parts: list[NDArray[np.int16]] = []
        self._is_first_audio_told = False

    async def until_the_end(self) -> NDArray[np.int16]:
        async for event in self._speaking.events():
            if isinstance(event, Audio):
                self._take(event)
            elif isinstance(event, Warned):
                self._progress.milestone(f"warning: {event.message} ({event.code})")
            elif isinstance(event, Failed):
                raise DaemonError(event)
        return np.concatenate([np.zeros(0, np.int16), *self._parts])

    def _take(self, audio: Audio) -> None:
        self._parts.append(audio.samples)
        if self._player is not None:
            self._player.play(audio.samples)
        timings = self._speaking.context.timings
        first_audio_ms = timings.first_audio_ms
        if first_audio_ms is not None and not self._is_first_audio_told:
            self._is_first_audio_told = True
            self._progress.milestone(f"first audio after {first_audio_ms:.0f} ms")
        self._progress.passing(f"{timings.audio_s:.1f} s of audio received")


async def _hear(wish: Wish, client: SpeechClient, progress: Progress) -> Timings:
    _check_choice("voice", wish.voice, client.begin.voices)
    _check_choice("format", wish.format, client.begin.formats)
    speaking = await say(
        client,
        written_like_by_a_model(wish.text),
        voice=wish.voice,
        format=wish.format,
        seed=wish.seed,
        max_lead_ms=client.begin.limits.lead_ms_max,
    )
    context = speaking.context
    progress.milestone(f"sending {len(wish.text)} characters, {PIECE_CHARS} at a time ...")
    is_playing = wish.play == "always" or (wish.play == "auto" and sys.stdout.isatty())
    sample_rate = client.begin.sample_rate
    player = await Player.start(sample_rate=sample_rate) if is_playing else None
    try:
        samples = await Listening(speaking, player=player, progress=progress).until_the_end()
        write_wav(wish.out, samples, sample_rate=sample_rate)
        progress.milestone(f"{context.timings.audio_s:.1f} s of audio written to {wish.out}")
        if player is not None:
            progress.passing(f"playing through {player.name} ...")
            if not await player.finish():
                progress.milestone(f"{player.name} could not play it; the file is there")
    finally:
        if player is not None:
            await player.stop()
    return context.timings


def _check_choice(name: str, wanted: str | None, offered: Sequence[str]) -> None:
    if wanted is not None and wanted not in offered:
        raise CannotSpeak(f"there is no {name} {wanted!r} here; there is {', '.join(offered)}")


def check_writable(path: Path) -> None:
    target = path if path.exists() else path.absolute().parent
    if path.is_dir() or not target.exists() or not os.access(target, os.W_OK):
        raise CannotSpeak(f"{path} cannot be written; name another file with --out (make: OUT=)")


def report(timings: Timings) -> str:
    first_audio_ms, factor = timings.first_audio_ms, timings.real_time_factor
    return json.dumps(
        {
            "first_audio_ms": None if first_audio_ms is None else round(first_audio_ms, 1),
            "audio_s": round(timings.audio_s, 3),
            "real_time_factor": None if factor is None else round(factor, 4),
            "packets": timings.num_packets,
        }
    )


async def speak(wish: Wish) -> Timings:
    """Raises `CannotSpeak`; the daemon, if it is ours, is gone when this returns or raises."""
    check_writable(wish.out)
    progress = Progress()
    try:
        async with (
            _daemon_url(wish, progress) as url,
            await _connect(url, wish.token) as client,
        ):
            return await _hear(wish, client, progress)
    except (DaemonError, DaemonDidNotStart) as error:
        raise CannotSpeak(str(error)) from error
    except (ConnectionLost, BrokenStream) as error:
        raise CannotSpeak(f"the connection broke: {error}. Try again") from error


async def _speak_until_a_signal(wish: Wish) -> int:
    """Signals cancel the work, which stops the daemon on its way out; a second one forces that."""
    caught: list[signal.Signals] = []
    work = asyncio.ensure_future(speak(wish))

    def on_signal(received: signal.Signals) -> None:
        caught.append(received)
        work.cancel()

    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(wanted, on_signal, wanted)
    try:
        timings = await work
    except CannotSpeak as error:
        Progress().milestone(f"speak: {error}")
        return 1
    except asyncio.CancelledError:
        Progress().milestone("speak: interrupted")
        return 128 + caught[0]
    sys.stdout.write(report(timings) + "\n")
    return 0


def main() -> None:
    sys.exit(asyncio.run(_speak_until_a_signal(parse_arguments())))


if __name__ == "__main__":
    main()
