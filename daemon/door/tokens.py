"""Secrets in a file or the environment in; who a bearer token or a ticket belongs to out.

A ticket is what a browser gets instead of a token: its WebSocket can send no header. It is signed,
good for a minute and for one connection. Every daemon with the same tokens accepts it.
"""

import base64
import hashlib
import hmac
import re
import secrets
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from daemon.config import Config, ConfigError

LIMITS = ("max_sessions", "max_contexts", "max_text_chars", "max_messages_per_s")
"""What a token's own entry may lower."""
FLAGS = ("clone", "watermark")
"""What a token's own entry may say yes or no to."""
TICKET_SUBPROTOCOL = "chatterboxd.ticket."
"""A browser offers this, with the ticket behind it, next to the real subprotocol."""
_SHORTEST_TOKEN = 16
_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
_MAX_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who came in. `limits` are the token's own; what is absent is the daemon's."""

    name: str
    limits: Mapping[str, int] = field(default_factory=dict)
    flags: Mapping[str, bool] = field(default_factory=dict)

    @property
    def may_clone(self) -> bool:
        """Upload clips, where the daemon lets anybody do so."""
        return self.flags.get("clone", True)

    @property
    def is_marked(self) -> bool:
        """Its speech carries the watermark, even where the daemon's does not."""
        return self.flags.get("watermark", False)

    def limit(self, config: Config) -> Config:
        """The configuration that holds for this bearer: never more than the daemon's own."""
        changed: dict[str, Any] = {
            name: min(value, getattr(config, name)) for name, value in self.limits.items()
        }
        if self.is_marked:
            changed["watermark"] = True
        return replace(config, **changed) if changed else config


ANYBODY = Bearer("")
"""Who comes to a daemon that asks for no token."""


@dataclass(frozen=True, slots=True)
class _Entry:
    bearer: Bearer
    digest: bytes
    """SHA-256 of the token: comparing digests takes the same time whatever was sent."""

    @property
    def ticket_key(self) -> bytes:
        return hmac.digest(self.digest, b"chatterboxd ticket", "sha256")


class TokenBook:
    """All tokens of one daemon. `clock` gives seconds of wall time: tickets travel."""

    def __init__(
        self, entries: Mapping[str, _Entry], *, ticket_s: int, clock: Callable[[], float]
    ) -> None:
        self._entries = dict(entries)
        self._ticket_s = ticket_s
        self._clock = clock
        self._redeemed: dict[str, float] = {}

    @classmethod
    def load(cls, config: Config, *, clock: Callable[[], float]) -> "TokenBook":
        """Raises `ConfigError`."""
        entries = dict(_parse_pair(pair) for pair in config.tokens)
        if config.token_file is not None:
            entries |= _read_file(config.token_file)
        digests = {entry.digest for entry in entries.values()}
        if len(digests) < len(entries):
            raise ConfigError("two names have the same token")
        return cls(entries, ticket_s=config.ticket_s, clock=clock)

    @property
    def is_empty(self) -> bool:
        """Nobody needs a token."""
        return not self._entries

    @property
    def has_marked_bearer(self) -> bool:
        """Somebody's speech must carry the watermark."""
        return any(entry.bearer.is_marked for entry in self._entries.values())

    def bearer_of(self, authorization: str | None) -> Bearer | None:
        """Whose an `Authorization` header is."""
        if authorization is None:
            return None
        scheme, _, token = authorization.partition(" ")
        owner = self.owner_of(token)
        return owner if scheme.lower() == "bearer" else None

    def owner_of(self, token: str) -> Bearer | None:
        """Compares with every token, equal or not."""
        digest = hashlib.sha256(token.strip().encode(errors="surrogateescape")).digest()
        found = None
        for entry in self._entries.values():
            if hmac.compare_digest(entry.digest, digest):
                found = entry.bearer
        return found

    def issue_ticket(self, bearer: Bearer) -> str:
        entry = self._entries[bearer.name]
        body = f"{bearer.name}.{int(self._clock()) + self._ticket_s}.{secrets.token_urlsafe(12)}"
        return f"{body}.{_sign(entry, body)}"

    def redeem_ticket(self, ticket: str) -> Bearer | None:
        """Whose it is; None if it is forged, too old, or was used here before."""
        body, _, signature = ticket.rpartition(".")
        name, _, rest = body.partition(".")
        entry = self._entries.get(name)
        if entry is None or not hmac.compare_digest(
            _sign(entry, body).encode(), signature.encode(errors="replace")
        ):
            return None
        now_s = self._clock()
        expires_s = int(rest.partition(".")[0])
        self._forget_redeemed(now_s)
        if expires_s <= now_s or ticket in self._redeemed or len(self._redeemed) >= _MAX_REMEMBERED:
            return None
        self._redeemed[ticket] = expires_s
        return entry.bearer

    def _forget_redeemed(self, now_s: float) -> None:
        """Nearly in the order of their ends, as all live equally long."""
        while self._redeemed:
            oldest = next(iter(self._redeemed))
            if self._redeemed[oldest] > now_s:
                return
            del self._redeemed[oldest]


def _sign(entry: _Entry, body: str) -> str:
    mac = hmac.digest(entry.ticket_key, body.encode(errors="replace"), "sha256")
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def _entry(
    name: str,
    token: object,
    *,
    where: str,
    limits: Mapping[str, int] | None = None,
    flags: Mapping[str, bool] | None = None,
) -> _Entry:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: {name!r} is no name of letters, digits, - and _")
    if not isinstance(token, str) or len(token) < _SHORTEST_TOKEN:
        raise ConfigError(f"{where}: the token of {name} needs {_SHORTEST_TOKEN} characters")
    bearer = Bearer(name, limits or {}, flags or {})
    return _Entry(bearer, hashlib.sha256(token.encode()).digest())


def _parse_pair(pair: str) -> tuple[str, _Entry]:
    name, separator, token = pair.partition("=")
    if not separator:
        raise ConfigError("tokens: each is name=token")
    return name, _entry(name, token, where="tokens")


def _read_file(path: Path) -> dict[str, _Entry]:
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    entries = {}
    for name, facts in found.items():
        if not isinstance(facts, dict):
            raise ConfigError(f"{path}: {name} is no table; write [{name}], then token = …")
        unknown = sorted(set(facts) - {"token", *LIMITS, *FLAGS})
        if unknown:
            known = ", ".join(("token", *LIMITS, *FLAGS))
            raise ConfigError(f"{path}: [{name}] has {', '.join(unknown)}; there are {known}")
        limits = {key: value for key, value in facts.items() if key in LIMITS}
        flags = {key: value for key, value in facts.items() if key in FLAGS}
        for key, value in limits.items():
            if type(value) is not int or value < 1:
                raise ConfigError(f"{path}: [{name}] {key} must be a whole number from 1")
        for key, value in flags.items():
            if not isinstance(value, bool):
                raise ConfigError(f"{path}: [{name}] {key} must be true or false")
        token = facts.get("token")
        entries[name] = _entry(name, token, where=str(path), limits=limits, flags=flags)
    return entries


def is_readable_by_all(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IROTH)
