"""A configuration and an engine in, a listening WebSocket daemon out, from warm-up to clean exit.

Listens only when the engine is warm. Who may come in is the gate's business, what is served besides
sessions that of the routes.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from chatterbox.api import SpeechEngine
from daemon import listener as listening
from daemon.agent_check import agent_line, serve_agent
from daemon.config import Config, ConfigError
from daemon.engine_thread import EngineThread
from daemon.errors import EngineBroken, GoingAway
from daemon.gate import Admission, Gate, Refusal
from daemon.health import Heartbeat
from daemon.metrics import Metrics
from daemon.notify import Notifier, watchdog_s
from daemon.offer import Offer
from daemon.protocol import PROTOCOL
from daemon.routes import Routes, refused
from daemon.session import Session
from daemon.tls import Certificate
from daemon.tokens import TokenBook, is_readable_by_all

_log = logging.getLogger(__name__)

_WRITE_LIMIT_BYTES = 8_192
_CLOSE_S = 1.0
_HANDSHAKE_S = 5.0
_MOST_HANDSHAKES = 256
"""Connections beyond the sessions: those that still shake hands, are refused, or ask for a page."""
_FORCED_STOP_S = 2.0
_BEAT_S = 1.0
_PATIENCE_S = 30.0


class Daemon:
    """One run of the daemon. `run` returns the exit status."""

    def __init__(
        self,
        config: Config,
        build_engine: Callable[[], SpeechEngine],
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._config = config
        self._environ = {} if environ is None else environ
        self._notifier = Notifier.from_environment(self._environ)
        self.metrics = Metrics()
        self._engine = EngineThread(
            build_engine,
            max_wait_s=config.max_wait_ms / 1000,
            max_waiting=config.max_waiting,
            on_broken=self._note_broken,
            on_report=self.metrics.note_engine,
        )
        self._gate = Gate(config, self._load_tokens(), clock=time.monotonic)
        self._certificate = (
            Certificate(config.tls_cert, config.tls_key)
            if config.tls_cert and config.tls_key
            else None
        )
        self._executor = ThreadPoolExecutor(config.opus_threads, thread_name_prefix="opus")
        self._sessions: set[Session] = set()
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
            with self._signals(), self._socket() as listener:
                offer = await self._warm_up()
                if offer is not None:
                    await self._serve(listener, offer, on_listening)
        finally:
            await self._stop_threads()
        return 1 if self._broken else 0

    def stop(self) -> None:
        """Finish what is being spoken, then end; called again, end at once."""
        if self._stop.is_set():
            self._force.set()
        self._gate.close()
        self._stop.set()

    def reload(self) -> None:
        """Read tokens and certificate again. What cannot be read leaves the old ones in place."""
        self._notifier.reloading()
        try:
            self._gate.tokens = self._load_tokens()
            if self._certificate is not None:
                self._certificate.reload()
            _log.info("tokens and certificate were read again")
        except ConfigError as error:
            _log.error("nothing was reloaded, the old ones hold: %s", error)
        self._notifier.ready(self._status())

    def _load_tokens(self) -> TokenBook:
        path = self._config.token_file
        tokens = TokenBook.load(self._config, clock=time.time)
        if path is not None and is_readable_by_all(path):
            _log.warning("%s holds secrets and every user of this machine can read it", path)
        return tokens

    @contextlib.contextmanager
    def _socket(self) -> Iterator[socket.socket]:
        """Bound before the engine is built, so that a taken port is known at once; nobody can
        connect before `_serve` listens."""
        config = self._config
        with listening.choose(self._environ, config.host, config.port) as listener:
            is_open = self._gate.tokens.is_empty and not config.public_without_token
            if is_open and listening.is_public(listener):
                raise ConfigError(
                    f"{listener.getsockname()[0]} can be reached from other machines, and nobody"
                    " would need a token: set token_file or tokens, or public_without_token if"
                    " somebody else keeps strangers out"
                )
            yield listener

    async def _warm_up(self) -> Offer | None:
        """None if it was told to stop meanwhile. Raises what the engine's building raised."""
        starting = asyncio.ensure_future(self._engine.start())
        stopping = asyncio.ensure_future(self._stop.wait())
        self._notifier.status("loading the model")
        give_up_s = time.monotonic() + self._config.start_s
        done: set[asyncio.Future[object]] = set()
        while not done:
            if time.monotonic() < give_up_s:
                self._notifier.extend_start(_PATIENCE_S)
            done, _ = await asyncio.wait(
                {starting, stopping},
                timeout=_PATIENCE_S / 3,
                return_when=asyncio.FIRST_COMPLETED,
            )
        if not starting.done():
            starting.cancel()
            self._force.set()
            return None
        stopping.cancel()
        return Offer(starting.result(), self._config)

    async def _serve(
        self,
        listener: socket.socket,
        offer: Offer,
        on_listening: Callable[[], None] | None,
    ) -> None:
        heartbeat = Heartbeat(
            self._engine.echo,
            interval_s=min(_BEAT_S, (watchdog_s(self._environ) or _BEAT_S) / 3),
            on_beat=self._note_beat,
            clock=time.monotonic,
        )
        routes = Routes(
            gate=self._gate,
            metrics=self.metrics,
            offer=offer,
            is_alive=lambda: heartbeat.silent_for_s < self._config.stuck_s,
            answer_elsewhere=lambda _request, _path: None,
        )
        self._watch(offer)
        async with self._beating(heartbeat), self._agent(listener):
            server = await self._open(listener, offer, routes)
            self.port = listener.getsockname()[1] if listener.family != socket.AF_UNIX else 0
            with listening.port_file(self._config.port_file, self.port):
                url = listening.url_of(listener, is_secure=self._certificate is not None)
                sys.stderr.write(f"listening on {url}\n")
                sys.stderr.flush()
                self._notifier.ready(self._status())
                if on_listening is not None:
                    on_listening()
                await self._stop.wait()
                await self._shut_down(server)
        self.port = None

    async def _open(
        self, listener: socket.socket, offer: Offer, routes: Routes
    ) -> WebSocketServer:
        admissions: dict[ServerConnection, Admission] = {}

        def process_request(connection: ServerConnection, request: Request) -> Response | None:
            response = routes.answer(request, address=connection.remote_address)
            return response or self._let_in(connection, request, admissions)

        async def talk(connection: ServerConnection) -> None:
            bearer = admissions[connection].bearer
            await self._talk(connection, Offer(offer.info, bearer.limit(self._config)))

        server = await serve(
            talk,
            sock=listener,
            ssl=self._certificate.context if self._certificate else None,
            process_request=process_request,
            create_connection=self._connection_type(),
            subprotocols=[Subprotocol(PROTOCOL)],
            select_subprotocol=_select_subprotocol,
            compression=None,
            server_header=None,
            open_timeout=_HANDSHAKE_S,
            max_size=self._config.max_message_bytes,
            write_limit=_WRITE_LIMIT_BYTES,
            ping_interval=self._config.ping_s,
            ping_timeout=self._config.ping_s,
            close_timeout=_CLOSE_S,
        )
        return server

    def _connection_type(self) -> type[ServerConnection]:
        """Connections that never say what they want must not use up the files of the process."""
        most = self._config.max_sessions + _MOST_HANDSHAKES
        metrics = self.metrics

        class Connection(ServerConnection):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                if len(self.server.handler_tasks) > most:
                    metrics.note_refusal("flood")
                    self.transport.abort()

        return Connection

    def _let_in(
        self,
        connection: ServerConnection,
        request: Request,
        admissions: dict[ServerConnection, Admission],
    ) -> Response | None:
        outcome = self._gate.admit(
            request.path, request.headers, address=connection.remote_address
        )
        if isinstance(outcome, Refusal):
            self.metrics.note_refusal(outcome.reason)
            return refused(outcome)
        admissions[connection] = outcome

        def give_back(_task: object) -> None:
            self._gate.give_back(admissions.pop(connection))

        # It counts until its task ends, also if its upgrade then fails.
        task = asyncio.current_task()
        assert task is not None, "websockets calls this in the connection's task"
        task.add_done_callback(give_back)
        return None

    async def _talk(self, connection: ServerConnection, offer: Offer) -> None:
        session = Session(
            connection,
            engine=self._engine,
            offer=offer,
            executor=self._executor,
            metrics=self.metrics,
        )
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

    # --- watching ---------------------------------------------------------------------------------

    def _watch(self, offer: Offer) -> None:
        self.metrics.note_model(offer.info.model)
        self.metrics.watch(
            {
                "sessions": ("Sessions now.", lambda: self._gate.num_sessions),
                "sessions_limit": ("Sessions at most.", lambda: self._config.max_sessions),
                "slots": ("Slots of the engine.", lambda: offer.info.num_slots),
                "contexts": ("Live contexts.", lambda: sum(s.num_contexts for s in self._sessions)),
                "lead_seconds_min": (
                    "Least audio that a speaking listener has ahead; NaN if nobody speaks.",
                    lambda: min(self._leads_s(), default=float("nan")),
                ),
                "lead_seconds_max": (
                    "Most audio that a speaking listener has ahead; NaN if nobody speaks.",
                    lambda: max(self._leads_s(), default=float("nan")),
                ),
                "draining": ("1 while the daemon shuts down.", lambda: self._gate.is_draining),
                "tasks": ("Tasks of the event loop.", lambda: len(asyncio.all_tasks())),
            }
        )

    def _leads_s(self) -> list[float]:
        return [lead_s for session in self._sessions for lead_s in session.leads_s()]

    def _status(self) -> str:
        return (
            f"{self._gate.num_sessions} of {self._config.max_sessions} sessions,"
            f" {self.metrics.num_slots_in_use} of {self._config.num_slots} slots speak"
        )

    def _note_beat(self, answer_s: float) -> None:
        self.metrics.note_engine_answer(answer_s)
        self._notifier.alive()
        if not self._stop.is_set():
            self._notifier.status(self._status())

    @contextlib.asynccontextmanager
    async def _beating(self, heartbeat: Heartbeat) -> "contextlib.AsyncIterator[None]":
        task = asyncio.create_task(heartbeat.run(), name="heartbeat")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _agent(self, beside: socket.socket) -> "contextlib.AsyncIterator[None]":
        """HAProxy's agent check, on the interface that clients use."""
        plug = listening.inherited(self._environ).get(listening.AGENT)
        if plug is None and self._config.agent_port is not None:
            plug = listening.listen(beside.getsockname()[0], self._config.agent_port)
        if plug is None:
            yield
            return
        agent = await serve_agent(
            plug,
            lambda: agent_line(
                num_free=self._gate.num_free,
                num_places=self._config.max_sessions,
                is_draining=self._gate.is_draining,
            ),
        )
        try:
            yield
        finally:
            agent.close()
            await agent.wait_closed()
