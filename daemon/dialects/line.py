"""A client's request and its WebSocket in; what a dialect may do with them out.

Paces what comes in, gives up a client that takes nothing, ends with the first failure of one of its
tasks. Knows no dialect and no speech. Lives on the event loop.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from daemon.config import Config
from daemon.door.peers import Pace
from daemon.door.tokens import ANYBODY, Bearer
from daemon.watching.metrics import Metrics
from daemon.wire.errors import BadJson, GoingAway, SessionClosed, SlowReader

_log = logging.getLogger(__name__)

_MOST_REASON_BYTES = 123
"""Of a WebSocket's close."""
_CLOSE_S = 1.0
"""How long a client may take to answer a close before its socket is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The request that a client came with."""

    parts: tuple[str, ...]
    """The path's, decoded: `/v1/voices` is ("v1", "voices")."""
    query: Mapping[str, str]
    """Decoded; of several with one name the first."""
    headers: Headers
    bearer: Bearer = ANYBODY
    """Who it is, once that is known: when a question is answered or a conversation may begin."""

    @classmethod
    def of(cls, request: Request) -> "Call":
        path, _, query = request.path.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        return cls(
            parts=tuple(unquote(part) for part in path.strip("/").split("/")),
            query=dict(reversed(pairs)),
            headers=request.headers,
        )

    def header(self, name: str) -> str | None:
        """Several of them together are nobody's token."""
        values = self.headers.get_all(name)
        return ", ".join(values) if values else None


class HangUp(Exception):
    """Raised in a conversation, by any of its tasks: the socket is closed with this code."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason.encode()[:_MOST_REASON_BYTES].decode(errors="ignore")


class Line:
    """One client's WebSocket, as its dialect sees it."""

    def __init__(
        self,
        connection: ServerConnection,
        call: Call,
        *,
        name: str,
        bearer: Bearer,
        config: Config,
        metrics: Metrics,
    ) -> None:
        self.call = call
        self.name = name
        """What the log calls it; what `Studio.speak` takes as `session`."""
        self.bearer = bearer
        self.config = config
        """With the limits that hold for this bearer."""
        self._connection = connection
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        rate_per_s = config.max_messages_per_s
        self._pace = Pace(rate_per_s=rate_per_s, burst=2 * rate_per_s, now_s=self._loop.time())
        self._tasks: set[asyncio.Task[None]] = set()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._num_busy = 0
        self._is_draining = False

    # --- what a dialect does ----------------------------------------------------------------------

    async def receive(self) -> str | bytes:
        """The client's next message, at the pace that is allowed. Whoever waits may be cancelled,
        and wait again. Raises `ConnectionClosed`, which the dialect need not catch."""
        early_s = self._pace.take(self._loop.time())
        while early_s:
            await asyncio.sleep(early_s)
            early_s = self._pace.take(self._loop.time())
        raw = await self._connection.recv()
        self._metrics.note_received(len(raw))
        return raw

    async def receive_object(self) -> dict[str, Any]:
        """The same, as a JSON object. Raises `BadJson`; the next one can be received after it."""
        return parse_object(await self.receive())

    async def send(self, message: str | bytes, *, is_audio: bool = False) -> None:
        """Returns when the socket has room again; any number of tasks may wait for that. A client
        that takes nothing for `stall_s` is given up."""
        stall_s = self.config.stall_s
        try:
            async with asyncio.timeout(stall_s):
                await self._connection.send(message)
        except TimeoutError:
            raise SlowReader(f"nothing was read for {stall_s:g} s") from None
        self._metrics.note_sent(message, is_audio=is_audio)

    async def send_json(self, body: Mapping[str, object], *, is_audio: bool = False) -> None:
        await self.send(json.dumps(body), is_audio=is_audio)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """A task that ends with the conversation at the latest. What it raises, but for being
        cancelled, ends the conversation."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._note_task_end)
        return task

    def hang_up(self, code: int = 1000, reason: str = "") -> None:
        """The end of the conversation, from outside its tasks."""
        if not self._over.done():
            self._over.set_exception(HangUp(code, reason))

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """The client is owed something until the block ends, the last message of a context say. A
        daemon that drains waits for that, within its grace, then closes the socket (1001)."""
        self._num_busy += 1
        try:
            yield
        finally:
            self._num_busy -= 1
            self._close_if_drained()

    # --- the switchboard's side -------------------------------------------------------------------

    async def run(self, converse: Callable[["Line"], Awaitable[None]]) -> None:
        """Returns when the socket is closed and nothing of the conversation is left."""
        self.spawn(self._converse(converse))
        code, reason = 1000, ""
        try:
            await self._over
        except ConnectionClosed:
            code = self._connection.protocol.close_code or 1006
        except HangUp as error:
            code, reason = error.code, error.reason
        except SessionClosed as error:
            code, reason = error.close_code, str(error)
        finally:
            await self._stop_tasks()
        _log.debug("closing with %d %s", code, reason, extra={"session": self.name})
        self._metrics.note_close(code)
        await self._close(code, reason)

    def drain(self) -> None:
        """Close when nothing is owed any more."""
        self._is_draining = True
        self._close_if_drained()

    def break_off(self) -> None:
        """Close soon, whatever is owed: the last errors get a moment to leave."""
        self.drain()
        going = GoingAway("the daemon shuts down")
        self._loop.call_later(_CLOSE_S, self.hang_up, going.close_code, str(going))

    async def _converse(self, converse: Callable[["Line"], Awaitable[None]]) -> None:
        await converse(self)
        if not self._over.done():
            self._over.set_result(None)

    def _close_if_drained(self) -> None:
        if self._is_draining and not self._num_busy and not self._over.done():
            self._over.set_exception(GoingAway("the daemon shuts down"))

    def _note_task_end(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not self._over.done():
            self._over.set_exception(error)

    async def _stop_tasks(self) -> None:
        tasks = list(self._tasks)
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


def parse_object(raw: str | bytes) -> dict[str, Any]:
    """Raises `BadJson`."""
    if isinstance(raw, bytes):
        raise BadJson("this is a binary message, and clients send text messages")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadJson(f"this is not JSON: {str(error)[:100]}") from None
    if not isinstance(body, dict):
        raise BadJson("this is JSON, but no object")
    return body
