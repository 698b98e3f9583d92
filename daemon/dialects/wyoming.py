"""Events of Home Assistant's Wyoming protocol in, its audio events out, over TCP.

A connection speaks one text after the other. Nobody can show a token here: who may connect is the
operator's choice of address.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_read_event, async_write_event
from wyoming.info import Attribution, Describe, Info, TtsProgram, TtsVoice
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

from chatterbox.api import SAMPLE_RATE, EngineInfo
from daemon.config import LONGEST_LEAD_MS, SERVER_VERSION
from daemon.door.tokens import Bearer
from daemon.formats.stream import to_int16
from daemon.speaking.outputs import Samples, SegmentTrouble, UtteranceEnded
from daemon.speaking.speech_stream import SpeechStream
from daemon.studio import Refused, Studio
from daemon.wire.errors import BadMessage, EngineFailed, TooManyContexts, WireError
from daemon.wire.protocol import Open

_log = logging.getLogger(__name__)

_ATTRIBUTION = Attribution(name="chatterboxd", url="")
_AUDIO = {"rate": SAMPLE_RATE, "width": 2, "channels": 1}
_LINGER_S = 2.0
"""How long a refused client may go on writing: a socket closed before would take back the error."""


@contextlib.asynccontextmanager
async def serve_wyoming(listener: socket.socket, studio: Studio) -> AsyncIterator[None]:
    """Answers for as long as the block lasts."""
    _notice_the_dead(listener, within_s=studio.offer.config.ping_s)
    tasks: set[asyncio.Task[None]] = set()

    def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_talk(reader, writer, studio), name="wyoming connection")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(
        talk, sock=listener, limit=studio.offer.config.max_message_bytes
    )
    try:
        yield
    finally:
        server.close()
        running = list(tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()


def _notice_the_dead(listener: socket.socket, *, within_s: float) -> None:
    """A client whose cable was pulled says no farewell, and the protocol has no pings of ours: the
    kernel asks. Accepted sockets inherit it."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
        listener.setsockopt(socket.IPPROTO_TCP, option, max(1, round(within_s)))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, studio: Studio) -> None:
    try:
        await _Connection(reader, writer, studio).run()
    except ConnectionError:
        _log.debug("a Wyoming client went away")
    except TimeoutError:
        _log.warning("a Wyoming client does not read")
        writer.transport.abort()
    except Exception:  # noqa: BLE001 - logged; the other connections go on
        _log.exception("a Wyoming connection failed")
    finally:
        writer.close()


class _BoundedReader(asyncio.StreamReader):
    """The library believes whatever length a client announces; nothing here needs a long one."""

    def __init__(self, inner: asyncio.StreamReader, *, most_bytes: int) -> None:
        self._inner = inner
        self._most_bytes = most_bytes

    async def readline(self) -> bytes:
        return await self._inner.readline()

    async def readexactly(self, n: int) -> bytes:
        if n > self._most_bytes:
            raise BadMessage(f"{n} bytes are more than {self._most_bytes}")
        return await self._inner.readexactly(n)

    async def discard(self) -> None:
        """All that still comes, until the client is gone."""
        while await self._inner.read(self._most_bytes):
            pass


