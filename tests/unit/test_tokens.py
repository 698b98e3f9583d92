"""Tokens and tickets: whose they are, when they are good, and what a token file may say."""

from pathlib import Path

import pytest

from daemon.config import Config, ConfigError
from daemon.door.tokens import Bearer, TokenBook
from tests.fakes import FakeClock

TOKEN = "0123456789abcdef"
OTHER = "fedcba9876543210"


def book(
    tmp_path: Path, text: str = f'[agent]\ntoken = "{TOKEN}"\n', **changes: object
) -> TokenBook:
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    return TokenBook.load(Config(token_file=path, **changes), clock=FakeClock())  # type: ignore[arg-type]


def test_no_tokens_means_nobody_needs_one() -> None:
    """The default daemon, on loopback, must not ask."""
    assert TokenBook.load(Config(), clock=FakeClock()).is_empty


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (f"Bearer {TOKEN}", "agent"),
        (f"bearer  {TOKEN} ", "agent"),
        (f"Bearer {OTHER}", "web"),
        (f"Basic {TOKEN}", None),
        (TOKEN, None),
        ("Bearer ", None),
        (f"Bearer {TOKEN[:-1]}", None),
        (f"Bearer {TOKEN}0", None),
        (f"Bearer {TOKEN}, Bearer {OTHER}", None),
        ("Bearer \udcff", None),
        (None, None),
    ],
)
def test_whose_a_header_is(tmp_path: Path, header: str | None, name: str | None) -> None:
    """Part of a token, or a token under another scheme, is no token."""
    bearer = book(tmp_path, tokens=(f"web={OTHER}",)).bearer_of(header)
    assert (bearer and bearer.name) == name


def test_a_token_can_only_lower_limits(tmp_path: Path) -> None:
    """A file of tokens must not be able to raise what the machine was sized for."""
    text = f'[agent]\ntoken = "{TOKEN}"\nmax_sessions = 2\nmax_contexts = 99\n'
    bearer = book(tmp_path, text).bearer_of(f"Bearer {TOKEN}")
    assert bearer is not None
    config = Config(max_contexts=5)
    limited = bearer.limit(config)
    assert (limited.max_sessions, limited.max_contexts) == (2, 5)
    assert Bearer("x").limit(config) is config


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("agent = 1", "agent is no table"),
        ("[agent]\n", "the token of agent needs 16 characters"),
        ('[agent]\ntoken = "short"', "needs 16 characters"),
        (f'["a b"]\ntoken = "{TOKEN}"', "no name of letters"),
        (f'[agent]\ntoken = "{TOKEN}"\nmax_session = 1', r"\[agent\] has max_session; there are"),
        (f'[agent]\ntoken = "{TOKEN}"\nmax_sessions = 0', "whole number from 1"),
        (f'[agent]\ntoken = "{TOKEN}"\nmax_sessions = true', "whole number from 1"),
        (f'[agent]\ntoken = "{TOKEN}"\nclone = 1', r"\[agent\] clone must be true or false"),
        (f'[a]\ntoken = "{TOKEN}"\n[b]\ntoken = "{TOKEN}"', "two names have the same token"),
        ("[agent", "tokens.toml"),
    ],
)
def test_a_wrong_token_file_names_its_mistake(tmp_path: Path, text: str, complaint: str) -> None:
    """A limit with a typing error would be no limit. And no token may reach the message."""
    with pytest.raises(ConfigError, match=complaint) as error:
        book(tmp_path, text)
    assert TOKEN not in str(error.value)


def test_a_token_may_clone_unless_its_entry_says_no(tmp_path: Path) -> None:
    """A permission that is not read is one that everybody has."""
    text = f'[a]\ntoken = "{TOKEN}"\nclone = false\n[b]\ntoken = "{OTHER}"\nmax_contexts = 2\n'
    tokens = book(tmp_path, text)
    found = {token: tokens.bearer_of(f"Bearer {token}") for token in (TOKEN, OTHER)}
    assert {token: bearer and bearer.may_clone for token, bearer in found.items()} == {
        TOKEN: False,
        OTHER: True,
    }


def test_a_token_can_add_the_watermark_and_not_take_it_away(tmp_path: Path) -> None:
    """`watermark = false` in an entry must not free one client from what the operator decided."""
    text = f'[a]\ntoken = "{TOKEN}"\nwatermark = true\n[b]\ntoken = "{OTHER}"\nwatermark = false\n'
    tokens = book(tmp_path, text)
    assert tokens.has_marked_bearer
    assert not book(tmp_path, tokens=(f"web={OTHER}",)).has_marked_bearer
    for daemons, token, expected in [
        (False, TOKEN, True),
        (False, OTHER, False),
        (True, OTHER, True),
    ]:
        bearer = tokens.bearer_of(f"Bearer {token}")
        assert bearer is not None
        assert bearer.limit(Config(watermark=daemons)).watermark is expected


def test_a_missing_file_is_an_error() -> None:
    """Starting without the tokens would open the door."""
    with pytest.raises(ConfigError, match="nowhere"):
        TokenBook.load(Config(token_file=Path("/nowhere")), clock=FakeClock())


def test_a_ticket_is_good_once_and_for_a_while(tmp_path: Path) -> None:
    """A ticket travels in addresses that end in logs."""
    tokens = book(tmp_path, ticket_s=60)
    clock = FakeClock()
    tokens._clock = clock
    first, second = (tokens.issue_ticket(Bearer("agent")) for _ in range(2))
    assert first != second
    bearer = tokens.redeem_ticket(first)
    assert bearer is not None
    assert bearer.name == "agent"
    assert tokens.redeem_ticket(first) is None
    clock.pass_s(60.0)
    assert tokens.redeem_ticket(second) is None
    assert tokens.redeem_ticket(first) is None, "forgotten once it was too old anyway"
    assert not tokens._redeemed or list(tokens._redeemed) == [first]


def test_every_daemon_with_the_token_accepts_the_ticket(tmp_path: Path) -> None:
    """Behind a load balancer the ticket comes from one daemon and is shown to another."""
    ticket = book(tmp_path).issue_ticket(Bearer("agent"))
    assert book(tmp_path).redeem_ticket(ticket) is not None
    changed = book(tmp_path, f'[agent]\ntoken = "{OTHER}"\n')
    assert changed.redeem_ticket(ticket) is None, "its token was taken away"


@pytest.mark.parametrize(
    "change",
    [
        lambda ticket: ticket[:-1] + ("A" if ticket[-1] != "A" else "B"),
        lambda ticket: ticket.replace("agent", "other", 1),
        lambda ticket: "agent." + str(10**10) + ticket[ticket.index(".", 6) :],
        lambda _ticket: "",
        lambda _ticket: "....",
        lambda _ticket: "agent.x.y.\udcff",
        lambda ticket: ticket.rpartition(".")[0],
    ],
)
def test_a_forged_ticket_is_nobodys(tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    """Name and end are in the clear; the signature is what counts."""
    tokens = book(tmp_path, tokens=(f"other={OTHER}",))
    ticket = tokens.issue_ticket(Bearer("agent"))
    assert tokens.redeem_ticket(change(ticket)) is None
    assert tokens.redeem_ticket(ticket) is not None
