"""Wire messages and their document: there and back, and docs/protocol.md names them all."""

import json
import re
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.api import OptionSpec
from daemon.wire import errors
from daemon.wire.errors import BadJson, BadMessage, SessionClosed, UnknownType, WireError
from daemon.wire.protocol import (
    CLIENT_MESSAGES,
    FORMATS,
    HEADER_BYTES,
    PRE_SKIP_48K,
    PROTOCOL,
    SERVER_MESSAGES,
    AudioEnd,
    AudioFormat,
    AudioMessage,
    Begin,
    Cancel,
    Cancelled,
    End,
    Failed,
    Flush,
    Flushed,
    Limits,
    Open,
    Opened,
    OpusFacts,
    SegmentStart,
    TextDelta,
    Warned,
    Words,
    WordTime,
    parse_client_message,
    parse_server_message,
    to_json,
)
from daemon.wire.voice_messages import (
    CloningTerms,
    VoiceAccepted,
    VoiceDelete,
    VoiceDeleted,
    VoiceFacts,
    VoiceList,
    VoiceProgress,
    VoiceReady,
    Voices,
    VoiceUpload,
)

DOCUMENT = (Path(__file__).resolve().parent.parent.parent / "docs" / "protocol.md").read_text()

BEGIN = Begin(
    server="1.2.3",
    model="sine",
    sample_rate=24_000,
    formats=("opus",),
    opus=OpusFacts(bitrate_default=32_000, bitrate_min=6_000, bitrate_max=128_000),
    voices=("a", "b"),
    default_voice="a",
    languages=("en",),
    options=(OptionSpec(name="speed", default=1, minimum=0.5, maximum=2, description="How fast."),),
    slots=4,
    limits=Limits(
        message_bytes=1,
        text_chars=2,
        contexts=3,
        messages_per_s=10,
        wait_ms=4,
        stall_ms=11,
        buffer_delay_ms_default=5,
        buffer_delay_ms_max=6,
        lead_ms_default=7,
        lead_ms_min=8,
        lead_ms_max=9,
    ),
)
CLIENT_EXAMPLES = [
    Open(context="a"),
    Open(
        context="a",
        voice="b",
        format="opus",
        bitrate=16_000,
        seed=3,
        language="en",
        options={"speed": 1.5},
        max_buffer_delay_ms=0,
        max_lead_ms=300,
        lexicon={"nginx": "engine x"},
    ),
    TextDelta(context="ä 😀", text=' "quoted"\n你好 '),
    Flush(context="a"),
    End(context="a"),
    Cancel(context="a"),
    Cancel(context="a", played_ms=12.5),
    VoiceUpload(upload="u", name="Änne", bytes=70_000, consent=True),
    VoiceUpload(upload="u", name="Änne", bytes=1, consent=False),
    VoiceList(),
    VoiceDelete(voice="v-1"),
]
SERVER_EXAMPLES = [
    BEGIN,
    Opened(
        context="a",
        number=1,
        voice="a",
        format="opus",
        seed=0,
        language="en",
        options={"speed": 1.0},
        max_buffer_delay_ms=5,
        max_lead_ms=7,
        bitrate=32_000,
    ),
    SegmentStart(context="a", segment=0, text="Hi.", start=0, end=3, sample=0),
    Words(context="a", words=(WordTime(text="Hi.", start=0, end=3, sample=120, end_sample=900),)),
    Flushed(context="a", flush=1, end=3, samples=960),
    AudioEnd(context="a", samples=960, packets=3, duration_ms=40.0, segments=1, text_chars=3),
    Cancelled(context="a", text_spoken="H", text_remaining="i.", played_ms=1.5, samples_sent=480),
    Warned(context="a", code="unspeakable", message="nothing", segment=2),
    Failed(code="busy", message="no slot", hint="later", final=True, context="a"),
    Failed(code="bad_json", message="no", hint="yes", final=False),
    Failed(code="clip_unfit", message="silent", hint="louder", final=False, upload="u"),
    replace(BEGIN, cloning=CloningTerms(clip_bytes=9, voices=2, lifetime_s=None)),
    replace(BEGIN, tags=("[laugh]", "[sigh]"), phonemes="aʤ"),
    VoiceAccepted(upload="u"),
    VoiceProgress(upload="u", state="waiting", ahead=2),
    VoiceReady(upload="u", voice="v-1", name="A", seconds=7.5, warnings=["w"], expires_in_s=60),
    Voices(voices=(VoiceFacts(voice="v-1", name="A", seconds=7.5, expires_in_s=None),)),
    VoiceDeleted(voice="v-1"),
]


@pytest.mark.parametrize("message", CLIENT_EXAMPLES, ids=lambda item: item.type)
def test_client_messages_there_and_back(message: Any) -> None:
    """A field that is written but not read, or read under another name, is lost in silence."""
    assert parse_client_message(to_json(message)) == message


@pytest.mark.parametrize("message", SERVER_EXAMPLES, ids=lambda item: item.type)
def test_server_messages_there_and_back(message: Any) -> None:
    """The same for what clients read."""
    assert parse_server_message(to_json(message)) == message


