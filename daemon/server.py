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
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection

from chatterbox.api import EngineInfo, SpeechEngine
from daemon.cloned.library import VoiceLibrary
from daemon.cloned.worker import VoiceMaker, worker_command
from daemon.config import Config, ConfigError
from daemon.dialects.doors import Doors, bound_doors, main_port_dialects
from daemon.dialects.switchboard import Switchboard
from daemon.door import listener as listening
from daemon.door.gate import Gate
from daemon.door.tls import Certificate
from daemon.door.tokens import TokenBook, is_readable_by_all
from daemon.door.web import Site
from daemon.engine.thread import EngineThread
from daemon.front_door import open_door
from daemon.routes import Routes
from daemon.session import Session
from daemon.speaking.lexicon import read_lexicon
from daemon.speaking.offer import Offer
from daemon.studio import Studio
from daemon.watching.agent_check import agent_line, serve_agent
from daemon.watching.audit_log import AuditLog
from daemon.watching.gpu import gpu_gauges
from daemon.watching.health import Heartbeat
from daemon.watching.metrics import Metrics
from daemon.watching.notify import Notifier, watchdog_s
from daemon.wire.errors import EngineBroken, EngineFailed, GoingAway

_log = logging.getLogger(__name__)

_CLOSE_S = 1.0
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
        clone_command: Sequence[str] | None = None,
    ) -> None:
        """`clone_command` makes voices of clips, as `chatterbox.cloning` does."""
        self._config = config
        self._clone_command = clone_command or worker_command(config)
        self._audit = AuditLog(config.audit_file)
        self._lexicon = read_lexicon(config.lexicon)
        self._environ = {} if environ is None else environ
        self._notifier = Notifier.from_environment(self._environ)
        self._passed = listening.inherited(self._environ)
        self.metrics = Metrics()
        self._engine = EngineThread(
            build_engine,
            max_wait_s=config.max_wait_ms / 1000,
            max_waiting=config.max_waiting,
            on_broken=self._note_broken,
            on_report=self.metrics.note_engine,
        )
        self._info: EngineInfo | None = None
        """What the engine can do, once it is known."""
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
        self.doors: Doors | None = None
        """Where it listens for other dialects."""
        self._studio: Studio | None = None
        self._switchboard: Switchboard | None = None

    @property
    def num_sessions(self) -> int:
        return len(self._sessions)

    # --- life -------------------------------------------------------------------------------------

    async def run(self, *, on_listening: Callable[[], None] | None = None) -> int:
        try:
            needs_token = not self._gate.tokens.is_empty
            with (
                self._signals(),
                self._socket() as listener,
                bound_doors(self._config, needs_token=needs_token) as self.doors,
            ):
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
        self._require_mark(tokens)
        if path is not None and is_readable_by_all(path):
            _log.warning("%s holds secrets and every user of this machine can read it", path)
        return tokens

    def _require_mark(self, tokens: TokenBook) -> None:
        """Nobody's speech may go unmarked who is to be marked. A loaded engine cannot learn it."""
        if self._info is None or self._info.can_mark:
            return
        if self._config.watermark or tokens.has_marked_bearer:
            raise ConfigError("the engine was started without the watermark: restart the daemon")

    @contextlib.contextmanager
    def _socket(self) -> Iterator[socket.socket]:
        """Bound before the engine is built, so that a taken port is known at once; nobody can
        connect before `_serve` listens."""
        config = self._config
        with listening.choose(self._passed, config.host, config.port) as listener:
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
        while not (starting.done() or stopping.done()):
            if time.monotonic() < give_up_s:
                self._notifier.ask_for(_PATIENCE_S)
            await asyncio.wait(
                {starting, stopping},
                timeout=_PATIENCE_S / 3,
                return_when=asyncio.FIRST_COMPLETED,
            )
        if not starting.done():
            starting.cancel()
            self._force.set()
            return None
        stopping.cancel()
        info = self._info = starting.result()
        self._require_mark(self._gate.tokens)
        lexicon = self._lexicon.for_model(info.model, phonemes=info.phonemes)
        return Offer(info, self._config, lexicon=lexicon)

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
        library = self._library(offer)
        offer = replace(offer, shelf=library)
        switchboard = self._connect_dialects(offer)
        self._watch(offer, library)
        assert self.doors is not None, "they are bound before the engine is built"
        assert self._studio is not None, "the dialects have it"
        tls = self._certificate.context if self._certificate else None
        async with (
            library.opened(),
            self._beating(heartbeat),
            self._agent(listener),
            self.doors.opened(self._studio, tls=tls),
        ):
            server = await open_door(
                listener,
                config=self._config,
                gate=self._gate,
                routes=self._routes(offer, heartbeat),
                switchboard=switchboard,
                metrics=self.metrics,
                certificate=self._certificate,
                talk=lambda connection, bearer: self._talk(connection, offer.to(bearer), library),
            )
            with self._announced(listener):
                if on_listening is not None:
                    on_listening()
                await self._stop.wait()
                await self._shut_down(server)

    @contextlib.contextmanager
    def _announced(self, listener: socket.socket) -> Iterator[None]:
        """Whoever started the daemon learns where it listens."""
        assert self.doors is not None, "it listens"
        is_secure = self._certificate is not None
        self.port = listener.getsockname()[1] if listener.family != socket.AF_UNIX else 0
        with listening.port_file(self._config.port_file, self.port):
            url = listening.url_of(listener, is_secure=is_secure)
            for line in (url, *self.doors.urls(is_secure=is_secure)):
                sys.stderr.write(f"listening on {line}\n")
            sys.stderr.flush()
            self._notifier.ready(self._status())
            yield
        self.port = None

    def _routes(self, offer: Offer, heartbeat: Heartbeat) -> Routes:
        site = Site.load()
        return Routes(
            gate=self._gate,
            metrics=self.metrics,
            offer=offer,
            is_alive=lambda: heartbeat.silent_for_s < self._config.stuck_s,
            answer_elsewhere=lambda request, path: site.answer(request, path=path),
        )

    def _connect_dialects(self, offer: Offer) -> Switchboard:
        self._studio = Studio(
            engine=self._engine,
            gate=self._gate,
            metrics=self.metrics,
            offer=offer,
            executor=self._executor,
        )
        self._switchboard = Switchboard(
            main_port_dialects(self._studio), studio=self._studio, metrics=self.metrics
        )
        return self._switchboard

    def _library(self, offer: Offer) -> VoiceLibrary:
        maker = VoiceMaker(self._clone_command, config=self._config, environ=self._environ)
        return VoiceLibrary(
            offer.info, self._config, engine=self._engine, maker=maker, audit=self._audit
        )

    async def _talk(
        self, connection: ServerConnection, offer: Offer, library: VoiceLibrary
    ) -> None:
        request = connection.request
        assert request is not None, "its handshake is over"
        session = Session(
            connection,
            engine=self._engine,
            offer=offer,
            executor=self._executor,
            metrics=self.metrics,
            library=library,
            peer=self._gate.peer(request.headers, address=connection.remote_address),
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

    def _watch(self, offer: Offer, library: VoiceLibrary) -> None:
        self.metrics.note_model(offer.info.model)
        self.metrics.watch(
            {
                "sessions": ("Sessions now.", lambda: self._gate.num_sessions),
                "sessions_limit": ("Sessions at most.", lambda: self._config.max_sessions),
                "slots": ("Slots of the engine.", lambda: offer.info.num_slots),
                "contexts": ("Live contexts.", self._num_contexts),
                "own_voices": ("Voices of clients' own.", lambda: library.num_voices),
                "lead_seconds_min": (
                    "Least audio that a speaking listener has ahead; NaN if nobody speaks.",
                    lambda: min(self._leads_s(), default=float("nan")),
                ),
                "lead_seconds_max": (
                    "Most audio that a speaking listener has ahead; NaN if nobody speaks.",
                    lambda: max(self._leads_s(), default=float("nan")),
                ),
                **gpu_gauges(offer.info.gpu),
                "draining": ("1 while the daemon shuts down.", lambda: self._gate.is_draining),
                "tasks": ("Tasks of the event loop.", lambda: len(asyncio.all_tasks())),
            }
        )

    def _num_contexts(self) -> int:
        num_streams = 0 if self._studio is None else self._studio.num_streams
        return num_streams + sum(session.num_contexts for session in self._sessions)

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
    async def _beating(self, heartbeat: Heartbeat) -> AsyncIterator[None]:
        task = asyncio.create_task(heartbeat.run(), name="heartbeat")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _agent(self, beside: socket.socket) -> AsyncIterator[None]:
        """HAProxy's agent check, on the interface that clients use."""
        plug = self._passed.get(listening.AGENT)
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

    # --- the end ----------------------------------------------------------------------------------

    async def _shut_down(self, server: WebSocketServer) -> None:
        # 1. `_stop` is set and the gate closed: /readyz and new connections get 503, new contexts
        #    an error.
        self._notifier.stopping(f"draining, {len(self._sessions)} sessions")
        self._notifier.ask_for(self._config.grace_s + _PATIENCE_S)
        if self._sessions:
            _log.info("draining %d sessions", len(self._sessions))
        # 2. Running contexts finish, and each session closes with its last one, within the grace.
        for session in list(self._sessions):
            session.drain()
        if self._switchboard is not None:
            self._switchboard.drain()
        await self._wait_for_sessions(self._config.grace_s, or_forced=True)
        # 3. Whoever is left is closed in mid-speech, or dropped if it does not read.
        for session in list(self._sessions):
            session.break_off(GoingAway("the daemon shuts down"))
        if self._studio is not None:
            self._studio.break_off(EngineFailed("the daemon shuts down"))
        if self._switchboard is not None:
            self._switchboard.break_off()
        await self._wait_for_sessions(3 * _CLOSE_S)
        # 4. The port is closed, and with the last connection so is the server.
        server.close()
        await server.wait_closed()
        # 5. Nobody posts any more: `_stop_threads` ends the engine and the encoders.

    async def _wait_for_sessions(self, longest_s: float, *, or_forced: bool = False) -> None:
        waits: list[asyncio.Future[object]] = [asyncio.ensure_future(self._wait_until_quiet())]
        if or_forced:
            waits.append(asyncio.ensure_future(self._force.wait()))
        done, pending = await asyncio.wait(
            waits, timeout=longest_s, return_when=asyncio.FIRST_COMPLETED
        )
        for wait in pending:
            wait.cancel()
        if not done:
            _log.warning("%d sessions are still open after %g s", len(self._sessions), longest_s)

    async def _wait_until_quiet(self) -> None:
        await self._no_sessions.wait()
        if self._studio is not None:
            await self._studio.wait_until_quiet()
        if self._switchboard is not None:
            await self._switchboard.wait_until_quiet()

    async def _stop_threads(self) -> None:
        self._executor.shutdown(cancel_futures=True)
        is_forced = self._force.is_set()
        try:
            async with asyncio.timeout(_FORCED_STOP_S if is_forced else self._config.stuck_s):
                await self._engine.stop()
        except TimeoutError:
            # The engine is inside a call that cannot be interrupted, such as loading a checkpoint.
            # Leaving by the front door would wait for it, or unload libraries that it is using.
            _log.warning("the engine does not stop; leaving without it")
            sys.stderr.flush()
            os._exit(0 if is_forced and not self._broken else 1)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        actions = {signal.SIGINT: self.stop, signal.SIGTERM: self.stop, signal.SIGHUP: self.reload}
        for number, action in actions.items():
            loop.add_signal_handler(number, action)
        try:
            yield
        finally:
            for number in actions:
                loop.remove_signal_handler(number)

    def _note_broken(self, error: Exception) -> None:
        """The engine broke. No context can go on, and a fresh process is the cure."""
        self._broken = error
        for session in list(self._sessions):
            session.break_off(EngineBroken("the speech engine broke"))
        if self._studio is not None:
            self._studio.break_off(EngineFailed("the speech engine broke"))
        self._gate.close()
        self._stop.set()
