"""A request to open a session in; an admission or the refusal out, before the upgrade.

Cheapest checks first: a full daemon says no without looking at tokens. Knows no socket.
"""

import http
import ipaddress
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from websockets.datastructures import Headers

from daemon.config import Config
from daemon.door.peers import Paces, Tally, peer_of
from daemon.door.tokens import ANYBODY, TICKET_SUBPROTOCOL, Bearer, TokenBook


@dataclass(frozen=True, slots=True)
class Admission:
    """One session that was let in; to be given back when its connection is over."""

    bearer: Bearer
    peer: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """`reason` is a word for metrics and the body of the answer."""

    status: http.HTTPStatus
    reason: str
    retry_after_s: int | None = None
    realm: str | None = None


class Gate:
    def __init__(self, config: Config, tokens: TokenBook, *, clock: Callable[[], float]) -> None:
        self.tokens = tokens
        self._config = config
        self._is_draining = False
        self._num_sessions = 0
        self._per_peer = Tally()
        self._per_bearer = Tally()
        self._paces = Paces(per_min=config.max_connects_per_min, clock=clock)

    @property
    def num_sessions(self) -> int:
        return self._num_sessions

    @property
    def num_free(self) -> int:
        return 0 if self._is_draining else self._config.max_sessions - self._num_sessions

    @property
    def is_draining(self) -> bool:
        return self._is_draining

    def close(self) -> None:
        """Nobody comes in any more."""
        self._is_draining = True

    # --- sessions ---------------------------------------------------------------------------------

    def admit(
        self, path: str, headers: Headers, *, address: object, token: str | None = None
    ) -> Admission | Refusal:
        peer = self.peer(headers, address=address)
        refusal = self.too_fast(peer) or self.unready()
        if refusal is not None:
            return refusal
        if not self._is_welcome_origin(headers):
            return Refusal(http.HTTPStatus.FORBIDDEN, "origin")
        bearer = self.bearer(path, headers, token=token)
        return unauthorized() if bearer is None else self._place(bearer, peer)

    def admit_unasked(self, *, address: object) -> Admission | Refusal:
        """For a protocol in which nobody can show a token."""
        peer = self.peer(Headers(), address=address)
        return self.too_fast(peer) or self.unready() or self._place(ANYBODY, peer)

    def _place(self, bearer: Bearer, peer: str) -> Admission | Refusal:
        busy = http.HTTPStatus.TOO_MANY_REQUESTS
        if self._per_peer[peer] >= self._config.max_sessions_per_peer:
            return Refusal(busy, "peer", self._config.retry_after_s)
        if self._per_bearer[bearer.name] >= bearer.limit(self._config).max_sessions:
            return Refusal(busy, "token", self._config.retry_after_s)
        self._num_sessions += 1
        self._per_peer.add(peer)
        self._per_bearer.add(bearer.name)
        return Admission(bearer, peer)

    def give_back(self, admission: Admission) -> None:
        self._num_sessions -= 1
        self._per_peer.remove(admission.peer)
        self._per_bearer.remove(admission.bearer.name)

    # --- its parts, which other requests need as well ---------------------------------------------

    def peer(self, headers: Headers, *, address: object) -> str:
        return peer_of(
            address,
            forwarded_for=headers.get_all("X-Forwarded-For"),
            trusted_proxies=self._config.trusted_proxies,
        )

    def too_fast(self, peer: str) -> Refusal | None:
        early_s = self._paces.take(peer)
        if not early_s:
            return None
        return Refusal(http.HTTPStatus.TOO_MANY_REQUESTS, "rate", max(1, math.ceil(early_s)))

    def unready(self) -> Refusal | None:
        unavailable = http.HTTPStatus.SERVICE_UNAVAILABLE
        if self._is_draining:
            return Refusal(unavailable, "draining", self._config.retry_after_s)
        if self.num_free <= 0:
            return Refusal(unavailable, "full", self._config.retry_after_s)
        return None

    def bearer(self, path: str, headers: Headers, *, token: str | None = None) -> Bearer | None:
        """Who sent this: by header, or by a ticket in the query or among the subprotocols, or by
        the `token` that a dialect found in a place of its own."""
        if self.tokens.is_empty:
            return ANYBODY
        bearer = self.tokens.bearer_of(_only(headers, "Authorization"))
        if bearer is None and token is not None:
            bearer = self.tokens.owner_of(token)
        if bearer is None:
            ticket = _ticket_in(path, headers.get_all("Sec-WebSocket-Protocol"))
            bearer = self.tokens.redeem_ticket(ticket) if ticket else None
        return bearer

    def _is_welcome_origin(self, headers: Headers) -> bool:
        """Only browsers send one. A page may use the daemon that served it, and others that the
        configuration lists."""
        origin = _only(headers, "Origin")
        allowed = self._config.allowed_origins
        if origin is None or origin in allowed or "*" in allowed:
            return True
        host = _only(headers, "Host") or ""
        if origin.partition("://")[2].lower() != host.lower():
            return False
        # A hostile page can point its own name at this address; with tokens that gains it nothing.
        return not self.tokens.is_empty or _is_this_machines_name(host)


def unauthorized() -> Refusal:
    return Refusal(http.HTTPStatus.UNAUTHORIZED, "token needed", realm="chatterboxd")


def _only(headers: Headers, name: str) -> str | None:
    """One header's value. Several of them together are nobody's name, token or origin."""
    values = headers.get_all(name)
    return ", ".join(values) if values else None


def _ticket_in(path: str, subprotocols: Sequence[str]) -> str | None:
    for offered in ",".join(subprotocols).split(","):
        if offered.strip().startswith(TICKET_SUBPROTOCOL):
            return offered.strip().removeprefix(TICKET_SUBPROTOCOL)
    values = parse_qs(path.partition("?")[2]).get("ticket")
    return values[0] if values else None


def _is_this_machines_name(host: str) -> bool:
    """`localhost` or an address: nothing that a stranger's name server could answer for."""
    name, _, port = host.rpartition(":")
    if not port.isdigit():
        name = host
    if name.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
