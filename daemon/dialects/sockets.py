"""What a dialect on the main port is: paths of its own, its way to show a token, its form of a
refusal, and a conversation over one WebSocket.

A dialect is a subclass of `SocketDialect`, listed in `daemon/dialects/doors.py`. It is asked, all
but the last before the upgrade:

1. `wants(call)`: is the path mine, and is it a question (a plain GET) or a conversation?
2. `token(call)`: what did the client show? (`Authorization: Bearer` and tickets need no telling.)
3. `refused(refusal)`, if the daemon is full or drains, or the token is not one of ours.
4. `answer(call)` for a question; `turn_away(call)` for a conversation: an unknown voice, say.
5. `converse(line)`: the conversation. When it returns, the socket is closed with 1000; when it or
   a task of it raises `HangUp`, with that code.

Pace, places, limits, slow readers, metrics and the daemon's end are the business of the line and of
`daemon/dialects/switchboard.py`. Speech comes from `self.studio.speak(…, bearer=line.bearer,
session=line.name)`. Knows no dialect.
"""

import abc
import http
import json
from enum import Enum, auto
from typing import ClassVar

from websockets.http11 import Response

from daemon.dialects.line import Call, Line
from daemon.door.gate import Refusal
from daemon.routes import answer
from daemon.studio import Studio


class Wants(Enum):
    ANSWER = auto()
    CONVERSATION = auto()


class SocketDialect(abc.ABC):
    """One a daemon."""

    name: ClassVar[str]
    """For the log and the metrics."""
    subprotocols: ClassVar[tuple[str, ...]] = ()
    """A browser hangs up if it has offered some and none is taken."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    @abc.abstractmethod
    def wants(self, call: Call) -> Wants | None:
        """None if the path is not this dialect's."""

    def token(self, call: Call) -> str | None:
        """Without a word such as Bearer in front."""
        return None

    @abc.abstractmethod
    def refused(self, refusal: Refusal) -> Response:
        """`Retry-After` and `WWW-Authenticate` are added to it."""

    def answer(self, call: Call) -> Response:
        """To a question of somebody who may ask. Most dialects take none."""
        return answer(http.HTTPStatus.NOT_FOUND, "there is nothing here\n")

    def turn_away(self, call: Call) -> Response | None:
        """None if `converse` can begin."""
        return None

    @abc.abstractmethod
    async def converse(self, line: Line) -> None:
        """Returns when the client has said that it is done."""


def json_response(status: int, body: object) -> Response:
    return answer(http.HTTPStatus(status), json.dumps(body), content_type="application/json")
