"""One socket of ElevenLabs' dialect: its client's messages in, speech of its contexts out.

A context that the client closes is spoken to its end, at most two seconds ahead of playback: the
service's clients send the same message when they have finished and when they were interrupted. One
that it closes twice is cut.
"""

import asyncio
import base64
import contextlib
from collections.abc import Mapping
from functools import partial

from daemon.config import LONGEST_LEAD_MS, SHORTEST_LEAD_MS
from daemon.dialects.elevenlabs_alignment import Alignment, Stretch
from daemon.dialects.elevenlabs_wire import (
    DEFAULT_CONTEXT,
    ClientMessage,
    Wanted,
    error_message,
    parse_message,
)
from daemon.dialects.line import HangUp, Line
from daemon.errors import (
    BadMessage,
    EngineFailed,
    TextAfterEnd,
    TextTooLong,
    TooManyContexts,
    WireError,
)
from daemon.formats.choice import FormatMissing, new_stream_encoder
from daemon.formats.stream import StreamEncoder
from daemon.protocol import Open
from daemon.speech_stream import SpeechStream
from daemon.studio import Studio
from daemon.utterance import (
    FlushReached,
    Samples,
    SegmentTrouble,
    UtteranceEnded,
    UtteranceOutput,
    WordsSpoken,
)

_LEAD_MS = 2_000
"""What an interruption may waste, and what a listener has in hand when the engine is late."""
_POLICY_VIOLATION = 1008
_SEEKABLE = ("pcm", "ulaw", "alaw")
"""Encodings that may be finished and begun again inside one stream."""


class Talk:
    """`is_multi` is the socket with contexts; the other one has a single, nameless one."""

    def __init__(
        self, line: Line, wanted: Wanted, *, voice: str, is_multi: bool, studio: Studio
    ) -> None:
        self.line = line
        self.studio = studio
        self.wanted = wanted
        self.is_multi = is_multi
        self._voice = voice
        self._loop = asyncio.get_running_loop()
        self._contexts: dict[str, _Context] = {}
        self._is_closing = False
        self._heard_from_s = self._loop.time()

    async def run(self) -> None:
        """Until the line is over. Nothing of what was being said is left then."""
        self.line.spawn(self._watch())
        try:
            while True:
                await self._read()
                self.close_if_done()
        finally:
            for context in list(self._contexts.values()):
                context.drop()

    async def _read(self) -> None:
        name: str | None = None
        try:
            body = await self.line.receive_object()
            self._heard_from_s = self._loop.time()
            message = parse_message(body)
            name = message.context
            self._take(message)
        except WireError as error:
            await self.tell(error, name)

    def now_s(self) -> float:
        return self._loop.time()

    # --- messages ---------------------------------------------------------------------------------

    def _take(self, message: ClientMessage) -> None:
        if self._is_closing:
            return
        name = message.context if self.is_multi else DEFAULT_CONTEXT
        context = self._contexts.get(name)
        if context is None and message.text and not message.close_socket:
            context = self._open(name, message)
        # A flush, a close or a keepalive of a context that is not there opens none.
        if context is not None:
            context.take(message)
        is_eos = not self.is_multi and message.has_text and not message.text
        if message.close_socket or is_eos:
            self._is_closing = True
            for open_context in list(self._contexts.values()):
                open_context.end()

    def _open(self, name: str, message: ClientMessage) -> "_Context":
        growing = [context for context in self._contexts.values() if not context.is_ended]
        most = self.line.config.max_contexts
        if len(growing) >= most:
            raise TooManyContexts(f"{most} contexts are open, and no more may be")
        closed = [context for context in self._contexts.values() if context.is_finishing]
        if len(closed) > most:
            # Of what its client has closed, the oldest is the likeliest to be heard by nobody.
            closed[0].cancel()
        options, tempo = self.studio.at_speed(message.speed)
        context = _Context(self, name, encoder=self._encoder(tempo), tempo=tempo, options=options)
        self._contexts[name] = context
        self.line.spawn(context.speak())
        return context

    def _encoder(self, tempo: float) -> StreamEncoder:
        try:
            return self.new_encoder(tempo)
        except FormatMissing as error:
            raise BadMessage(str(error)) from error

    def new_encoder(self, tempo: float) -> StreamEncoder:
        wanted = self.wanted.format
        return new_stream_encoder(
            wanted.encoding, sample_rate=wanted.sample_rate, bitrate=wanted.bitrate, tempo=tempo
        )

    def new_stream(self, name: str, *, options: Mapping[str, float], tempo: float) -> SpeechStream:
        lead_ms = max(SHORTEST_LEAD_MS, min(_LEAD_MS, self.line.config.max_lead_ms))
        return self.studio.speak(
            Open(
                context=name,
                voice=self._voice,
                seed=self.wanted.seed,
                language=self.wanted.language,
                options=options,
                # At another tempo the listener's clock is not ours.
                max_lead_ms=lead_ms if tempo == 1.0 else LONGEST_LEAD_MS,
            ),
            bearer=self.line.bearer,
            audio_format=f"elevenlabs_{self.wanted.output}",
            session=self.line.name,
        )

    # --- what is told -----------------------------------------------------------------------------

    async def tell(self, error: WireError, name: str | None) -> None:
        self.studio.note_error(f"elevenlabs_{error.code}")
        await self.line.send_json(error_message(error, context=name if self.is_multi else None))

    def forget(self, name: str) -> None:
        """Its last message is out; its name is free."""
        del self._contexts[name]
        self._heard_from_s = self._loop.time()
        if not self.is_multi:
            self._is_closing = True
        self.close_if_done()

    def close_if_done(self) -> None:
        if self._is_closing and not self._contexts:
            self.line.hang_up(1000)

    # --- silence ----------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """A context that hears nothing for so long has ended; a socket without any is closed."""
        longest_s = self.wanted.inactivity_s
        while True:
            now_s = self._loop.time()
            growing = [context for context in self._contexts.values() if not context.is_ended]
            for context in growing:
                if now_s - context.heard_from_s >= longest_s:
                    context.end()
            if not self._contexts and now_s - self._heard_from_s >= longest_s:
                raise HangUp(_POLICY_VIOLATION, f"nothing was sent for {longest_s:g} s")
            since_s = min((item.heard_from_s for item in growing), default=self._heard_from_s)
            await asyncio.sleep(max(since_s + longest_s - now_s, longest_s / 20))


