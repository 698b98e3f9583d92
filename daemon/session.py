"""One WebSocket: client messages in, messages of its contexts out, until either side goes.

A reader task, a writer task, and a delivery task for each context, all on the event loop.
"""

import asyncio
import itertools
import logging
from collections.abc import Coroutine
from concurrent.futures import Executor
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from daemon.cloned.desk import VoiceDesk
from daemon.cloned.library import VoiceLibrary
from daemon.context import Context, ContextMemory
from daemon.door.peers import Pace
from daemon.engine.thread import EngineThread
from daemon.outbox import Outbox
from daemon.speaking.account import Outcome
from daemon.speaking.offer import Offer
from daemon.watching.metrics import Metrics
from daemon.wire.errors import (
    Busy,
    ContextLost,
    Draining,
    DuplicateContext,
    EngineBroken,
    EngineFailed,
    GoingAway,
    SessionClosed,
    SlowReader,
    TooManyContexts,
    UnknownContext,
    WireError,
)
from daemon.wire.protocol import (
    Cancel,
    ContextMessage,
    End,
    Failed,
    Flush,
    Open,
    ServerMessage,
    TextDelta,
    parse_client_message,
    to_json,
)
from daemon.wire.voice_messages import VoiceDelete, VoiceList, VoiceUpload

_log = logging.getLogger(__name__)

_NUM_REMEMBERED = 32
"""Contexts that ended last and can still be asked what of them was heard."""
_CLOSE_S = 1.0
"""How long a client may take to answer a close before its socket is dropped."""


