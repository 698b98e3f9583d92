"""The gate: who is let in, who is refused with what, and what is given back."""

import pytest
from websockets.datastructures import Headers

from daemon.config import Config
from daemon.door.gate import Admission, Gate, Refusal
from daemon.door.peers import Pace, Paces, Tally, peer_of
from daemon.door.tokens import Bearer, TokenBook
from tests.fakes import FakeClock

TOKEN = "0123456789abcdef"
HOME = ("127.0.0.1", 40_000)


class Door:
    def __init__(self, **settings: object) -> None:
        self.clock = FakeClock()
        self.config = Config(**settings)  # type: ignore[arg-type]
        self.tokens = TokenBook.load(self.config, clock=self.clock)
        self.gate = Gate(self.config, self.tokens, clock=self.clock)

    def knock(
        self, path: str = "/", *, address: object = HOME, **headers: str
    ) -> Admission | Refusal:
        lines = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return self.gate.admit(path, Headers(lines), address=address)

    def status(self, path: str = "/", *, address: object = HOME, **headers: str) -> int | str:
        outcome = self.knock(path, address=address, **headers)
        return outcome.bearer.name if isinstance(outcome, Admission) else outcome.status.value


def test_places_are_counted_and_given_back() -> None:
    """A place that is not given back is lost until the restart."""
    door = Door(max_sessions=2, retry_after_s=7)
    first = door.knock()
    assert isinstance(first, Admission)
    assert door.status() == ""
    assert door.gate.num_free == 0
    refusal = door.knock()
    assert isinstance(refusal, Refusal)
    assert (refusal.status.value, refusal.reason, refusal.retry_after_s) == (503, "full", 7)
    door.gate.give_back(first)
    assert door.gate.num_free == 1
    assert door.status() == ""


def test_a_closed_gate_lets_nobody_in() -> None:
    """A daemon that drains and still takes sessions never ends."""
    door = Door()
    door.gate.close()
    refusal = door.knock()
    assert isinstance(refusal, Refusal)
    assert (refusal.status.value, refusal.reason, door.gate.num_free) == (503, "draining", 0)


def test_one_peer_cannot_take_every_place() -> None:
    """Nor one that has a /64 of IPv6 addresses."""
    door = Door(max_sessions_per_peer=1)
    assert door.status(address=("2001:db8::1", 1)) == ""
    assert door.status(address=("2001:db8::ffff:2", 1)) == 429
    assert door.status(address=("2001:db8:0:1::1", 1)) == ""
    assert door.status(address=HOME) == ""


def test_new_connections_have_a_pace() -> None:
    """Whoever hammers the door is told how long to stay away."""
    door = Door(max_connects_per_min=60, max_sessions=1000)
    assert [door.status() for _ in range(11)] == [""] * 10 + [429]
    refusal = door.knock()
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.retry_after_s) == ("rate", 1)
    assert door.status(address=("10.0.0.1", 1)) == ""
    door.clock.pass_s(1.01)
    assert door.status() == ""


def test_tokens() -> None:
    """By header or by ticket; a name's own limit holds over all its sessions."""
    door = Door(tokens=(f"agent={TOKEN}",))
    refusal = door.knock()
    assert isinstance(refusal, Refusal)
    assert (refusal.status.value, refusal.realm) == (401, "chatterboxd")
    assert door.status(Authorization="Bearer wrong-wrong-wrong") == 401
    assert door.status(Authorization=f"Bearer {TOKEN}") == "agent"
    ticket = door.tokens.issue_ticket(Bearer("agent"))
    assert door.status(f"/?x=1&ticket={ticket}") == "agent"
    assert door.status(f"/?ticket={ticket}") == 401
    ticket = door.tokens.issue_ticket(Bearer("agent"))
    offered = f"chatterboxd.v1, chatterboxd.ticket.{ticket}"
    assert door.status(Sec_WebSocket_Protocol=offered) == "agent"
    assert door.status(Sec_WebSocket_Protocol=offered) == 401


def test_a_dialect_shows_the_token_that_it_found() -> None:
    """In a header or query of its own. A wrong one is no reason to overlook the right one."""
    door = Door(tokens=(f"agent={TOKEN}",))

    def shown(token: str | None, **headers: str) -> str | None:
        bearer = door.gate.bearer("/", Headers(list(headers.items())), token=token)
        return None if bearer is None else bearer.name

    assert shown(TOKEN) == "agent"
    assert shown(f"Bearer {TOKEN}") is None
    assert shown(None) is shown("") is shown("wrong") is None
    assert shown("any", Authorization=f"Bearer {TOKEN}") == "agent"
    outcome = door.gate.admit("/", Headers(), address=HOME, token=TOKEN)
    assert isinstance(outcome, Admission)
    assert outcome.bearer.name == "agent"


