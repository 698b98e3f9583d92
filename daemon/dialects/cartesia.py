"""Clients of Cartesia's speech socket in, base64 chunks of speech and word times in JSON out.

`/tts/websocket`: any number of contexts at a time on one socket, each with a task that sends its
speech. Every context that was heard of ends with exactly one `done`, an interrupted one too.
"""

import asyncio
import contextlib
from functools import partial

from websockets.http11 import Response

from daemon.config import LONGEST_LEAD_MS
from daemon.dialects.cartesia_tags import Tags
from daemon.dialects.cartesia_wire import (
    Cancel,
    CartesiaError,
    Generate,
    Shelf,
    chunk,
    done,
    error_message,
    flush_done,
    of_wire_error,
    parse_request,
    refusal_response,
    timestamps,
)
from daemon.dialects.line import Call, Line
from daemon.dialects.sockets import SocketDialect, Wants
from daemon.door.gate import Refusal
from daemon.formats.choice import FormatMissing, new_stream_encoder
from daemon.formats.stream import StreamEncoder
from daemon.speaking.outputs import (
    FlushReached,
    Samples,
    SegmentTrouble,
    UtteranceEnded,
    WordsSpoken,
)
from daemon.speaking.speech_stream import SpeechStream
from daemon.studio import Studio
from daemon.wire.errors import EngineFailed, TooManyContexts, WireError
from daemon.wire.protocol import Open


class CartesiaDialect(SocketDialect):
    name = "cartesia"

    def wants(self, call: Call) -> Wants | None:
        return Wants.CONVERSATION if call.parts == ("tts", "websocket") else None

    def token(self, call: Call) -> str | None:
        query = call.query
        return call.header("X-API-Key") or query.get("api_key") or query.get("access_token")

    def refused(self, refusal: Refusal) -> Response:
        return refusal_response(refusal)

    async def converse(self, line: Line) -> None:
        await _Conversation(line, self.studio).run()


class _Context:
    """`owed` is closed when nothing of it is owed to the client any more."""

    def __init__(
        self,
        request: Generate,
        stream: SpeechStream,
        *,
        tempo: float,
        owed: contextlib.ExitStack,
    ) -> None:
        self.name = request.context
        self.wish = request.wish
        self.has_timestamps = request.has_timestamps
        self.is_unbuffered = request.max_buffer_delay_ms == 0
        self.stream = stream
        self.tempo = tempo
        self.encoder = self.new_encoder()
        self.flush_id = 1
        """Of the flush that the audio now being sent comes before."""
        self.is_ended = False
        """No more text follows."""
        self.is_over = False
        """Its last messages are on their way."""
        self.owed = owed
        self._tags = Tags()

    def new_encoder(self) -> StreamEncoder:
        """Raises `FormatMissing`."""
        wish = self.wish
        return new_stream_encoder(wish.audio_format, sample_rate=wish.sample_rate, tempo=self.tempo)

    def take(self, request: Generate) -> None:
        """Raises `TextAfterEnd` or `TextTooLong`."""
        is_flush = request.is_flush or (self.is_unbuffered and bool(request.transcript.strip()))
        text = self._tags.push(request.transcript)
        if is_flush or not request.is_continued:
            text += self._tags.finish()
        if text:
            self.stream.add_text(text)
        if not request.is_continued:
            self.is_ended = True
            self.stream.end()
        elif is_flush:
            self.stream.flush()


