"""HTTP requests of OpenAI's speech API in, chunked audio or server-sent events out.

A request is one utterance. Status and headers are sent with the first audio, so that whatever goes
wrong before it has a status of its own; what goes wrong later breaks the connection off.
"""

import asyncio
import base64
import contextlib
import json
import logging
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from websockets.datastructures import Headers

from chatterbox.api import SAMPLE_RATE
from daemon.config import LONGEST_LEAD_MS
from daemon.dialects.openai_wire import (
    VOICE_NAMES,
    OpenAIError,
    SpeechRequest,
    model_names,
    of_refusal,
    of_wire_error,
    parse_request,
    resolve_voice,
)
from daemon.door.tokens import Bearer
from daemon.formats.choice import (
    CONTENT_TYPES,
    FormatMissing,
    TempoMissing,
    new_stream_encoder,
)
from daemon.formats.stream import StreamEncoder
from daemon.speaking.outputs import Samples, SegmentTrouble, UtteranceEnded
from daemon.speaking.speech_stream import SpeechStream
from daemon.studio import Refused, Studio
from daemon.wire.errors import EngineFailed, WireError
from daemon.wire.protocol import Open

_log = logging.getLogger(__name__)

_BYTES_A_CHAR = 12
"""An astral character written as two JSON escapes."""
_CLOSE_S = 1.0
_SPEECH_TOKENS_PER_S = 25