def test_two_authorizations_are_none() -> None:
    """The library refuses to choose between two headers with an exception, which would be a 500."""
    door = Door(tokens=(f"agent={TOKEN}",))
    headers = Headers([("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer x")])
    outcome = door.gate.admit("/", headers, address=HOME)
    assert isinstance(outcome, Refusal)
    assert outcome.status.value == 401


@pytest.mark.parametrize(
    ("origin", "host", "settings", "is_welcome"),
    [
        (None, "a.example", {}, True),
        ("http://127.0.0.1:8765", "127.0.0.1:8765", {}, True),
        ("http://localhost:8765", "localhost:8765", {}, True),
        ("http://[::1]:8765", "[::1]:8765", {}, True),
        ("http://[::1]", "[::1]", {}, True),
        ("http://LOCALHOST:8765", "localhost:8765", {}, True),
        ("http://evil.example", "127.0.0.1:8765", {}, False),
        ("http://127.0.0.1:9999", "127.0.0.1:8765", {}, False),
        ("null", "127.0.0.1:8765", {}, False),
        ("http://[", "127.0.0.1:8765", {}, False),
        # Its own name points here (DNS rebinding): without tokens only addresses are believed.
        ("http://evil.example:8765", "evil.example:8765", {}, False),
        ("https://tts.example", "tts.example", {"tokens": (f"a={TOKEN}",)}, True),
        ("https://app.example", "tts.example", {"allowed_origins": ("https://app.example",)}, True),
        ("http://app.example", "tts.example", {"allowed_origins": ("https://app.example",)}, False),
        ("http://any.example", "tts.example", {"allowed_origins": ("*",)}, True),
    ],
)
def test_pages_of_strangers_may_not_speak(
    origin: str | None, host: str, settings: dict[str, object], is_welcome: bool
) -> None:
    """Every page that a user opens can reach the daemon on his own machine."""
    door = Door(**settings)
    headers = {"Host": host, "Authorization": f"Bearer {TOKEN}"}
    status = door.status(**headers, **({"Origin": origin} if origin else {}))
    assert (status != 403) == is_welcome


@pytest.mark.parametrize(
    ("address", "forwarded", "trusted", "peer"),
    [
        (("10.0.0.9", 1), [], (), "10.0.0.9"),
        (("10.0.0.9", 1), ["1.2.3.4"], (), "10.0.0.9"),  # nobody asked it to vouch
        (("10.0.0.9", 1), ["1.2.3.4"], ("10.0.0.0/8",), "1.2.3.4"),
        (("10.0.0.9", 1), ["6.6.6.6, 1.2.3.4"], ("10.0.0.0/8",), "1.2.3.4"),
        (("10.0.0.9", 1), ["6.6.6.6", "1.2.3.4, 10.0.0.7"], ("10.0.0.0/8",), "1.2.3.4"),
        (("10.0.0.9", 1), ["nonsense"], ("10.0.0.0/8",), "nonsense"),
        (("::ffff:10.0.0.9", 1, 0, 0), ["1.2.3.4"], ("10.0.0.0/8",), "1.2.3.4"),
        (("fe80::1%eth0", 1, 0, 2), [], (), "fe80::/64"),
        ("", [], (), "local"),
        (None, [], (), "local"),
    ],
)
def test_who_the_peer_is(
    address: object, forwarded: list[str], trusted: tuple[str, ...], peer: str
) -> None:
    """A client that may choose its own name has no limits; behind a proxy all would share one."""
    assert peer_of(address, forwarded_for=forwarded, trusted_proxies=trusted) == peer


def test_a_tally_forgets_who_has_left() -> None:
    """A dictionary of every address that ever came is a leak."""
    tally = Tally()
    tally.add("a")
    tally.add("a")
    tally.remove("a")
    assert (tally["a"], tally["b"], len(tally)) == (1, 0, 1)
    tally.remove("a")
    assert len(tally) == 0


def test_paces_are_forgotten_too() -> None:
    """As above: an attacker has many addresses."""
    clock = FakeClock()
    paces = Paces(per_min=60, clock=clock)
    for number in range(20_000):
        paces.take(str(number))
    assert len(paces._of) == 10_000


def test_a_pace_says_how_long_to_wait() -> None:
    """A session's messages are read at this pace; waiting as told must be enough."""
    pace = Pace(rate_per_s=10, burst=2, now_s=0.0)
    assert [pace.take(0.0), pace.take(0.0)] == [0.0, 0.0]
    assert pace.take(0.0) == pytest.approx(0.1)
    assert pace.take(0.1) == 0.0
    assert pace.take(100.0) == 0.0
    assert pace.take(100.0) == 0.0
    assert pace.take(100.0) > 0