class _Context:
    def __init__(
        self,
        talk: Talk,
        name: str,
        *,
        encoder: StreamEncoder,
        tempo: float,
        options: Mapping[str, float],
    ) -> None:
        self._talk = talk
        self._name = name
        self._tempo = tempo
        self._encoder = encoder
        self._waiting = encoder.begin()
        self._alignment = Alignment(tempo=tempo)
        self._stream = talk.new_stream(name, options=options, tempo=tempo)
        self._num_samples = 0
        self._trouble: SegmentTrouble | None = None
        self._is_pausing = False
        self._has_text = False
        self._has_space = True
        self._is_cut = False
        self.is_ended = False
        self.heard_from_s = talk.now_s()
        """When something was sent last, by the client or to it."""

    @property
    def is_finishing(self) -> bool:
        """Its client has closed it, and it still speaks."""
        return self.is_ended and not self._is_cut

    # --- text -------------------------------------------------------------------------------------

    def take(self, message: ClientMessage) -> None:
        if self.is_ended:
            if message.close_context:
                # Said again by Pipecat when what it has closed is interrupted; nobody who wants
                # the rest says it twice.
                self.cancel()
            elif message.text.strip():
                raise TextAfterEnd(f"context {self._name!r} is closed and still speaks")
            return
        self.heard_from_s = self._talk.now_s()
        is_phrase = bool(message.text.strip())
        # What opens a context is a single space, which is none of its text.
        if message.text and (is_phrase or self._has_text):
            self._add(message.text)
        if message.flush or (is_phrase and self._talk.wanted.is_auto):
            self._add_space()
            self._stream.flush()
        if message.close_context:
            if message.immediate:
                self.cancel()
            else:
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
        with self._talk.line.busy():
            try:
                async with self._stream, contextlib.aclosing(self._stream.outputs()) as outputs:
                    async for output in outputs:
                        await self._give(output)
            except WireError as error:
                await self._talk.tell(error, self._name)
                if not self._talk.is_multi:
                    raise HangUp(_POLICY_VIOLATION, error.message) from error
            final: dict[str, object] = {"audio": None, "isFinal": True}
            await self._talk.line.send_json(self._named(final))
            self._talk.forget(self._name)

    async def _give(self, output: UtteranceOutput) -> None:
        match output:
            case WordsSpoken():
                for word in output.words:
                    self._alignment.add_word(word)
            case Samples():
                self._num_samples += output.samples.size
                work = partial(self._encoder.encode, output.samples)
                is_costly = self._encoder.is_costly
                self._waiting += await self._talk.studio.in_pool(work) if is_costly else work()
                # A pause after a segment's tail goes with the words that it precedes.
                is_lead_in = output.is_pause and self._is_pausing
                self._is_pausing = output.is_pause
                if self._waiting and not is_lead_in:
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
        if self._talk.wanted.format.encoding not in _SEEKABLE:
            return
        self._waiting += self._encoder.finish()
        self._encoder = self._talk.new_encoder(self._tempo)
        if self._waiting:
            await self._send(None)

    async def _send(self, stretch: Stretch | None) -> None:
        self.heard_from_s = self._talk.now_s()  # a client that listens is not silent
        data, self._waiting = self._waiting, b""
        is_absolute = self._talk.wanted.has_absolute_normalized
        body: dict[str, object] = {
            "audio": base64.b64encode(data).decode(),
            "isFinal": False,
            "alignment": stretch and stretch.to_wire(),
            "normalizedAlignment": stretch and stretch.to_wire(is_absolute=is_absolute),
        }
        await self._talk.line.send_json(self._named(body), is_audio=True)

    def _named(self, body: dict[str, object]) -> dict[str, object]:
        return body | {"contextId": self._name} if self._talk.is_multi else body