class Session:
    def __init__(
        self,
        connection: ServerConnection,
        *,
        engine: EngineThread,
        offer: Offer,
        executor: Executor,
        metrics: Metrics,
        library: VoiceLibrary,
        peer: str,
    ) -> None:
        """`peer` is for the audit log."""
        self._connection = connection
        self._engine = engine
        self._offer = offer
        self._executor = executor
        self._metrics = metrics
        self.id = connection.id.hex[:12]
        """What the log calls this session."""
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(self._engine.clock)
        rate_per_s = offer.config.max_messages_per_s
        self._pace = Pace(rate_per_s=rate_per_s, burst=2 * rate_per_s, now_s=self._engine.clock())
        self._contexts: dict[str, Context] = {}
        self._task_of: dict[Context, asyncio.Task[None]] = {}
        self._ended = ContextMemory(size=_NUM_REMEMBERED)
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._desk = VoiceDesk(
            library,
            bearer=offer.bearer,
            peer=peer,
            longest_upload_s=offer.config.clone_s,
            owner=self,
            spawn=self._spawn,
        )
        self._closing: asyncio.Future[None] = self._loop.create_future()
        self._is_draining = False
        self._is_breaking_off = False

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Returns when the session is over and nothing of it is left."""
        self.post(self._offer.begin())
        self._spawn(self._read())
        self._spawn(self._write())
        close_code, reason = 1000, ""
        try:
            await self._closing
        except ConnectionClosed:
            close_code = self._connection.protocol.close_code or 1006
            _log.debug("the client is gone", extra=self._marks())
        except SessionClosed as error:
            close_code, reason = error.close_code, str(error)
            level = logging.INFO if isinstance(error, GoingAway) else logging.WARNING
            _log.log(level, "closing with %d: %s", close_code, reason, extra=self._marks())
        finally:
            await self._tear_down()
            self._metrics.note_close(close_code)
        await self._close(close_code, reason)

    @property
    def num_contexts(self) -> int:
        return len(self._contexts)

    def leads_s(self) -> list[float]:
        """How much audio each listener has ahead that has begun to hear its context."""
        leads = (context.lead_s() for context in self._contexts.values())
        return [lead_s for lead_s in leads if lead_s is not None]

    def _marks(self, context: Context | None = None) -> dict[str, object]:
        """What a log line is found by."""
        marks: dict[str, object] = {"session": self.id}
        return marks if context is None else marks | {"context": context.name}

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
                self.lose(context, EngineFailed("the speech engine broke", context=context.name))
        self._spawn(self._close_when_told(error))

    async def _close_when_told(self, error: SessionClosed) -> None:
        """The last errors get a moment to leave before the close does."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._outbox.wait_until_empty()
        except TimeoutError:
            _log.debug("did not take its last messages", extra=self._marks())
        raise error

    async def _tear_down(self) -> None:
        self._desk.close()
        for context in list(self._contexts.values()):
            context.cancel()
            self._remove(context, Outcome.GONE)
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
            self._metrics.note_sent(message)

    def post(self, message: ServerMessage) -> None:
        self._outbox.post(to_json(message))

    def post_error(self, error: WireError) -> None:
        self._metrics.note_error(error.code)
        self.post(
            Failed(
                code=error.code,
                message=error.message,
                hint=error.hint,
                final=error.final,
                context=error.context,
                upload=error.upload,
            )
        )

    # --- reading ----------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            raw = await self._connection.recv()
            self._metrics.note_received(len(raw))
            await self._keep_pace()
            try:
                if isinstance(raw, str):
                    self._handle(raw)
                else:
                    self._desk.take_bytes(raw)
            except WireError as error:
                self.post_error(error)
            await self._outbox.wait_for_room()

    async def _keep_pace(self) -> None:
        """Whoever writes too fast is read later; the socket's buffers then tell it to wait."""
        early_s = self._pace.take(self._engine.clock())
        while early_s:
            await asyncio.sleep(early_s)
            early_s = self._pace.take(self._engine.clock())

    def _handle(self, raw: str) -> None:
        message = parse_client_message(raw)
        match message:
            case VoiceUpload():
                self._upload(message)
            case VoiceList() | VoiceDelete():
                self._desk.take(message)
            case _:
                self._handle_context(message)

    def _upload(self, message: VoiceUpload) -> None:
        try:
            if self._is_draining:
                raise Draining("the daemon is shutting down")
            self._desk.take(message)
        except WireError as error:
            error.upload = message.upload
            raise

    def _handle_context(self, message: ContextMessage) -> None:
        try:
            match message:
                case Open():
                    self._open(message)
                case TextDelta():
                    self._live(message.context).add_text(message.text)
                case Flush():
                    self._live(message.context).flush()
                case End():
                    self._live(message.context).end()
                case Cancel():
                    self._cancel(message)
        except WireError as error:
            error.context = message.context
            raise

    def _live(self, name: str) -> Context:
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
        context = Context(
            self._offer.resolve(message),
            number=next(self._numbers),
            owner=self,
            offer=self._offer,
            engine=self._engine,
            outbox=self._outbox,
            executor=self._executor,
        )
        _log.debug("opened", extra=self._marks(context))
        self._ended.forget(context.name)
        self._contexts[context.name] = context
        self._task_of[context] = self._spawn(context.deliver())
        self.post(context.settings.to_opened(number=context.number))

    def _cancel(self, message: Cancel) -> None:
        context = self._ended.forget(message.context)
        if context is None:
            context = self._live(message.context)
            # First drop, then tell: nothing of the context may follow the acknowledgement.
            context.cancel()
            self._remove(context, Outcome.CANCELLED)
        self.post(context.to_cancelled(message.played_ms))

    # --- ends of a context ------------------------------------------------------------------------

    def note_end(self, context: Context) -> None:
        context.drop()
        self._remove(context, Outcome.COMPLETE)
        self._ended.remember(context)

    def lose(self, context: Context, error: ContextLost) -> None:
        context.cancel()
        self._remove(context, Outcome.BUSY if isinstance(error, Busy) else Outcome.FAILED)
        self.post_error(error)

    def _remove(self, context: Context, outcome: Outcome) -> None:
        """Its name is free from now on."""
        summary = context.summarize(outcome)
        self._metrics.note_utterance(summary)
        marks = self._marks(context) | {"fields": summary.fields()}
        _log.info("%s", outcome.value, extra=marks)
        del self._contexts[context.name]
        self._task_of.pop(context).cancel()
        if self._is_draining:
            self._loop.call_soon(self._close_if_drained)

    def _close_if_drained(self) -> None:
        if not self._contexts:
            self.break_off(GoingAway("the daemon shuts down"))