class _Conversation:
    def __init__(self, line: Line, studio: Studio) -> None:
        self._line = line
        self._studio = studio
        info = studio.offer.info
        self._shelf = Shelf(
            voice_of=partial(studio.voice_of, bearer=line.bearer),
            default_voice=info.default_voice,
            languages=info.languages,
        )
        self._contexts: dict[str, _Context] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        try:
            while True:
                raw = await self._line.receive()
                try:
                    await self._obey(parse_request(raw, self._shelf))
                except CartesiaError as error:
                    await self._fail(error)
        finally:
            for context in self._contexts.values():
                context.owed.close()

    async def _obey(self, request: Generate | Cancel) -> None:
        """Raises `CartesiaError`."""
        if isinstance(request, Cancel):
            if await self._stop(request.context):
                await self._line.send_json(done(request.context))
            return
        has_text = bool(request.transcript.strip())
        context = self._contexts.get(request.context)
        if context is not None and context.is_over and has_text:
            # The client may have its `done` and use the name again.
            await asyncio.wait({self._tasks[context.name]})
            context = None
        try:
            if context is None:
                context = self._open(request)
            elif not has_text:
                # Its end or a flush. Clients name any voice and format in it: Cartesia's package
                # its defaults, Pipecat those of the next context.
                if context.is_ended:
                    return
            elif not request.wish.may_continue(context.wish):
                message = "voice, language and output_format must stay the same"
                raise CartesiaError(400, "context_changed", message, context=context.name)
            context.take(request)
        except WireError as error:
            raise of_wire_error(error, context=request.context) from error

    def _open(self, request: Generate) -> _Context:
        most = self._line.config.max_contexts
        if len(self._contexts) >= most:
            raise TooManyContexts(f"{most} contexts are live, and no more may be")
        wish = request.wish
        options, tempo = self._studio.at_speed(wish.speed)
        stream = self._studio.speak(
            Open(
                context=request.context,
                voice=wish.voice,
                language=wish.language,
                max_buffer_delay_ms=request.max_buffer_delay_ms,
                options=options,
                # At another tempo the listener's clock is not ours.
                max_lead_ms=None if tempo == 1.0 else LONGEST_LEAD_MS,
            ),
            bearer=self._line.bearer,
            audio_format=f"cartesia_{wish.audio_format}",
            session=self._line.name,
        )
        with contextlib.ExitStack() as owed:
            owed.callback(stream.close)
            owed.enter_context(self._line.busy())
            try:
                context = _Context(request, stream, tempo=tempo, owed=owed)
            except FormatMissing as error:
                raise CartesiaError(
                    400, "unsupported_speed", str(error), context=request.context
                ) from error
            context.owed = owed.pop_all()
        self._contexts[context.name] = context
        self._tasks[context.name] = self._line.spawn(self._speak(context))
        return context

    # --- speaking ---------------------------------------------------------------------------------

    async def _speak(self, context: _Context) -> None:
        try:
            await self._send_all(context)
        except WireError as error:
            context.is_over = True
            await self._tell(of_wire_error(error, context=context.name))
        else:
            context.is_over = True
            await self._line.send_json(done(context.name))
        self._forget(context.name)

    async def _send_all(self, context: _Context) -> None:
        """Raises `ContextLost`."""
        clock = asyncio.get_running_loop().time
        trouble: SegmentTrouble | None = None
        begun_s = clock()
        async with contextlib.aclosing(context.stream.outputs()) as outputs:
            async for output in outputs:
                match output:
                    case Samples():
                        audio = await self._encoded(context, output)
                        await self._send_audio(context, audio, step_ms=1000 * (clock() - begun_s))
                        begun_s = clock()
                    case WordsSpoken(words=words) if context.has_timestamps:
                        await self._line.send_json(
                            timestamps(
                                context.name,
                                words,
                                flush_id=context.flush_id,
                                tempo=context.tempo,
                            )
                        )
                    case FlushReached():
                        await self._send_audio(context, context.encoder.finish())
                        context.encoder = context.new_encoder()
                        number = context.flush_id
                        context.flush_id += 1
                        await self._line.send_json(flush_done(context.name, flush_id=number))
                    case SegmentTrouble(is_failure=True):
                        trouble = output
                    case UtteranceEnded():
                        await self._send_audio(context, context.encoder.finish())
        if trouble is not None:
            # All that could be spoken is out; but it must not pass for the whole.
            raise EngineFailed(f"the engine could not speak all of it: {trouble.message}")

    async def _encoded(self, context: _Context, output: Samples) -> bytes:
        samples = output.samples
        if context.wish.volume != 1.0:
            samples = samples * context.wish.volume
        work = partial(context.encoder.encode, samples)
        return await self._studio.in_pool(work) if context.encoder.is_costly else work()

    async def _send_audio(self, context: _Context, audio: bytes, *, step_ms: float = 0.0) -> None:
        if audio:
            message = chunk(context.name, audio, flush_id=context.flush_id, step_ms=step_ms)
            await self._line.send_json(message, is_audio=True)

    # --- ends -------------------------------------------------------------------------------------

    async def _stop(self, name: str) -> bool:
        """When it returns, nothing more of the context is sent. False if there was none."""
        context = self._contexts.get(name)
        if context is None:
            return False
        task = self._tasks[name]
        if not context.is_over:
            task.cancel()
        await asyncio.wait({task})
        if context.is_over:
            return False
        context.stream.cancel()
        self._forget(name)
        return True

    def _forget(self, name: str) -> None:
        """Its name is free from now on."""
        del self._tasks[name]
        self._contexts.pop(name).owed.close()

    async def _fail(self, error: CartesiaError) -> None:
        """An error about a context ends it."""
        if error.context is not None:
            await self._stop(error.context)
        await self._tell(error)

    async def _tell(self, error: CartesiaError) -> None:
        self._studio.note_error(f"cartesia_{error.code}")
        await self._line.send_json(error_message(error))
        if error.context is not None:
            await self._line.send_json(done(error.context, status=error.status))
