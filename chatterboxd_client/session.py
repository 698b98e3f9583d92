"""A daemon's URL in, decoded speech out: the client side of docs/protocol.md, as a library.

Knows nothing of the daemon's inside; of its files it shares protocol and errors.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Literal, Self
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from chatterboxd_client.context import ClientContext, ConnectionLost, DaemonError, Trouble
from chatterboxd_client.listening import BrokenStream
from chatterboxd_client.voices import OnProgress, OwnVoices
from daemon.wire.errors import UnknownType, WireError
from daemon.wire.protocol import (
    PROTOCOL,
    AudioEnd,
    AudioMessage,
    Begin,
    Cancelled,
    ClientMessage,
    Failed,
    Open,
    Opened,
    ServerMessage,
    parse_server_message,
    to_json,
)
from daemon.wire.voice_messages import VoiceAnswer, VoiceFacts, VoiceReady

NUM_ENDED_KEPT = 32
"""A cancel may follow the audio_end of this many contexts; docs/protocol.md section 2."""


class SpeechClient:
    """One session with a daemon: `async with await SpeechClient.connect(url) as client: ...`."""

    def __init__(self, socket: ClientConnection, begin: Begin) -> None:
        self.begin = begin
        self._socket = socket
        self._by_name: dict[str, ClientContext] = {}
        self._by_number: dict[int, ClientContext] = {}
        self._ended: list[ClientContext] = []
        self._num_opened = 0
        self._trouble: Trouble | None = None
        self._abandoning: set[asyncio.Task[Cancelled]] = set()
        self._own_voices = OwnVoices(
            message_bytes=begin.limits.message_bytes,
            send=self.send,
            send_bytes=self._send_bytes,
            refuse=DaemonError,
        )
        self._reader = asyncio.create_task(self._read(), name="speech client reader")

    @classmethod
    async def connect(cls, url: str, *, token: str | None = None) -> Self:
        """Raises OSError if nobody listens, `websockets.InvalidStatus` if the daemon refuses: it is
        full, or wants another `token`."""
        is_loopback = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
        proxy: Literal[True] | None = None if is_loopback else True
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        socket = await connect(
            url,
            subprotocols=[Subprotocol(PROTOCOL)],
            additional_headers=headers,
            compression=None,
            proxy=proxy,
        )
        try:
            begin = parse_server_message(await socket.recv(decode=True))
            if not isinstance(begin, Begin) or begin.protocol != PROTOCOL:
                raise BrokenStream(f"this is no {PROTOCOL} daemon")
        except BaseException:
            await socket.close()
            raise
        return cls(socket, begin)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._socket.close()
        await self._reader

    def abort(self) -> None:
        self._socket.transport.abort()

    async def open(
        self,
        name: str | None = None,
        *,
        voice: str | None = None,
        format: str | None = None,
        bitrate: int | None = None,
        seed: int | None = None,
        language: str | None = None,
        options: dict[str, float] | None = None,
        max_lead_ms: int | None = None,
        max_buffer_delay_ms: int | None = None,
        lexicon: dict[str, str] | None = None,
    ) -> ClientContext:
        """Open a context and wait for the daemon's answer. Raises `DaemonError` if it refuses."""
        self._num_opened += 1
        context = ClientContext(self, name or f"context-{self._num_opened}")
        previous = self._by_name.get(context.name)
        if previous is not None:
            if previous not in self._ended:
                raise ValueError(f"context {context.name!r} is still open")
            previous.forget()
        self._by_name[context.name] = context
        wish = Open(
            context=context.name,
            voice=voice,
            format=format,
            bitrate=bitrate,
            seed=seed,
            language=language,
            options=options or {},
            max_lead_ms=max_lead_ms,
            max_buffer_delay_ms=max_buffer_delay_ms,
            lexicon=lexicon,
        )
        try:
            await self.send(wish)
            await context.wait_until_open()
        except asyncio.CancelledError:
            self._abandon(context)
            raise
        finally:
            context.stop_waiting()
        return context

    def _abandon(self, context: ClientContext) -> None:
        """Whoever wanted it is gone; the daemon may open it all the same."""
        task = asyncio.create_task(context.cancel(), name="speech client abandons a context")
        self._abandoning.add(task)
        task.add_done_callback(self._abandoning.discard)
        # Refused or disconnected: there is nothing to cancel then.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def clone_voice(
        self, clip: bytes, *, name: str, consent: bool, on_progress: OnProgress | None = None
    ) -> VoiceReady:
        """Have a voice made of an audio file (WAV, FLAC, MP3, OGG); `open` takes its `voice`.
        `consent`: whoever speaks in it agrees. Raises `DaemonError` with the daemon's refusal."""
        return await self._own_voices.clone(
            clip, name=name, consent=consent, on_progress=on_progress
        )

    async def own_voices(self) -> Sequence[VoiceFacts]:
        """The voices that this token has had made, oldest first."""
        return await self._own_voices.all()

    async def delete_voice(self, voice: str) -> None:
        await self._own_voices.delete(voice)

    async def send(self, message: ClientMessage) -> None:
        await self._send_raw(to_json(message))

    async def _send_bytes(self, data: bytes) -> None:
        await self._send_raw(data)

    async def _send_raw(self, data: str | bytes) -> None:
        if self._trouble is not None:
            raise self._trouble
        try:
            await self._socket.send(data)
        except ConnectionClosed as error:
            raise ConnectionLost(str(error)) from error

    async def _read(self) -> None:
        """Give every message to its context until the socket closes, then tell the live ones."""
        trouble: Trouble = ConnectionLost("the session was closed")
        try:
            async for data in self._socket:
                if isinstance(data, bytes):
                    self._on_audio(AudioMessage.from_bytes(data), received_at=time.perf_counter())
                else:
                    with contextlib.suppress(UnknownType):  # v1 may grow
                        self._on_message(parse_server_message(data))
        except ConnectionClosed as error:
            trouble = ConnectionLost(str(error))
        except BrokenStream as error:
            trouble = error
        except WireError as error:
            trouble = BrokenStream(error.message)
        self._trouble = self._trouble or trouble
        self._own_voices.lose(self._trouble)
        for context in self._by_name.values():
            context.on_trouble(self._trouble)
        await self._socket.close()

    def _on_audio(self, message: AudioMessage, *, received_at: float) -> None:
        context = self._by_number.get(message.number)
        if context is None:
            raise BrokenStream(f"audio came for context number {message.number}, which is not live")
        context.on_audio(message, received_at=received_at)

    def _on_message(self, message: ServerMessage) -> None:
        if isinstance(message, Begin):
            raise BrokenStream("a second begin came")
        if isinstance(message, VoiceAnswer) or message.context is None:
            is_taken = self._own_voices.take(message)
            if isinstance(message, Failed) and message.final and not is_taken:
                self._trouble = DaemonError(message)
            return
        context = self._by_name.get(message.context)
        if context is None:
            return
        if isinstance(message, Opened):
            self._by_number[message.number] = context
            context.on_opened(message, pre_skip=self.begin.opus.pre_skip)
            return
        context.on_message(message)
        if isinstance(message, AudioEnd | Cancelled) or (
            isinstance(message, Failed) and (message.final or context.opened is None)
        ):
            self._forget(context)

    def _forget(self, context: ClientContext) -> None:
        """Its number is dead; its name may be cancelled for a while, or used again."""
        if context.opened is not None:
            self._by_number.pop(context.opened.number, None)
        if context not in self._ended:
            self._ended.append(context)
        if len(self._ended) > NUM_ENDED_KEPT:
            oldest = self._ended.pop(0)
            oldest.forget()
            if self._by_name.get(oldest.name) is oldest:
                del self._by_name[oldest.name]