class _Connection:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, studio: Studio
    ) -> None:
        config = studio.offer.config
        self._reader = _BoundedReader(reader, most_bytes=config.max_message_bytes)
        self._writer = writer
        # What is written is with the kernel: nothing of it is lost when the daemon ends.
        writer.transport.set_write_buffer_limits(high=0)
        self._studio = studio
        self._config = config
        self._name = studio.new_name("wyoming")
        self._growing: SpeechStream | None = None
        """The stream whose text is still being sent."""
        self._waiting: asyncio.Queue[tuple[SpeechStream, bool]] = asyncio.Queue(config.max_contexts)

    async def run(self) -> None:
        """Returns when the client is gone or was refused."""
        address = self._writer.get_extra_info("peername")
        try:
            with self._studio.admitted_unasked(address=address) as bearer:
                await self._talk(bearer)
        except Refused as error:
            await self._write_error(f"the daemon is {error}", str(error))
        except WireError as error:
            self._studio.note_error(f"wyoming_{error.code}")
            await self._write_error(error.message, error.code)

    async def _talk(self, bearer: Bearer) -> None:
        """Reads on while it speaks: a client that goes away must not be spoken to."""
        reading = asyncio.create_task(self._read(bearer), name="wyoming reader")
        speaking = asyncio.create_task(self._speak_all(), name="wyoming speaker")
        try:
            done, _pending = await asyncio.wait(
                {reading, speaking}, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in (reading, speaking):
                task.cancel()
            await asyncio.gather(reading, speaking, return_exceptions=True)
            while not self._waiting.empty():
                self._waiting.get_nowait()[0].close()
        for task in done:
            task.result()

    # --- reading ----------------------------------------------------------------------------------

    async def _read(self, bearer: Bearer) -> None:
        while True:
            try:
                event: Any = await async_read_event(self._reader)
                if event is None:
                    return
                if not isinstance(event.type, str) or not isinstance(event.data, dict):
                    raise BadMessage("an event has a type, and its data is an object")
                await self._take(event, bearer)
            except asyncio.IncompleteReadError:
                return
            except (KeyError, TypeError, AttributeError, RecursionError) as error:
                raise BadMessage(f"this is no Wyoming event: {error!r}") from error

    async def _take(self, event: Event, bearer: Bearer) -> None:
        if Describe.is_type(event.type):
            await self._write(info_of(self._studio.offer.info))
        elif Ping.is_type(event.type):
            text = Ping.from_event(event).text
            await self._write(Pong(text=None if text is None else _checked(text)))
        elif SynthesizeStart.is_type(event.type):
            start = SynthesizeStart.from_event(event)
            self._growing = self._open(start.voice, bearer, is_streaming=True)
        elif SynthesizeChunk.is_type(event.type) and self._growing is not None:
            self._growing.add_text(_checked(SynthesizeChunk.from_event(event).text))
        elif SynthesizeStop.is_type(event.type) and self._growing is not None:
            self._growing.end()
            self._growing = None
        elif Synthesize.is_type(event.type) and self._growing is None:
            # Inside a stream it repeats the whole text, for servers that cannot stream.
            wanted = Synthesize.from_event(event)
            text = _checked(wanted.text)
            stream = self._open(wanted.voice, bearer, is_streaming=False)
            stream.add_text(text)
            stream.end()

    def _open(
        self, voice: SynthesizeVoice | None, bearer: Bearer, *, is_streaming: bool
    ) -> SpeechStream:
        if self._growing is not None:
            raise BadMessage("synthesize-start came inside a stream")
        if self._waiting.full():
            raise TooManyContexts(f"{self._waiting.maxsize} texts wait, and no more may")
        voice = voice or SynthesizeVoice()
        stream = self._studio.speak(
            Open(
                context="speech",
                voice=voice.name,
                language=matching_language(voice.language, self._studio.offer.info),
                # Home Assistant keeps what it gets, and plays it elsewhere.
                max_lead_ms=LONGEST_LEAD_MS,
            ),
            bearer=bearer,
            audio_format="wyoming",
            session=self._name,
        )
        self._waiting.put_nowait((stream, is_streaming))
        return stream

    # --- speaking ---------------------------------------------------------------------------------

    async def _speak_all(self) -> None:
        while True:
            stream, is_streaming = await self._waiting.get()
            with self._studio.owing():
                async with stream:
                    await self._speak(stream)
                if is_streaming:
                    await self._write(SynthesizeStopped())

    async def _speak(self, stream: SpeechStream) -> None:
        trouble: SegmentTrouble | None = None
        has_begun = False
        async with contextlib.aclosing(stream.outputs()) as outputs:
            async for output in outputs:
                if isinstance(output, Samples):
                    if not has_begun:
                        has_begun = True
                        await self._write(AudioStart(**_AUDIO))
                    await self._write_audio(to_int16(output.samples).tobytes())
                elif isinstance(output, SegmentTrouble) and output.is_failure:
                    trouble = output
                elif isinstance(output, UtteranceEnded) and trouble and not output.num_samples:
                    raise EngineFailed(f"the engine could not speak it: {trouble.message}")
        if not has_begun:
            await self._write(AudioStart(**_AUDIO))
        num_silent = self._config.wyoming_silence_ms * SAMPLE_RATE // 1000
        if num_silent:
            await self._write_audio(np.zeros(num_silent, dtype="<i2").tobytes())
        await self._write(AudioStop())

    async def _write_audio(self, audio: bytes) -> None:
        await self._write(AudioChunk(audio=audio, **_AUDIO))

    async def _write_error(self, text: str, code: str) -> None:
        """The connection is closed behind it: some clients wait for audio and overlook errors."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            await self._write(Error(text=text, code=code))
            self._writer.write_eof()
            async with asyncio.timeout(_LINGER_S):
                await self._reader.discard()

    async def _write(self, message: Eventable) -> None:
        """Raises `TimeoutError` if the client does not read."""
        async with asyncio.timeout(self._config.stall_s):
            await async_write_event(message.event(), self._writer)


def _checked(text: object) -> str:
    if not isinstance(text, str) or any("\ud800" <= char <= "\udfff" for char in text):
        raise BadMessage("text must be a string of whole characters")
    return text


def matching_language(asked: str | None, info: EngineInfo) -> str | None:
    """`en_US` is `en` here; what matches nothing goes on as it is, to be refused by name."""
    if asked is None or asked in info.languages:
        return asked
    primary = asked.replace("_", "-").partition("-")[0].lower()
    return primary if primary in info.languages else asked


def info_of(info: EngineInfo) -> Info:
    """What Home Assistant shows."""
    voices = [
        TtsVoice(
            name=voice,
            description=voice,
            attribution=_ATTRIBUTION,
            installed=True,
            version=SERVER_VERSION,
            languages=list(info.languages),
        )
        for voice in sorted(info.voices, key=lambda voice: voice != info.default_voice)
    ]
    program = TtsProgram(
        name="chatterboxd",
        description=f"chatterboxd, {info.model}",
        attribution=_ATTRIBUTION,
        installed=True,
        version=SERVER_VERSION,
        voices=voices,
        supports_synthesize_streaming=True,
    )
    return Info(tts=[program])
