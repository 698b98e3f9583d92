"""A listening socket, a gate, routes and dialects in; a WebSocket server that hands on its guests
out.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from daemon.config import Config
from daemon.dialects.switchboard import Switchboard, Visit
from daemon.door.gate import Admission, Gate, Refusal
from daemon.door.tls import Certificate
from daemon.door.tokens import Bearer
from daemon.routes import Routes, refused
from daemon.watching.metrics import Metrics
from daemon.wire.protocol import PROTOCOL

_WRITE_LIMIT_BYTES = 8_192
_CLOSE_S = 1.0
_HANDSHAKE_S = 5.0
_BACKLOG = 512
"""Connections that the kernel keeps while the event loop is busy."""
_MOST_HANDSHAKES = 256
"""Connections beyond the sessions: those that still shake hands, are refused, or ask for a page."""

_OTHER_METHOD = re.compile(rb"(?!GET )[A-Z]{3,10} /")
_ADVICE = b"This port answers GET and WebSocket requests; for others see docs/connect.md.\n"
_NOT_ALLOWED = (
    b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b"
) % (len(_ADVICE), _ADVICE)

Talk = Callable[[ServerConnection, Bearer], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Guest:
    admission: Admission
    visit: Visit | None
    """None for a session of our own protocol."""


async def open_door(
    listener: socket.socket,
    *,
    config: Config,
    gate: Gate,
    routes: Routes,
    switchboard: Switchboard,
    metrics: Metrics,
    certificate: Certificate | None,
    talk: Talk,
) -> Server:
    """`talk` is a session's life; it is called once the upgrade is done. What is a dialect's goes
    to the switchboard."""
    guests: dict[ServerConnection, _Guest] = {}

    def process_request(connection: ServerConnection, request: Request) -> Response | None:
        address = connection.remote_address
        visit = switchboard.visit(request)
        if visit is not None and visit.is_question:
            return switchboard.answer(visit, address=address)
        response = None if visit else routes.answer(request, address=address)
        if response is not None:
            return response
        token = visit.token if visit else None
        outcome = gate.admit(request.path, request.headers, address=address, token=token)
        if isinstance(outcome, Refusal):
            metrics.note_refusal(outcome.reason)
            return visit.refused(outcome) if visit else refused(outcome)
        guests[connection] = _Guest(outcome, visit)
        # It counts until its task ends, also if its upgrade then fails.
        task = asyncio.current_task()
        assert task is not None, "websockets calls this in the connection's task"
        task.add_done_callback(lambda _task: gate.give_back(guests.pop(connection).admission))
        return visit.turn_away(outcome.bearer) if visit else None

    async def handle(connection: ServerConnection) -> None:
        guest = guests[connection]
        if guest.visit is None:
            await talk(connection, guest.admission.bearer)
        else:
            await switchboard.talk(connection, guest.visit, guest.admission.bearer)

    def select_subprotocol(
        connection: ServerConnection, offered: Sequence[Subprotocol]
    ) -> Subprotocol | None:
        """Clients need not offer any."""
        visit = guests[connection].visit
        ours = (PROTOCOL,) if visit is None else visit.dialect.subprotocols
        return next((name for name in offered if name in ours), None)

    return await serve(
        handle,
        sock=listener,
        ssl=certificate.context if certificate else None,
        process_request=process_request,
        create_connection=_connection_type(config.max_sessions + _MOST_HANDSHAKES, metrics),
        select_subprotocol=select_subprotocol,
        compression=None,
        server_header=None,
        backlog=_BACKLOG,
        open_timeout=_HANDSHAKE_S,
        max_size=config.max_message_bytes,
        write_limit=_WRITE_LIMIT_BYTES,
        ping_interval=config.ping_s,
        ping_timeout=config.ping_s,
        close_timeout=_CLOSE_S,
    )


def _connection_type(most: int, metrics: Metrics) -> type[ServerConnection]:
    """Connections that never say what they want must not use up the files of the process, and those
    that want what `websockets` does not read are told so: it would only hang up."""

    class Connection(ServerConnection):
        is_new = True

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            if len(self.server.handler_tasks) > most:
                metrics.note_refusal("flood")
                self.transport.abort()

        def data_received(self, data: bytes) -> None:
            if self.is_new and _OTHER_METHOD.match(data):
                self.transport.write(_NOT_ALLOWED)
            self.is_new = False
            super().data_received(data)

    return Connection
