"""Who is at the other end, and how often and how many times they came. Pure but for its clock.

An IPv6 host owns a whole /64: its addresses count as one. Behind a proxy that is trusted, the peer
is whom the proxy names.
"""

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

_NUM_REMEMBERED = 10_000
LOCAL = "local"
"""Whoever comes through a Unix socket."""


def peer_of(
    address: object, *, forwarded_for: Sequence[str], trusted_proxies: Sequence[str]
) -> str:
    """The name under which a connection is counted. `address` is what the socket says."""
    host = address[0] if isinstance(address, tuple) and address else ""
    hops = [hop.strip() for line in forwarded_for for hop in line.split(",")]
    networks = [ipaddress.ip_network(network) for network in trusted_proxies]
    while hops and _is_in(host, networks):
        host = hops.pop()
    return _grouped(host)


def _parse(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


def _is_in(host: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    parsed = _parse(host)
    return parsed is not None and any(parsed in network for network in networks)


def _grouped(host: str) -> str:
    parsed = _parse(host)
    if parsed is None:
        return LOCAL if not host else host[:64]
    if isinstance(parsed, ipaddress.IPv6Address) and not parsed.is_loopback:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


class Tally:
    """How many of each are here now; nothing is remembered of those who left."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def add(self, name: str) -> None:
        self._counts[name] += 1

    def remove(self, name: str) -> None:
        self._counts[name] -= 1
        if not self._counts[name]:
            del self._counts[name]

    def __len__(self) -> int:
        return len(self._counts)


class Pace:
    """One token bucket: `rate_per_s` on average, `burst` at once."""

    def __init__(self, *, rate_per_s: float, burst: float, now_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._left = burst
        self._at_s = now_s

    def take(self, now_s: float) -> float:
        """Take one; returns how many seconds too early it is (0 if it is not), and then takes
        nothing."""
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._rate_per_s)
        self._at_s = now_s
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self._rate_per_s


class Paces:
    """A bucket for each peer; those who came longest ago are forgotten first."""

    def __init__(self, *, per_min: int, clock: Callable[[], float]) -> None:
        self._per_min = per_min
        self._clock = clock
        self._of: OrderedDict[str, Pace] = OrderedDict()

    def take(self, peer: str) -> float:
        now_s = self._clock()
        pace = self._of.pop(peer, None)
        if pace is None:
            pace = Pace(rate_per_s=self._per_min / 60, burst=max(1, self._per_min / 6), now_s=now_s)
        self._of[peer] = pace
        while len(self._of) > _NUM_REMEMBERED:
            self._of.popitem(last=False)
        return pace.take(now_s)
