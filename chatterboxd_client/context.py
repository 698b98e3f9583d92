"""Text of one context in, its audio and what else is told about it out, until it ends.

A session gives a context the messages that name it; the context writes through its session.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Protocol

from chatterboxd_client.listening import Audio, AudioDecoder, BrokenStream, Timings
from daemon.wire.protocol import (
    FORMATS,
    AudioEnd,
    AudioMessage,
    Begin,
    Cancel,
    Cancelled,
    ClientMessage,
    End,
    Failed,
    Flush,
    Flushed,
    Opened,
    SegmentStart,
    TextDelta,
    Warned,
    Words,
    WordTime,
    to_json,
)

_MOST_BYTES_A_CHAR = 6
"""A control character in JSON; all others are UTF-8 there."""


class DaemonError(Exception):
    """The daemon said no. `failed` is its message."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(f"{failed.message} ({failed.code}). {failed.hint}")
        self.failed = failed


class ConnectionLost(Exception):
    """The socket closed before the context ended."""


ContextEvent = Audio | SegmentStart | Words | Flushed | Warned | Failed
Trouble = DaemonError | ConnectionLost | BrokenStream
_Ending = AudioEnd | Cancelled | Failed


class ContextSession(Protocol):
    """What a context needs of its session."""

    begin: Begin

    async def send(self, message: ClientMessage) -> None: ...

    def abort(self) -> None: ...


class ClientContext:
    """One context: text in, events out. Iterate over `events` or `audio` to the end, once."""

    def __init__(self, client: ContextSession, name: str) -> None:
        self.name = name
        self.timings = Timings(sample_rate=client.begin.sample_rate)
        self.opened: Opened | None = None
        self.ending: AudioEnd | Cancelled | None = None
        """How the context ended, once `events` is exhausted."""
        self.words: list[WordTime] = []
        """When each word of the audio so far is heard, in samples of the context."""
        self.trouble: Trouble | None = None
        """What ended it, if it came to no good end."""
        self._client = client
        self._inbox: asyncio.Queue[ContextEvent | _Ending | Trouble] = asyncio.Queue()
        self._decoder: AudioDecoder | None = None
        loop = asyncio.get_running_loop()
        self._opening: asyncio.Future[None] = loop.create_future()
        self._cancelling: asyncio.Future[Cancelled] | None = None
        self._is_over = False
        self._is_forgotten = False

    @property
    def is_over(self) -> bool:
        """Whether the daemon has ended it, by a good end or not. `events` may not be there yet."""
        return self._is_over

    async def send_text(self, text: str) -> None:
        """In as many messages as the daemon's limit asks for."""
        if self.timings.text_sent_at is None and text:
            self.timings.text_sent_at = time.perf_counter()
        empty = TextDelta(context=self.name, text="")
        most_bytes = self._client.begin.limits.message_bytes - len(to_json(empty).encode())
        most_chars = max(1, most_bytes // _MOST_BYTES_A_CHAR)
        for start in range(0, max(1, len(text)), most_chars):
            piece = text[start : start + most_chars]
            await self._client.send(TextDelta(context=self.name, text=piece))

    async def flush(self) -> None:
        await self._client.send(Flush(context=self.name))

    async def end(self) -> None:
        await self._client.send(End(context=self.name))

    async def cancel(self, *, played_ms: float | None = None) -> Cancelled:
        """Stop the speech and return the acknowledgement. What nobody has read yet is dropped.

        Raises what ended the context if it came to no good end, and `ValueError` if it ended so
        long ago that nobody knows it any more: nothing would be acknowledged then.
        """
        if self.trouble is not None:
            raise self.trouble
        if self._is_forgotten:
            raise ValueError(f"context {self.name!r} ended long ago")
        if self._cancelling is None:
            self._cancelling = asyncio.get_running_loop().create_future()
            # Whoever waits gets what it raised; nobody may be left who does.
            self._cancelling.add_done_callback(lambda future: future.exception())
            while not self._inbox.empty():
                self._inbox.get_nowait()
            await self._client.send(Cancel(context=self.name, played_ms=played_ms))
        return await asyncio.shield(self._cancelling)

    def abort_connection(self) -> None:
        """Vanish without a farewell, with all contexts of the session: what a pulled cable does."""
        self._client.abort()

    async def events(self) -> AsyncIterator[ContextEvent]:
        """What the daemon tells about this context, in order, until the context ends.

        Raises `DaemonError` if an error ends it, `ConnectionLost` or `BrokenStream`.
        """
        while self.ending is None:
            if self.trouble is not None and self._inbox.empty():
                raise self.trouble
            item = await self._inbox.get()
            if isinstance(item, Exception):
                raise item
            if isinstance(item, AudioEnd | Cancelled):
                self.ending = item
            else:
                yield item

    async def audio(self) -> AsyncIterator[Audio]:
        """The audio alone. Errors that leave the context alive are raised here, too."""
        async for event in self.events():
            if isinstance(event, Failed):
                raise DaemonError(event)
            if isinstance(event, Audio):
                yield event

    # The client's reader calls the rest.

    async def wait_until_open(self) -> None:
        await self._opening

    def forget(self) -> None:
        """Its name is another's, or nobody's: no answer would find its way here."""
        self._is_forgotten = True

    def stop_waiting(self) -> None:
        """Nobody asks any more whether it opened."""
        self._opening.cancel()

    def on_opened(self, opened: Opened, *, pre_skip: int) -> None:
        self.opened = opened
        self._decoder = AudioDecoder(
            audio_format=FORMATS[opened.format],
            sample_rate=self.timings.sample_rate,
            pre_skip=pre_skip,
        )
        if not self._opening.done():
            self._opening.set_result(None)

    def on_audio(self, message: AudioMessage, *, received_at: float) -> None:
        assert self._decoder is not None, "audio is routed by the number that `opened` gave"
        samples = self._decoder.decode(message)
        audio = Audio(sequence=message.sequence, samples=samples, received_at=received_at)
        self.timings.note(audio)
        if self._cancelling is None:
            self._inbox.put_nowait(audio)

    def on_message(self, message: SegmentStart | Words | Flushed | Warned | _Ending) -> None:
        if isinstance(message, AudioEnd) and message.samples != self.timings.num_samples:
            raise BrokenStream(
                f"{message.samples} samples announced, {self.timings.num_samples} came"
            )
        if isinstance(message, Failed) and (message.final or self.opened is None):
            self.on_trouble(DaemonError(message))
            return
        if isinstance(message, Words):
            self.words += message.words
        if isinstance(message, AudioEnd | Cancelled):
            self._is_over = True
        if isinstance(message, Cancelled):
            self.ending = message
            if self._cancelling and not self._cancelling.done():
                self._cancelling.set_result(message)
        if self._cancelling is None or isinstance(message, Cancelled):
            self._inbox.put_nowait(message)

    def on_trouble(self, trouble: Trouble) -> None:
        """The context is over: whoever waits for it learns why."""
        self._is_over = True
        if self.ending is None and self.trouble is None:
            self.trouble = trouble
        if not self._opening.done():
            self._opening.set_exception(trouble)
            return
        if self._cancelling and not self._cancelling.done():
            self._cancelling.set_exception(trouble)
        self._inbox.put_nowait(trouble)
