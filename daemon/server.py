"""A configuration and an engine in, a listening WebSocket daemon out, from warm-up to clean exit.

Listens only when the engine is warm. Refuses before the upgrade when it is full or on its way out.
"""

import asyncio
import contextlib
import http
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from chatterbox.api import SpeechEngine
from daemon.config import Config
from daemon.engine_thread import EngineThread
from daemon.errors import EngineBroken, GoingAway
from daemon.offer import Offer
from daemon.protocol import PROTOCOL
from daemon.session import Session

_log = logging.getLogger(__name__)

_WRITE_LIMIT_BYTES = 8_192
_SEND_BUFFER_BYTES = 16_384
"""What the kernel may hold for one client. Its own default would hide minutes of Opus."""
_CLOSE_S = 1.0
_FORCED_STOP_S = 2.0


class Daemon:
    """One run of the daemon. `run` returns the exit status."""

    def __init__(self, config: Config, build_engine: Callable[[], SpeechEngine]) -> None:
        self._config = config
        self._engine = EngineThread(
            build_engine,
            max_wait_s=config.max_wait_ms / 1000,
            on_broken=self._note_broken,
        )
        self._executor = ThreadPoolExecutor(config.opus_threads, thread_name_prefix="opus")
        self._sessions: set[Session] = set()
        self._admitted: set[asyncio.Task[object]] = set()
        self._no_sessions = asyncio.Event()
        self._no_sessions.set()
        self._stop = asyncio.Event()
        self._force = asyncio.Event()
        self._broken: Exception | None = None
        self.port: int | None = None
        """The port that it listens on; None before and after."""

    @property
    def num_sessions(self) -> int:
        return len(self._sessions)

    # --- life -------------------------------------------------------------------------------------

    async def run(self, *, on_listening: Callable[[], None] | None = None) -> int:
        try:
            with self._signals():
                offer = await self._warm_up()
                if offer is not None:
                    await self._serve(offer, on_listening)
        finally:
            await self._stop_threads()
        return 1 if self._broken else 0

    def stop(self) -> None:
        """Finish what is being spoken, then end; called again, end at once."""
        if self._stop.is_set():
            self._force.set()
        self._stop.set()

    async def _warm_up(self) -> Offer | None:
        """None if it was told to stop meanwhile. Raises what the engine's building raised."""
        starting = asyncio.ensure_future(self._engine.start())
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            self._force.set()
            return None
        stopping.cancel()
        return Offer(starting.result(), self._config)

    async def _serve(self, offer: Offer, on_listening: Callable[[], None] | None) -> None:
        async def talk(connection: ServerConnection) -> None:
            session = Session(connection, engine=self._engine, offer=offer, executor=self._executor)
            self._sessions.add(session)
            self._no_sessions.clear()
            if self._stop.is_set():  # its handshake began before
                session.drain()
            try:
                await session.run()
            finally:
                self._sessions.discard(session)
                if not self._sessions:
                    self._no_sessions.set()

        listener = _listen(self._config.host, self._config.port)
        server = await serve(
            talk,
            sock=listener,
            process_request=self._process_request,
            subprotocols=[Subprotocol(PROTOCOL)],
            select_subprotocol=_select_subprotocol,
            compression=None,
            server_header=None,
            max_size=self._config.max_message_bytes,
            write_limit=_WRITE_LIMIT_BYTES,
            ping_interval=self._config.ping_s,
            ping_timeout=self._config.ping_s,
            close_timeout=_CLOSE_S,
        )
        self.port = listener.getsockname()[1]
        with _port_file(self._config.port_file, self.port):
            sys.stderr.write(f"listening on ws://{_shown(self._config.host)}:{self.port}\n")
            sys.stderr.flush()
            if on_listening is not None:
                on_listening()
            await self._stop.wait()
            await self._shut_down(server)
        self.port = None

    async def _shut_down(self, server: WebSocketServer) -> None:
        # 1. `_stop` is set: /readyz and new connections get 503, new contexts an error.
        # 2. Running contexts finish, and each session closes with its last one, within the grace.
        for session in list(self._sessions):
            session.drain()
        await self._wait_for_sessions(self._config.grace_s, or_forced=True)
        # 3. Whoever is left is closed in mid-speech, or dropped if it does not read.
        for session in list(self._sessions):
            session.break_off(GoingAway("the daemon shuts down"))
        await self._wait_for_sessions(3 * _CLOSE_S)
        # 4. The port is closed, and with the last connection so is the server.
        server.close()
        await server.wait_closed()
        # 5. Nobody posts any more: `_stop_threads` ends the engine and the encoders.

    async def _wait_for_sessions(self, longest_s: float, *, or_forced: bool = False) -> None:
        waits = [asyncio.ensure_future(self._no_sessions.wait())]
        if or_forced:
            waits.append(asyncio.ensure_future(self._force.wait()))
        done, pending = await asyncio.wait(
            waits, timeout=longest_s, return_when=asyncio.FIRST_COMPLETED
        )
        for wait in pending:
            wait.cancel()
        if not done:
            _log.warning("%d sessions are still open after %g s", len(self._sessions), longest_s)

    async def _stop_threads(self) -> None:
        self._executor.shutdown(cancel_futures=True)
        try:
            async with asyncio.timeout(_FORCED_STOP_S if self._force.is_set() else None):
                await self._engine.stop()
        except TimeoutError:
            # The engine is inside a call that cannot be interrupted, such as loading a checkpoint.
            # Leaving by the front door would wait for it, or unload libraries that it is using.
            _log.warning("the engine does not stop; leaving without it")
            sys.stderr.flush()
            os._exit(0)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _note_broken(self, error: Exception) -> None:
        """The engine broke. No context can go on, and a fresh process is the cure."""
        self._broken = error
        for session in list(self._sessions):
            session.break_off(EngineBroken("the speech engine broke"))
        self._stop.set()

    # --- before the upgrade -----------------------------------------------------------------------

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        path = urlsplit(request.path).path
        if path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "alive\n")
        if path == "/readyz":
            return self._refusal(connection) or connection.respond(http.HTTPStatus.OK, "ready\n")
        if path != "/":
            return connection.respond(http.HTTPStatus.NOT_FOUND, "there is nothing here\n")
        refusal = self._refusal(connection)
        if refusal is None:
            self._admit_current_task()
        return refusal

    def _refusal(self, connection: ServerConnection) -> Response | None:
        if self._stop.is_set():
            why = "shutting down\n"
        elif len(self._admitted) >= self._config.max_sessions:
            why = "full\n"
        else:
            return None
        response = connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, why)
        response.headers["Retry-After"] = str(self._config.retry_after_s)
        return response

    def _admit_current_task(self) -> None:
        """A connection counts from here until its task ends, also if its upgrade then fails."""
        task = asyncio.current_task()
        assert task is not None, "websockets calls this in the connection's task"
        self._admitted.add(task)
        task.add_done_callback(self._admitted.discard)


def _listen(host: str, port: int) -> socket.socket:
    """Accepted sockets inherit the small send buffer."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _select_subprotocol(
    connection: ServerConnection, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    """Clients need not offer any."""
    return Subprotocol(PROTOCOL) if PROTOCOL in offered else None


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextlib.contextmanager
def _port_file(path: Path | None, port: int) -> Iterator[None]:
    """Whoever reads the file while it exists sees a whole number."""
    if path is None:
        yield
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(f"{port}\n")
    draft.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
