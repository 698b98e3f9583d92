"""Whatever a client writes, the parser answers with a message or with an error of the wire."""

import contextlib
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.wire.errors import WireError
from daemon.wire.protocol import CLIENT_MESSAGES, parse_client_message, to_json

TYPES = [message.type for message in CLIENT_MESSAGES]
FIELDS = [
    *("type", "context", "text", "voice", "format", "bitrate", "seed", "language", "options"),
    *("max_buffer_delay_ms", "max_lead_ms", "played_ms"),
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*TYPES, "a", "", "\x00", "\ud800", "opus", 2**31, -1, 1e308])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
OBJECTS = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), VALUES, max_size=6)
NEARLY_RIGHT = st.builds(
    lambda kind, more: {"type": kind, "context": "a"} | more, st.sampled_from(TYPES), OBJECTS
)


def parse(raw: str) -> None:
    with contextlib.suppress(WireError):
        message = parse_client_message(raw)
        assert parse_client_message(to_json(message)) == message


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text(raw: str) -> None:
    """An exception of another kind is a session closed with 1011 and a traceback in the log."""
    parse(raw)


@settings(max_examples=600, deadline=None)
@given(NEARLY_RIGHT | OBJECTS | VALUES)
def test_any_json(value: object) -> None:
    """What is understood means the same when it is written again."""
    parse(json.dumps(value))


@settings(max_examples=200, deadline=None)
@given(NEARLY_RIGHT, st.integers(min_value=0), st.text(min_size=1, max_size=2))
def test_damaged_json(value: object, position: int, damage: str) -> None:
    """Cut or spoilt in one place."""
    raw = json.dumps(value)
    position %= len(raw)
    parse(raw[:position])
    parse(raw[:position] + damage + raw[position + 1 :])
