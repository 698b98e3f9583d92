"""One WebSocket: client messages in, messages of its contexts out, until either side goes.

A reader task, a writer task, and a delivery task for each context, all on the event loop.
"""

import asyncio
import itertools
import logging
from collections import OrderedDict
from collections.abc import Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from chatterbox.api import SAMPLE_RATE, Segment
from daemon.delivery import Delivery
from daemon.engine_thread import EngineThread, News, NoSlot, Speak
from daemon.errors import (
    BinaryMessage,
    Busy,
    ContextLost,
    Draining,
    DuplicateContext,
    EngineBroken,
    EngineFailed,
    GoingAway,
    SegmentLost,
    SessionClosed,
    SlowReader,
    TooManyContexts,
    UnknownContext,
    WireError,
)
from daemon.offer import ContextSettings, Offer
from daemon.outbox import Outbox
from daemon.protocol import (
    Cancel,
    Cancelled,
    End,
    Failed,
    Flush,
    Open,
    ServerMessage,
    TextDelta,
    Warned,
    parse_client_message,
    to_json,
)
from daemon.segmenter import Segmenter
from daemon.utterance import (
    SegmentTrouble,
    SpeechSettings,
    Utterance,
    UtteranceId,
    UtteranceOutput,
)

_log = logging.getLogger(__name__)

_MAX_RECENT = 32
"""Contexts that ended last and can still be asked what of them was heard."""
_CLOSE_S = 1.0
"""How long a client may take to answer a close before its socket is dropped."""


@dataclass(slots=True)
class _Context:
    """One live utterance with all that serves it."""

    settings: ContextSettings
    number: int
    utterance: Utterance
    utterance_id: UtteranceId
    delivery: Delivery
    task: "asyncio.Task[None]"
    flush_timer: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        return self.settings.context


@dataclass(frozen=True, slots=True)
class _Ended:
    """A context whose audio has all been sent; the listener may still be hearing it."""

    utterance: Utterance
    num_samples_sent: int