def test_every_message_has_an_example_above() -> None:
    """A new message must not slip past the two tests above."""
    assert {type(message) for message in CLIENT_EXAMPLES} == set(CLIENT_MESSAGES)
    assert {type(message) for message in SERVER_EXAMPLES} == set(SERVER_MESSAGES)


def test_clients_may_meet_newer_daemons() -> None:
    """v1 grows by new fields; an old client must live with them."""
    body = json.loads(to_json(BEGIN))
    body |= {"weather": "fine", "limits": body["limits"] | {"moons": 1}}
    assert parse_server_message(json.dumps(body)) == BEGIN
    with pytest.raises(BadMessage):
        parse_server_message('{"type": "segment", "context": "a"}')
    with pytest.raises(UnknownType):
        parse_server_message('{"type": "new"}')


@given(st.text())
def test_any_text_is_parsed_or_refused(raw: str) -> None:
    """Any other exception would end a session with a traceback."""
    for parse in (parse_client_message, parse_server_message):
        with pytest.raises((BadJson, BadMessage, UnknownType)):
            parse(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
field_names = sorted({item.name for cls in CLIENT_MESSAGES for item in fields(cls)})


@given(
    st.sampled_from([cls.type for cls in CLIENT_MESSAGES]),
    st.dictionaries(st.sampled_from(field_names), json_values),
)
def test_any_object_is_parsed_or_refused(message_type: str, body: dict[str, Any]) -> None:
    """Each field may hold each type of JSON, and what is accepted can be written again."""
    try:
        message = parse_client_message(json.dumps({"type": message_type, **body}))
    except (BadJson, BadMessage):
        return
    to_json(message).encode()


# --- audio ----------------------------------------------------------------------------------------


def test_the_audio_header_is_what_the_document_says() -> None:
    """Clients in other languages read these bytes by their position."""
    message = AudioMessage(
        format=AudioFormat.PCM_S16LE, number=2, sequence=0x01020304, num_samples=480, payload=b"xy"
    )
    raw = message.to_bytes()
    assert raw.hex() == "01020000" + "02000000" + "04030201" + "e0010000" + "7879"
    assert HEADER_BYTES == 16
    assert AudioMessage.from_bytes(raw) == message


@pytest.mark.parametrize(
    "raw", [b"", b"\x01" * 15, b"\x02\x01" + bytes(14), b"\x01\x09" + bytes(14)]
)
def test_a_wrong_audio_header_is_refused(raw: bytes) -> None:
    """Playing a message of a later version as noise is worse than an error."""
    with pytest.raises(BadMessage):
        AudioMessage.from_bytes(raw)


# --- the document ---------------------------------------------------------------------------------


def documented_fields(section: str, message_type: str) -> dict[str, bool]:
    """Name → whether it may be left out, from the table of a section."""
    row = re.search(rf"^\| `{message_type}` \| ([^|]*)", section, re.MULTILINE)
    assert row, f"{message_type} is not in the document"
    names = re.findall(r"`([^`]+)`", row[1])
    return {name.rstrip("?"): name.endswith("?") for name in names}


@pytest.mark.parametrize("cls", [*CLIENT_MESSAGES, *SERVER_MESSAGES], ids=lambda cls: cls.type)
def test_the_document_lists_every_field(cls: Any) -> None:
    """The document is what other people program against."""
    _, client_part, server_part = re.split(r"^## [12]\. .*$", DOCUMENT, flags=re.MULTILINE)
    section = client_part if cls in CLIENT_MESSAGES else server_part
    optional = {
        item.name: item.default is None or item.default_factory is not MISSING
        for item in fields(cls)
    }
    assert documented_fields(section, cls.type) == optional


def test_the_document_lists_every_error() -> None:
    """A code that is not documented cannot be handled."""
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type)]
    codes = {
        cls.code: cls.final
        for cls in classes
        if issubclass(cls, WireError) and hasattr(cls, "code")
    }
    rows = re.findall(r"^\| (`[a-z_`/ ]+`) \| .* \| (yes|no) \|$", DOCUMENT, re.MULTILINE)
    documented = {
        code: final == "yes" for names, final in rows for code in re.findall(r"`(\w+)`", names)
    }
    assert documented == codes
    closes = {
        cls.close_code
        for cls in classes
        if issubclass(cls, SessionClosed) and hasattr(cls, "close_code")
    }
    assert closes <= {int(code) for code in re.findall(r"^\| (1\d\d\d) \|", DOCUMENT, re.MULTILINE)}


def test_the_document_states_the_constants() -> None:
    """Numbers that live twice must agree."""
    assert f"# The wire protocol `{PROTOCOL}`" in DOCUMENT
    assert f"pre_skip: {PRE_SKIP_48K}" in DOCUMENT
    for name, value in FORMATS.items():
        assert f"{value.value} = `{name}`" in DOCUMENT
    opus_names = re.search(r"`opus` is `\{([^}]*)\}`", DOCUMENT)
    limit_names = re.search(r"`limits` is `\{([^}]*)\}`", DOCUMENT)
    assert opus_names
    assert limit_names
    assert re.findall(r"[a-z_]+", opus_names[1]) == [item.name for item in fields(OpusFacts)]
    assert re.findall(r"[a-z_]+", limit_names[1]) == [item.name for item in fields(Limits)]
