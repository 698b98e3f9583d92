"""web_client/protocol.js against docs/protocol.md and daemon/wire/protocol.py: one truth thrice."""

import json
import re
from dataclasses import MISSING, fields
from functools import cache
from typing import Any

from daemon.wire import errors
from daemon.wire.errors import SessionClosed, WireError
from daemon.wire.protocol import (
    CLIENT_MESSAGES,
    FORMATS,
    HEADER_BYTES,
    MAX_SEED,
    PACKET_MS,
    PRE_SKIP_48K,
    PROTOCOL,
    SERVER_MESSAGES,
)
from tests.web.stage import ROOT

DOCUMENT = (ROOT / "docs" / "protocol.md").read_text()
MIRROR = (ROOT / "web_client" / "protocol.js").read_text()


@cache
def constant(name: str) -> Any:
    """A literal that protocol.js exports, read as JSON."""
    match = re.search(rf"^export const {name} = (.+?);$", MIRROR, re.MULTILINE | re.DOTALL)
    assert match, f"protocol.js exports no {name}"
    quoted = re.sub(r"(?m)([{,]\s*)(\w+):", r'\1"\2":', match[1])
    return json.loads(re.sub(r",(\s*[}\]])", r"\1", quoted))


def test_messages_and_fields_are_those_of_the_document() -> None:
    """A field that only one side knows is refused, or silently missing."""
    parts = re.split(r"^## [12]\. .*$", DOCUMENT, flags=re.MULTILINE)
    for name, part in (("CLIENT_MESSAGES", parts[1]), ("SERVER_MESSAGES", parts[2])):
        table = part.split("| error code |")[0]
        rows = re.findall(r"^\| `(\w+)` \| ([^|]*)", table, re.MULTILINE)
        documented = {kind: re.findall(r"`([^`]+)`", listed) for kind, listed in rows}
        assert constant(name) == documented


def test_messages_and_fields_are_those_of_the_daemon() -> None:
    """The page is served by the daemon that it speaks to: they have one version."""
    for name, classes in (
        ("CLIENT_MESSAGES", CLIENT_MESSAGES),
        ("SERVER_MESSAGES", SERVER_MESSAGES),
    ):
        expected: dict[str, list[str]] = {}
        for cls in classes:
            expected[cls.type] = [
                item.name
                + ("?" if item.default is None or item.default_factory is not MISSING else "")
                for item in fields(cls)
            ]
        mirrored = constant(name)
        assert {kind: sorted(names) for kind, names in mirrored.items()} == {
            kind: sorted(names) for kind, names in expected.items()
        }


def test_error_and_close_codes_are_those_of_the_daemon() -> None:
    """A code that the page does not know ends as "that could not be said"."""
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type)]
    codes = {
        cls.code: cls.final
        for cls in classes
        if issubclass(cls, WireError) and hasattr(cls, "code")
    }
    assert constant("ERRORS") == codes
    documented = set(re.findall(r"^\| (1\d\d\d) \|", DOCUMENT, re.MULTILINE))
    mirrored = set(re.findall(r"^  (1\d\d\d): ", MIRROR, re.MULTILINE))
    assert mirrored == documented
    assert mirrored >= {
        str(cls.close_code)
        for cls in classes
        if issubclass(cls, SessionClosed) and hasattr(cls, "close_code")
    }


def test_numbers_are_the_same() -> None:
    """Numbers that live three times must agree."""
    assert constant("PROTOCOL") == PROTOCOL
    assert constant("PACKET_MS") == PACKET_MS
    assert constant("PRE_SKIP_48K") == PRE_SKIP_48K
    assert constant("HEADER_BYTES") == HEADER_BYTES
    assert constant("AUDIO_FORMATS") == {name: int(value) for name, value in FORMATS.items()}
    assert "export const MAX_SEED = 2 ** 31 - 1;" in MIRROR
    assert MAX_SEED == 2**31 - 1