@contextlib.asynccontextmanager
async def serve_openai(
    listener: socket.socket, studio: Studio, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Answers for as long as the block lasts."""
    runner = web.AppRunner(
        _app(studio),
        handle_signals=False,
        handler_cancellation=True,  # a client that goes away ends its speech
        access_log=None,
        shutdown_timeout=_CLOSE_S,
        auto_decompress=False,  # no client does, and 50 kB may hold 50 MB
    )
    await runner.setup()
    try:
        await web.SockSite(runner, listener, ssl_context=tls).start()
        yield
    finally:
        await runner.cleanup()


def _app(studio: Studio) -> web.Application:
    dialect = OpenAIDialect(studio)
    most_bytes = _BYTES_A_CHAR * studio.offer.config.max_text_chars + 4096
    app = web.Application(middlewares=[dialect.answer_errors], client_max_size=most_bytes)
    app.router.add_post("/v1/audio/speech", dialect.speech)
    app.router.add_get("/v1/audio/voices", dialect.voices)
    app.router.add_get("/v1/models", dialect.models)
    app.router.add_get("/v1/models/{name:.+}", dialect.model)
    return app


class OpenAIDialect:
    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._info = studio.offer.info
        self._config = studio.offer.config

    # --- questions --------------------------------------------------------------------------------

    async def models(self, request: web.Request) -> web.StreamResponse:
        self._check_token(request)
        data = [_model_object(name) for name in model_names(self._info)]
        return web.json_response({"object": "list", "data": data})

    async def model(self, request: web.Request) -> web.StreamResponse:
        self._check_token(request)
        name = request.match_info["name"]
        if name not in model_names(self._info):
            raise OpenAIError(404, f"there is no model {name!r}", code="model_not_found")
        return web.json_response(_model_object(name))

    async def voices(self, request: web.Request) -> web.StreamResponse:
        """Not OpenAI's, but asked for by many clients of servers like this one."""
        bearer = self._check_token(request)
        aliases = {name: resolve_voice(name, self._info) for name in VOICE_NAMES}
        voices = self._studio.offer.to(bearer).voices
        return web.json_response({"voices": voices, "aliases": aliases})

    def _check_token(self, request: web.Request) -> Bearer:
        return self._studio.check_token(_headers(request), address=_address(request))

    # --- speech -----------------------------------------------------------------------------------

    async def speech(self, request: web.Request) -> web.StreamResponse:
        with self._studio.admitted(_headers(request), address=_address(request)) as bearer:
            wanted = parse_request(await self._body(request), self._info)
            options, encoder = self._at_speed(wanted)
            stream = self._studio.speak(
                Open(
                    context="speech",
                    voice=wanted.voice,
                    seed=wanted.seed,
                    language=wanted.language,
                    options=options,
                    # Most clients fetch a file: as fast as it can be made. Who listens live is
                    # served first all the same, by deadline.
                    max_lead_ms=LONGEST_LEAD_MS,
                ),
                bearer=bearer,
                audio_format=f"openai_{wanted.audio_format}",
                session=self._studio.new_name("openai"),
            )
            with self._studio.owing():
                async with stream:
                    stream.add_text(wanted.text)
                    stream.end()
                    async with contextlib.aclosing(self._encoded(stream, encoder)) as speech:
                        return await self._send(request, wanted, stream, speech)

    async def _body(self, request: web.Request) -> object:
        try:
            async with asyncio.timeout(self._config.stall_s):
                return json.loads(await request.read())
        except TimeoutError as error:
            raise OpenAIError(408, "the body did not come", code="timeout") from error
        except web.RequestPayloadError as error:
            raise OpenAIError(400, "the body is not what its headers say", code=None) from error
        except (ValueError, RecursionError) as error:
            message = f"the body is not JSON: {str(error)[:200]}"
            raise OpenAIError(400, message, code="invalid_json") from error

    def _at_speed(self, wanted: SpeechRequest) -> tuple[Mapping[str, float], StreamEncoder]:
        """Options of the model, and an encoder. A stretched waveform is cleaner than the model's
        own speed (EXPERIMENTS.md), which is for where the library that stretches is missing."""
        name = wanted.audio_format
        try:
            return wanted.options, new_stream_encoder(name, tempo=wanted.speed)
        except TempoMissing as error:
            options, tempo = self._studio.at_speed(wanted.speed)
            if tempo != 1.0 or "speed" in wanted.options:
                raise _missing(error, param="speed") from error
            return {**wanted.options, **options}, new_stream_encoder(name)
        except FormatMissing as error:
            raise _missing(error, param="response_format") from error

    async def _send(
        self,
        request: web.Request,
        wanted: SpeechRequest,
        stream: SpeechStream,
        speech: AsyncIterator[bytes],
    ) -> web.StreamResponse:
        """What goes wrong before the first audio is raised. Afterwards there is no status to give:
        the body is not ended properly, which every client notices."""
        first = await anext(speech)
        response = web.StreamResponse()
        response.content_type = (
            "text/event-stream" if wanted.is_sse else CONTENT_TYPES[wanted.audio_format]
        )
        response.headers["Cache-Control"] = "no-store"
        response.headers["x-request-id"] = stream.session  # what the log calls it
        response.enable_chunked_encoding()
        await response.prepare(request)
        if request.transport is not None:
            # The end is waited for until the kernel has it: nothing of it is lost when the daemon
            # ends.
            request.transport.set_write_buffer_limits(high=0)
        wrap = _delta_event if wanted.is_sse else bytes
        try:
            await self._write(response, wrap(first))
            async for data in speech:
                await self._write(response, wrap(data))
            if wanted.is_sse:
                await self._write(response, _done_event(wanted, stream))
            async with asyncio.timeout(self._config.stall_s):
                await response.write_eof()
        except (WireError, TimeoutError) as error:
            _log.warning("an OpenAI client's speech was broken off: %s", error)
            if wanted.is_sse and isinstance(error, WireError):
                retry_after_s = self._config.retry_after_s
                body = of_wire_error(error, retry_after_s=retry_after_s).body
                with contextlib.suppress(TimeoutError):
                    await self._write(response, _event("error", body))
            # aiohttp takes this as a connection that is gone, and ends no body.
            raise ConnectionAbortedError from error
        return response

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        """Raises `TimeoutError` if the client does not read."""
        if data:
            async with asyncio.timeout(self._config.stall_s):
                await response.write(data)

    async def _encoded(
        self, stream: SpeechStream, encoder: StreamEncoder
    ) -> AsyncGenerator[bytes, None]:
        """At least one piece, maybe empty. Raises `WireError`."""
        begun = encoder.begin()
        trouble: SegmentTrouble | None = None
        async for output in stream.outputs():
            match output:
                case Samples():
                    work = partial(encoder.encode, output.samples)
                    data = await self._studio.in_pool(work) if encoder.is_costly else work()
                    yield begun + data
                    begun = b""
                case SegmentTrouble(is_failure=True):
                    trouble = output
                case UtteranceEnded() if trouble is not None:
                    # All that could be spoken is out; but it must not pass for the whole.
                    raise EngineFailed(f"the engine could not speak all of it: {trouble.message}")
        yield begun + encoder.finish()

    # --- errors -----------------------------------------------------------------------------------

    @property
    def answer_errors(self) -> Middleware:
        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                return await handler(request)
            except OpenAIError as error:
                return self._refuse(error)
            except Refused as error:
                return self._refuse(of_refusal(error.refusal))
            except WireError as error:
                retry_after_s = self._config.retry_after_s
                return self._refuse(of_wire_error(error, retry_after_s=retry_after_s))
            except web.HTTPException as error:
                message = f"{request.method} {request.path}: {error.reason}"
                return self._refuse(OpenAIError(error.status, message, code=None))
            except ConnectionError:
                raise
            except Exception:  # noqa: BLE001 - logged; the client is told in its own form
                _log.exception("a request of an OpenAI client failed")
                bug = OpenAIError(500, "the daemon has a bug", code=None, kind="server_error")
                return self._refuse(bug)

        return middleware

    def _refuse(self, error: OpenAIError) -> web.Response:
        self._studio.note_error(f"openai_{error.code or error.status}")
        response = web.json_response(error.body, status=error.status)
        if error.retry_after_s is not None:
            response.headers["Retry-After"] = str(error.retry_after_s)
        if error.status == web.HTTPUnauthorized.status_code:
            response.headers["WWW-Authenticate"] = 'Bearer realm="chatterboxd"'
        return response


def _missing(error: FormatMissing, *, param: str) -> OpenAIError:
    return OpenAIError(400, str(error), code="unsupported_value", param=param)


def _headers(request: web.Request) -> Headers:
    return Headers(list(request.headers.items()))


def _address(request: web.Request) -> object:
    return None if request.transport is None else request.transport.get_extra_info("peername")


def _model_object(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "chatterboxd"}


def _event(kind: str, body: dict[str, object]) -> bytes:
    return b"data: " + json.dumps({"type": kind, **body}).encode() + b"\n\n"


def _delta_event(audio: bytes) -> bytes:
    if not audio:
        return b""
    return _event("speech.audio.delta", {"audio": base64.b64encode(audio).decode()})


def _done_event(wanted: SpeechRequest, stream: SpeechStream) -> bytes:
    """Text is counted in characters, audio in speech tokens: 25 a second."""
    num_out = round(stream.num_samples_sent * _SPEECH_TOKENS_PER_S / SAMPLE_RATE)
    usage = {
        "input_tokens": len(wanted.text),
        "output_tokens": num_out,
        "total_tokens": len(wanted.text) + num_out,
    }
    return _event("speech.audio.done", {"usage": usage})
