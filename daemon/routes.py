"""A plain HTTP GET in, its answer out; None for whoever wants a session. Knows no session.

`/healthz` alive · `/readyz` welcome · `/metrics` Prometheus · `/voices` · `/ticket` for browsers.
"""

import http
import json
from collections.abc import Callable
from dataclasses import asdict

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from daemon.door.gate import Gate, Refusal, unauthorized
from daemon.door.tokens import Bearer
from daemon.speaking.offer import Offer
from daemon.watching.metrics import CONTENT_TYPE, Metrics

_OK = http.HTTPStatus.OK
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"


class Routes:
    """`answer_elsewhere` is asked about every other path: the page, if there is one."""

    def __init__(
        self,
        *,
        gate: Gate,
        metrics: Metrics,
        offer: Offer,
        is_alive: Callable[[], bool],
        answer_elsewhere: Callable[[Request, str], Response | None],
    ) -> None:
        self._gate = gate
        self._metrics = metrics
        self._offer = offer
        self._is_alive = is_alive
        self._answer_elsewhere = answer_elsewhere

    def answer(self, request: Request, *, address: object) -> Response | None:
        path = request.path.partition("?")[0]
        match path:
            case "/healthz":
                return self._health()
            case "/readyz":
                return self._readiness()
            case "/metrics" | "/voices" | "/ticket":
                return self._private(path, request, address=address)
        response = self._answer_elsewhere(request, path)
        if response is None and path != "/":
            return answer(http.HTTPStatus.NOT_FOUND, "there is nothing here\n")
        return response

    def _health(self) -> Response:
        if self._is_alive():
            return answer(_OK, "alive\n")
        return answer(http.HTTPStatus.SERVICE_UNAVAILABLE, "the engine does not answer\n")

    def _readiness(self) -> Response:
        refusal = self._gate.unready()
        if refusal is not None:
            return refused(refusal)
        return answer(_OK, "ready\n") if self._is_alive() else self._health()

    def _private(self, path: str, request: Request, *, address: object) -> Response:
        """What only those with a token may see, if there are tokens."""
        peer = self._gate.peer(request.headers, address=address)
        refusal = self._gate.too_fast(peer)
        bearer = self._gate.bearer("", request.headers) if refusal is None else None
        if bearer is None:
            return refused(refusal or unauthorized())
        match path:
            case "/metrics":
                return answer(_OK, self._metrics.page(), content_type=CONTENT_TYPE)
            case "/voices":
                return answer(_OK, self._voices(bearer), content_type=_JSON)
            case _:
                return answer(_OK, self._ticket(bearer), content_type=_JSON)

    def _voices(self, bearer: Bearer) -> str:
        info = self._offer.info
        return json.dumps(
            {
                "model": info.model,
                "voices": self._offer.to(bearer).voices,
                "own_voices": [asdict(facts) for facts in self._offer.shelf.facts_of(bearer)],
                "default_voice": info.default_voice,
                "languages": list(info.languages),
            }
        )

    def _ticket(self, bearer: Bearer) -> str:
        if self._gate.tokens.is_empty:
            return json.dumps({"ticket": None, "expires_in_s": None})
        return json.dumps(
            {
                "ticket": self._gate.tokens.issue_ticket(bearer),
                "expires_in_s": self._offer.config.ticket_s,
            }
        )


def answer(status: http.HTTPStatus, body: str | bytes, *, content_type: str = _TEXT) -> Response:
    data = body.encode() if isinstance(body, str) else body
    headers = Headers()
    headers["Connection"] = "close"
    headers["Content-Type"] = content_type
    headers["Content-Length"] = str(len(data))
    headers["Cache-Control"] = "no-store"
    headers["X-Content-Type-Options"] = "nosniff"
    return Response(status.value, status.phrase, headers, data)


def refused(refusal: Refusal) -> Response:
    response = answer(refusal.status, f"{refusal.reason}\n")
    note_conditions(response, refusal)
    return response


def note_conditions(response: Response, refusal: Refusal) -> None:
    """When to come again, and with what, in the headers that say so."""
    if refusal.retry_after_s is not None:
        response.headers["Retry-After"] = str(refusal.retry_after_s)
    if refusal.realm is not None:
        response.headers["WWW-Authenticate"] = f'Bearer realm="{refusal.realm}"'
