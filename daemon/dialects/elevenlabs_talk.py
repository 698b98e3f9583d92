"""One socket of ElevenLabs' dialect: its client's messages in, speech of its contexts out.

A context that the client closes is spoken to its end, at most two seconds ahead of playback: the
service's clients send the same message when they have finished and when they were interrupted. One
that it closes twice is cut.
"""

import asyncio
from collections.abc import Mapping

from daemon.config import LONGEST_LEAD_MS, SHORTEST_LEAD_MS
from daemon.dialects.elevenlabs_context import Context
from daemon.dialects.elevenlabs_wire import (
    DEFAULT_CONTEXT,
    POLICY_VIOLATION,
    ClientMessage,
    Wanted,
    error_message,
    parse_message,
)
from daemon.dialects.line import HangUp, Line
from daemon.formats.choice import FormatMissing, new_stream_encoder
from daemon.formats.stream import StreamEncoder
from daemon.speaking.speech_stream import SpeechStream
from daemon.studio import Studio
from daemon.wire.errors import BadMessage, TooManyContexts, WireError
from daemon.wire.protocol import Open

_LEAD_MS = 2_000
"""What an interruption may waste, and what a listener has in hand when the engine is late."""


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
        self._contexts: dict[str, Context] = {}
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

    def _open(self, name: str, message: ClientMessage) -> Context:
        growing = [context for context in self._contexts.values() if not context.is_ended]
        most = self.line.config.max_contexts
        if len(growing) >= most:
            raise TooManyContexts(f"{most} contexts are open, and no more may be")
        closed = [context for context in self._contexts.values() if context.is_finishing]
        if len(closed) > most:
            # Of what its client has closed, the oldest is the likeliest to be heard by nobody.
            closed[0].cancel()
        options, tempo = self.studio.at_speed(message.speed)
        context = Context(self, name, encoder=self._encoder(tempo), tempo=tempo, options=options)
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
                raise HangUp(POLICY_VIOLATION, f"nothing was sent for {longest_s:g} s")
            since_s = min((item.heard_from_s for item in growing), default=self._heard_from_s)
            await asyncio.sleep(max(since_s + longest_s - now_s, longest_s / 20))