class Session:
    def __init__(
        self,
        connection: ServerConnection,
        *,
        engine: EngineThread,
        offer: Offer,
        executor: Executor,
    ) -> None:
        self._connection = connection
        self._engine = engine
        self._offer = offer
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(self._engine.clock)
        self._contexts: dict[str, _Context] = {}
        self._recent: OrderedDict[str, _Ended] = OrderedDict()
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Future[None] = self._loop.create_future()
        self._is_draining = False
        self._is_breaking_off = False

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Returns when the session is over and nothing of it is left."""
        self._post(self._offer.begin())
        self._spawn(self._read())
        self._spawn(self._write())
        close_code, reason = 1000, ""
        try:
            await self._closing
        except ConnectionClosed:
            _log.debug("%s: the client is gone", self._connection.id)
        except SessionClosed as error:
            close_code, reason = error.close_code, str(error)
            level = logging.INFO if isinstance(error, GoingAway) else logging.WARNING
            _log.log(level, "%s: closing with %d: %s", self._connection.id, close_code, reason)
        finally:
            await self._tear_down()
        await self._close(close_code, reason)

    def drain(self) -> None:
        """Let running contexts finish, open no new one, then close."""
        self._is_draining = True
        self._close_if_drained()

    def break_off(self, error: SessionClosed) -> None:
        """Close at once. What the engine owed to live contexts is lost: each is told so first."""
        if self._is_breaking_off:
            return
        self._is_breaking_off = True
        if isinstance(error, EngineBroken):
            for context in list(self._contexts.values()):
                self._lose(context, EngineFailed("the speech engine broke", context=context.name))
        self._spawn(self._close_when_told(error))

    async def _close_when_told(self, error: SessionClosed) -> None:
        """The last errors get a moment to leave before the close does."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._outbox.wait_until_empty()
        except TimeoutError:
            _log.debug("%s: did not take its last messages", self._connection.id)
        raise error

    async def _tear_down(self) -> None:
        for context in list(self._contexts.values()):
            self._drop(context)
        tasks = [task for task in self._tasks if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _close(self, code: int, reason: str) -> None:
        """A client that does not read cannot be told; its socket is dropped."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._connection.close(code, reason)
        except TimeoutError:
            self._connection.transport.abort()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """The session is over when one of its tasks fails, and when reading or writing ends."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._note_task_end)
        return task

    def _note_task_end(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not self._closing.done():
            self._closing.set_exception(error)

    # --- writing ----------------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            message = await self._outbox.get()
            try:
                async with asyncio.timeout(self._offer.config.stall_s):
                    await self._connection.send(message)
            except TimeoutError:
                stall_s = self._offer.config.stall_s
                raise SlowReader(f"nothing was read for {stall_s:g} s") from None

    def _post(self, message: ServerMessage) -> None:
        self._outbox.post(to_json(message))

    def _post_error(self, error: WireError) -> None:
        self._post(
            Failed(
                code=error.code,
                message=error.message,
                hint=error.hint,
                final=error.final,
                context=error.context,
            )
        )

    # --- reading ----------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            raw = await self._connection.recv()
            if not isinstance(raw, str):
                raise BinaryMessage("clients send text messages only")
            try:
                self._handle(raw)
            except WireError as error:
                self._post_error(error)
            await self._outbox.wait_for_room()

    def _handle(self, raw: str) -> None:
        message = parse_client_message(raw)
        try:
            match message:
                case Open():
                    self._open(message)
                case TextDelta():
                    self._add_text(self._live(message.context), message.text)
                case Flush():
                    context = self._live(message.context)
                    self._speak(context, context.utterance.flush())
                case End():
                    context = self._live(message.context)
                    self._speak(context, context.utterance.end())
                case Cancel():
                    self._cancel(message)
        except WireError as error:
            error.context = message.context
            raise

    def _live(self, name: str) -> _Context:
        context = self._contexts.get(name)
        if context is None:
            raise UnknownContext(f"there is no live context {name!r}")
        return context

    def _open(self, message: Open) -> None:
        if self._is_draining:
            raise Draining("the daemon is shutting down")
        if message.context in self._contexts:
            raise DuplicateContext(f"context {message.context!r} is live")
        max_contexts = self._offer.config.max_contexts
        if len(self._contexts) >= max_contexts:
            raise TooManyContexts(f"{max_contexts} contexts are live, and no more may be")
        settings = self._offer.resolve(message)
        self._recent.pop(message.context, None)
        context = self._build_context(settings)
        self._contexts[context.name] = context
        self._post(settings.to_opened(number=context.number))

    def _build_context(self, settings: ContextSettings) -> _Context:
        utterance = Utterance(
            settings=SpeechSettings(
                voice=settings.voice, seed=settings.seed, options=settings.options
            ),
            segmenter=Segmenter(max_chars=self._offer.info.max_segment_chars),
            next_segment_id=self._engine.next_segment_id,
            max_text_chars=self._offer.config.max_text_chars,
        )
        number = next(self._numbers)
        utterance_id = self._engine.open(
            max_lead_s=settings.max_lead_ms / 1000,
            listener=lambda news: self._note_news(context, news),
        )
        delivery = Delivery(
            settings=settings,
            number=number,
            utterance_id=utterance_id,
            engine=self._engine,
            outbox=self._outbox,
            executor=self._executor,
            on_end=lambda: self._note_end(context),
        )
        context = _Context(
            settings=settings,
            number=number,
            utterance=utterance,
            utterance_id=utterance_id,
            delivery=delivery,
            task=self._spawn(delivery.run()),
        )
        return context

    def _add_text(self, context: _Context, text: str) -> None:
        segments = context.utterance.add_text(text)
        if not text:
            return
        self._stop_flush_timer(context)
        self._speak(context, segments)
        if context.utterance.has_pending_text:
            delay_s = context.settings.max_buffer_delay_ms / 1000
            context.flush_timer = self._loop.call_later(delay_s, self._flush_words, context)

    def _flush_words(self, context: _Context) -> None:
        context.flush_timer = None
        self._speak(context, context.utterance.flush_complete_words())

    def _stop_flush_timer(self, context: _Context) -> None:
        if context.flush_timer is not None:
            context.flush_timer.cancel()
            context.flush_timer = None

    def _speak(self, context: _Context, segments: list[Segment]) -> None:
        for segment in segments:
            self._engine.post(Speak(context.utterance_id, segment))
        self._give_out(context, context.utterance.advance())

    # --- news of the engine -----------------------------------------------------------------------

    def _note_news(self, context: _Context, news: News) -> None:
        if isinstance(news, NoSlot):
            wait_ms = self._offer.config.max_wait_ms
            error = Busy(f"no slot became free within {wait_ms} ms", context=context.name)
            self._lose(context, error)
        else:
            self._give_out(context, context.utterance.take(news))

    def _give_out(self, context: _Context, outputs: list[UtteranceOutput]) -> None:
        for output in outputs:
            if isinstance(output, SegmentTrouble):
                self._tell_trouble(context, output)
        in_order = [item for item in outputs if not isinstance(item, SegmentTrouble)]
        if in_order:
            context.delivery.put(in_order)

    def _tell_trouble(self, context: _Context, trouble: SegmentTrouble) -> None:
        if trouble.is_failure:
            message = f"segment {trouble.index}: {trouble.message}"
            self._post_error(SegmentLost(message, context=context.name))
        else:
            self._post(
                Warned(
                    context=context.name,
                    code=trouble.code,
                    message=trouble.message,
                    segment=trouble.index,
                )
            )

    # --- ends of a context ------------------------------------------------------------------------

    def _note_end(self, context: _Context) -> None:
        """Its `audio_end` is on the way to the socket."""
        num_samples_sent = context.delivery.num_samples_sent
        self._drop(context)
        self._recent[context.name] = _Ended(context.utterance, num_samples_sent)
        while len(self._recent) > _MAX_RECENT:
            self._recent.popitem(last=False)

    def _cancel(self, message: Cancel) -> None:
        ended = self._recent.pop(message.context, None)
        if ended is not None:
            self._post_cancelled(message, ended.utterance, ended.num_samples_sent)
            return
        context = self._live(message.context)
        # First drop, then tell: nothing of the context may follow the acknowledgement.
        self._drop(context)
        context.utterance.cancel()
        self._post_cancelled(message, context.utterance, context.delivery.num_samples_sent)

    def _post_cancelled(self, message: Cancel, utterance: Utterance, num_samples_sent: int) -> None:
        played_ms = message.played_ms
        if played_ms is None:
            played_ms = num_samples_sent * 1000 / SAMPLE_RATE
        text = utterance.text
        played_samples = min(played_ms * SAMPLE_RATE / 1000, num_samples_sent)
        num_spoken = utterance.num_chars_spoken(played_samples)
        self._post(
            Cancelled(
                context=message.context,
                text_spoken=text[:num_spoken],
                text_remaining=text[num_spoken:],
                played_ms=round(played_ms, 3),
                samples_sent=num_samples_sent,
            )
        )

    def _lose(self, context: _Context, error: ContextLost) -> None:
        self._drop(context)
        context.utterance.cancel()
        self._post_error(error)

    def _drop(self, context: _Context) -> None:
        """Frees slots, encoder, task, packets and name, whatever the reason."""
        self._stop_flush_timer(context)
        self._engine.close(context.utterance_id)
        context.delivery.close()
        context.task.cancel()
        del self._contexts[context.name]
        if self._is_draining:
            self._loop.call_soon(self._close_if_drained)

    def _close_if_drained(self) -> None:
        if not self._contexts:
            self.break_off(GoingAway("the daemon shuts down"))
