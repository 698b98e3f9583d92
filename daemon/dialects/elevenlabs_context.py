"""One context of ElevenLabs' dialect: its text in, messages with its audio and characters out.

Its end is told exactly once, after its last audio, however it ended.
"""

import base64
import contextlib
from collections.abc import Mapping
from functools import partial
from typing import Protocol

from daemon.dialects.elevenlabs_alignment import Alignment, Stretch
from daemon.dialects.elevenlabs_wire import POLICY_VIOLATION, ClientMessage, Wanted
from daemon.dialects.line import HangUp, Line
from daemon.formats.stream import StreamEncoder
from daemon.speaking.outputs import (
    FlushReached,
    Samples,
    SegmentTrouble,
    UtteranceEnded,
    UtteranceOutput,
    WordsSpoken,
)
from daemon.speaking.speech_stream import SpeechStream
from daemon.studio import Studio
from daemon.wire.errors import EngineFailed, TextAfterEnd, TextTooLong, WireError

_SEEKABLE = ("pcm", "ulaw", "alaw")
"""Encodings that may be finished and begun again inside one stream."""


class Owner(Protocol):
    """The socket that it is a context of."""

    line: Line
    studio: Studio
    wanted: Wanted
    is_multi: bool

    def now_s(self) -> float: ...

    def new_encoder(self, tempo: float) -> StreamEncoder: ...

    def new_stream(
        self, name: str, *, options: Mapping[str, float], tempo: float
    ) -> SpeechStream: ...

    async def tell(self, error: WireError, name: str | None) -> None: ...

    def forget(self, name: str) -> None:
        """Its last message is out."""


class Context:
    def __init__(
        self,
        owner: Owner,
        name: str,
        *,
        encoder: StreamEncoder,
        tempo: float,
        options: Mapping[str, float],
    ) -> None:
        self._owner = owner
        self._name = name
        self._tempo = tempo
        self._encoder = encoder
        self._waiting = encoder.begin()
        self._alignment = Alignment(tempo=tempo)
        self._stream = owner.new_stream(name, options=options, tempo=tempo)
        self._num_samples = 0
        self._trouble: SegmentTrouble | None = None
        self._has_text = False
        self._has_space = True
        self._is_closed = False
        self._is_cut = False
        self.is_ended = False
        self.heard_from_s = owner.now_s()
        """When something was sent last, by the client or to it."""

    @property
    def is_finishing(self) -> bool:
        """No more text comes, and it still speaks."""
        return self.is_ended and not self._is_cut

    # --- text -------------------------------------------------------------------------------------

    def take(self, message: ClientMessage) -> None:
        if self.is_ended:
            if message.close_context:
                self._close(message)
            elif message.text.strip():
                raise TextAfterEnd(f"context {self._name!r} is closed and still speaks")
            return
        self.heard_from_s = self._owner.now_s()
        try:
            self._write(message)
        finally:
            if message.close_context:
                self._close(message)

    def _write(self, message: ClientMessage) -> None:
        is_phrase = bool(message.text.strip())
        # What opens a context is a single space, which is none of its text.
        if message.text and (is_phrase or self._has_text):
            self._add(message.text)
        if message.flush or (is_phrase and self._owner.wanted.is_auto):
            self._add_space()
            self._stream.flush()

    def _close(self, message: ClientMessage) -> None:
        # Said again by Pipecat when what it has closed is interrupted; nobody who wants the rest
        # says it twice. A context that ended by itself was not closed.
        if message.immediate or self._is_closed:
            self.cancel()
        else:
            self._is_closed = True
            self.end()

    def _add(self, text: str) -> None:
        self._stream.add_text(text)
        self._alignment.add_text(text)
        self._has_text = True
        self._has_space = text[-1:].isspace()

    def _add_space(self) -> None:
        """Phrases of their own are separate words, whether their writer says so or not; and clients
        take a word as complete when they see the space behind it."""
        if not self._has_space:
            with contextlib.suppress(TextTooLong):
                self._add(" ")

    def end(self) -> None:
        if not self.is_ended:
            self.is_ended = True
            with contextlib.suppress(TextAfterEnd):  # it was lost, and says so itself
                self._add_space()
                self._stream.end()

    def cancel(self) -> None:
        """Its end is told all the same."""
        self.is_ended = self._is_cut = True
        self._stream.cancel()

    def drop(self) -> None:
        """Nobody listens any more."""
        self._stream.close()

    # --- speech -----------------------------------------------------------------------------------

    async def speak(self) -> None:
        with self._owner.line.busy():
            try:
                async with self._stream, contextlib.aclosing(self._stream.outputs()) as outputs:
                    async for output in outputs:
                        await self._give(output)
            except WireError as error:
                await self._owner.tell(error, self._name)
                if not self._owner.is_multi:
                    raise HangUp(POLICY_VIOLATION, error.message) from error
            final: dict[str, object] = {"audio": None, "isFinal": True}
            await self._owner.line.send_json(self._named(final))
            self._owner.forget(self._name)

    async def _give(self, output: UtteranceOutput) -> None:
        match output:
            case WordsSpoken():
                for word in output.words:
                    self._alignment.add_word(word)
            case Samples():
                self._num_samples += output.samples.size
                work = partial(self._encoder.encode, output.samples)
                is_costly = self._encoder.is_costly
                self._waiting += await self._owner.studio.in_pool(work) if is_costly else work()
                if self._waiting:
                    await self._send(self._alignment.take(self._num_samples))
            case FlushReached():
                await self._give_held_back()
            case SegmentTrouble(is_failure=True):
                self._trouble = output
            case UtteranceEnded():
                self._waiting += self._encoder.finish()
                stretch = self._alignment.take_rest(self._num_samples)
                if self._waiting or stretch:
                    await self._send(stretch)
                if self._trouble and not output.num_samples:
                    raise EngineFailed(f"nothing could be spoken: {self._trouble.message}")

    async def _give_held_back(self) -> None:
        """Nobody knows when there will be more: a resampler must not keep the end of a word."""
        if self._owner.wanted.format.encoding not in _SEEKABLE:
            return
        self._waiting += self._encoder.finish()
        self._encoder = self._owner.new_encoder(self._tempo)
        if self._waiting:
            await self._send(None)

    async def _send(self, stretch: Stretch | None) -> None:
        self.heard_from_s = self._owner.now_s()  # a client that listens is not silent
        data, self._waiting = self._waiting, b""
        body: dict[str, object] = {"audio": base64.b64encode(data).decode(), "isFinal": False}
        for table in ("alignment", "normalizedAlignment"):
            is_absolute = table in self._owner.wanted.absolute
            body[table] = stretch and stretch.to_wire(is_absolute=is_absolute)
        await self._owner.line.send_json(self._named(body), is_audio=True)

    def _named(self, body: dict[str, object]) -> dict[str, object]:
        return body | {"contextId": self._name} if self._owner.is_multi else body
