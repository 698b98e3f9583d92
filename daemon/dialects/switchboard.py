"""A request on the main port in; the dialect that it belongs to, and its conversation, out.

Knows which lines are open, so that the daemon can drain them. Knows no dialect by name.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from daemon.dialects.line import Call, Line
from daemon.dialects.sockets import SocketDialect, Wants
from daemon.door.gate import Refusal
from daemon.door.tokens import Bearer
from daemon.routes import note_conditions
from daemon.studio import Refused, Studio
from daemon.watching.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Visit:
    """A request that is a dialect's."""

    dialect: SocketDialect
    call: Call
    is_question: bool

    @property
    def token(self) -> str | None:
        return self.dialect.token(self.call)

    def refused(self, refusal: Refusal) -> Response:
        response = self.dialect.refused(refusal)
        note_conditions(response, refusal)
        return response

    def turn_away(self, bearer: Bearer) -> Response | None:
        return self.dialect.turn_away(replace(self.call, bearer=bearer))


class Switchboard:
    def __init__(
        self, dialects: Sequence[SocketDialect], *, studio: Studio, metrics: Metrics
    ) -> None:
        self._dialects = dialects
        self._studio = studio
        self._metrics = metrics
        self._lines: set[Line] = set()
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()
        self._is_draining = False

    def visit(self, request: Request) -> Visit | None:
        call = Call.of(request)
        for dialect in self._dialects:
            wants = dialect.wants(call)
            if wants is not None:
                return Visit(dialect, call, wants is Wants.ANSWER)
        return None

    def answer(self, visit: Visit, *, address: object) -> Response:
        try:
            bearer = self._studio.check_token(
                visit.call.headers, address=address, token=visit.token
            )
        except Refused as error:
            return visit.refused(error.refusal)
        return visit.dialect.answer(replace(visit.call, bearer=bearer))

    async def talk(self, connection: ServerConnection, visit: Visit, bearer: Bearer) -> None:
        """A conversation's life; it was let in."""
        line = Line(
            connection,
            replace(visit.call, bearer=bearer),
            name=self._studio.new_name(visit.dialect.name),
            bearer=bearer,
            config=bearer.limit(self._studio.offer.config),
            metrics=self._metrics,
        )
        self._lines.add(line)
        self._is_quiet.clear()
        if self._is_draining:  # its handshake began before
            line.drain()
        try:
            await line.run(visit.dialect.converse)
        finally:
            self._lines.discard(line)
            if not self._lines:
                self._is_quiet.set()

    # --- the daemon's side ------------------------------------------------------------------------

    def drain(self) -> None:
        """Lines end with what they owe."""
        self._is_draining = True
        for line in list(self._lines):
            line.drain()

    def break_off(self) -> None:
        """Lines end, whatever they owe."""
        for line in list(self._lines):
            line.break_off()

    async def wait_until_quiet(self) -> None:
        await self._is_quiet.wait()
