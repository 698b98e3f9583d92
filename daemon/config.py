"""Every setting of the daemon, with default, range and meaning, as one frozen `Config`. A leaf.

Where values come from is the business of `daemon/settings.py`. A new setting is one field here.
"""
# ruff: noqa: RUF009 - `_setting` is `field` with less to write, called once for each field

import ipaddress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SERVER_VERSION = "0.1.0"
ENGINES = ("chatterbox", "sine")
CLONERS = ("tokens", "all", "nobody")
DTYPES = ("float32", "bfloat16", "float16")
SHORTEST_LEAD_MS = 200
LONGEST_LEAD_MS = 120_000
LONGEST_BUFFER_DELAY_MS = 60_000
LONGEST_SILENCE_MS = 10_000
LONGEST_BREAK_MS = 60_000
LARGEST_LEXICON = 10_000
LARGEST_CLIP_BYTES = 64 * 2**20
"""What the process that listens to clips reads of a file."""
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("auto", "text", "json", "journal")

GROUPS = {
    "listening": "where it listens",
    "engine": "who speaks",
    "dialects": "clients of other services, as they are",
    "voices": "voices that clients make of clips; see docs/voices.md",
    "limits": "limits and defaults for clients",
    "security": "who may come in",
    "operation": "operation",
}


class ConfigError(ValueError):
    """A setting that is unknown, of the wrong type or outside its range; the text names it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What an operator reads about one field of `Config`."""

    group: str
    help: str
    unit: str = ""
    option: str = ""
    """The command line's name, where it is not the field's."""
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    """A whole number that has none is at least 1."""
    at_most: float | None = None
    is_positive: bool = False
    """More than 0, however little."""
    is_secret: bool = False
    """Never on the command line, which every user of the machine can read, and never printed."""


def _setting(default: Any, group: str, text: str, unit: str = "", **facts: Any) -> Any:
    setting = Setting(group=group, help=text, unit=unit, **facts)
    return field(default=default, metadata={"setting": setting})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting of one daemon."""

    host: str = _setting("127.0.0.1", "listening", "address to bind", "ADDRESS")
    port: int = _setting(
        8765, "listening", "TCP port; 0 takes a free one", "PORT", at_least=0, at_most=65_535
    )
    port_file: Path | None = _setting(
        None,
        "listening",
        "once listening, write the port number to this file (removed at the end)",
        "PATH",
    )
    tls_cert: Path | None = _setting(
        None,
        "listening",
        "certificate chain (PEM): listen with TLS; read again on SIGHUP",
        "PATH",
    )
    tls_key: Path | None = _setting(None, "listening", "its private key (PEM)", "PATH")
    agent_port: int | None = _setting(
        None,
        "listening",
        "TCP port on which HAProxy's agent check learns of free places and of draining",
        "PORT",
        at_least=0,
        at_most=65_535,
    )

    engine: str = _setting(
        "chatterbox", "engine", "the speech model, or tones that need no torch", choices=ENGINES
    )
    model: str | None = _setting(
        None,
        "engine",
        "checkpoint to load: turbo, nano, english or multilingual from the Hugging Face hub, or a"
        " folder; the bundled voice if absent",
        "NAME_OR_PATH",
    )
    offline: bool = _setting(
        False, "engine", "fetch nothing from the hub: what is missing is an error"
    )
    voices: Path | None = _setting(
        None,
        "engine",
        "folder of voices (*.safetensors) beside the checkpoint's own; one named default is the"
        " default",
        "PATH",
    )
    num_slots: int = _setting(
        4, "engine", "segments that are spoken at the same time", "N", option="slots"
    )
    threads: int = _setting(1, "engine", "processor threads of the model", "N")
    deterministic: bool = _setting(
        False,
        "engine",
        "same text, voice and seed give the same samples under any load, at a cost in speed",
    )
    dtype: str = _setting("float32", "engine", "precision of the model's weights", choices=DTYPES)
    eager: bool = _setting(
        False, "engine", "no CUDA graphs: many times slower, to look for faults on a GPU"
    )
    watermark: bool = _setting(
        False,
        "engine",
        "mark all speech as synthetic, for machines to tell (needs the extra watermark)",
    )
    lexicon: Path | None = _setting(
        None, "engine", "TOML file of words and how they are said; see docs/text.md", "PATH"
    )
    sine_step_ms: int = _setting(200, "engine", "engine sine: audio made by one step", "MS")
    sine_cost_ms: float = _setting(
        0.0, "engine", "engine sine: time that one step takes", "MS", at_least=0
    )

    openai_port: int | None = _setting(
        None,
        "dialects",
        "TCP port for clients of OpenAI's speech API (HTTP), on the address of `host`",
        "PORT",
        at_least=0,
        at_most=65_535,
    )
    voice_aliases: tuple[str, ...] = _setting(
        (),
        "dialects",
        "names of other services' voices as theirs=ours; * is any that is not known",
        "ALIASES",
    )
    wyoming: str | None = _setting(
        None,
        "dialects",
        "listen for Home Assistant (Wyoming protocol), such as tcp://127.0.0.1:10700; it knows no"
        " tokens",
        "URI",
    )
    wyoming_zeroconf: str | None = _setting(
        None,
        "dialects",
        "announce that address in the local network under this name (needs the extra compat)",
        "NAME",
    )
    wyoming_silence_ms: int = _setting(
        0,
        "dialects",
        "silence after each Wyoming answer, for loudspeakers that cut the end",
        "MS",
        at_least=0,
        at_most=LONGEST_SILENCE_MS,
    )

    cloning: str = _setting(
        "tokens",
        "voices",
        "who may upload clips, if the model can listen: whoever shows a token, all (strangers then"
        " share their voices) or nobody",
        choices=CLONERS,
    )
    state_folder: Path | None = _setting(
        None,
        "voices",
        "folder in which such voices outlive a restart; without it they end with the daemon",
        "PATH",
    )
    audit_file: Path | None = _setting(
        None,
        "voices",
        "append a line of JSON here for each upload, deletion and expiry; without it they go to the"
        " log",
        "PATH",
    )
    voice_hours: float = _setting(
        720.0,
        "voices",
        "how long such a voice lives; 0 keeps it until it is deleted",
        "H",
        at_least=0,
    )
    max_voices: int = _setting(200, "voices", "such voices at a time, of all clients", "N")
    max_voices_per_token: int = _setting(20, "voices", "such voices at a time, of one token", "N")
    max_clip_bytes: int = _setting(
        20_000_000, "voices", "longest clip", "BYTES", at_least=1024, at_most=LARGEST_CLIP_BYTES
    )
    max_uploads: int = _setting(
        8, "voices", "clips that are being sent, wait or are worked on; more are refused", "N"
    )
    clone_s: float = _setting(
        120.0,
        "voices",
        "longest time for sending a clip, for loading the models that listen, and for one voice",
        "S",
        is_positive=True,
    )
    clone_idle_s: float = _setting(
        300.0,
        "voices",
        "the process that listens to clips ends after so long without one",
        "S",
        is_positive=True,
    )
    clone_memory_mb: int = _setting(
        8_192, "voices", "most address space of that process; libraries of torch count", "MB"
    )

    max_sessions: int = _setting(
        100, "limits", "connections at a time; more are refused with HTTP 503", "N"
    )
    max_contexts: int = _setting(16, "limits", "live contexts of one session", "N")
    max_text_chars: int = _setting(50_000, "limits", "characters of one context", "N")
    max_lexicon: int = _setting(
        200,
        "limits",
        "words whose pronunciation a client may set in one context",
        "N",
        at_least=0,
        at_most=LARGEST_LEXICON,
    )
    max_break_ms: int = _setting(
        10_000,
        "limits",
        "the longest pause that a text may ask for in one place",
        "MS",
        at_least=0,
        at_most=LONGEST_BREAK_MS,
    )
    max_message_bytes: int = _setting(
        65_536, "limits", "longest message of a client", "BYTES", at_least=1024
    )
    max_messages_per_s: int = _setting(
        500, "limits", "messages that one session may send; faster ones are read later", "N"
    )
    max_wait_ms: int = _setting(
        5_000, "limits", "a context that waits longer for a free slot gets the error busy", "MS"
    )
    max_waiting: int = _setting(
        64, "limits", "contexts that may wait for a free slot; more get busy at once", "N"
    )
    max_lead_ms: int = _setting(
        10_000,
        "limits",
        "audio sent ahead of playback, unless the client asks otherwise",
        "MS",
        at_least=SHORTEST_LEAD_MS,
        at_most=LONGEST_LEAD_MS,
    )
    max_buffer_delay_ms: int = _setting(
        500,
        "limits",
        "unfinished phrases wait this long for more text",
        "MS",
        at_least=0,
        at_most=LONGEST_BUFFER_DELAY_MS,
    )

    token_file: Path | None = _setting(
        None, "security", "TOML file of bearer tokens and their limits; see SECURITY.md", "PATH"
    )
    tokens: tuple[str, ...] = _setting(
        (), "security", "bearer tokens as name=token, without limits of their own", is_secret=True
    )
    ticket_s: int = _setting(60, "security", "how long a ticket for a browser is good", "S")
    public_without_token: bool = _setting(
        False, "security", "listen beyond this machine although nobody needs a token"
    )
    allowed_origins: tuple[str, ...] = _setting(
        (),
        "security",
        "web pages of these origins may connect, besides the daemon's own; * is any",
        "ORIGINS",
    )
    trusted_proxies: tuple[str, ...] = _setting(
        (),
        "security",
        "networks whose X-Forwarded-For names the peer, and whose X-Forwarded-Proto is believed",
        "NETWORKS",
    )
    max_sessions_per_peer: int = _setting(
        100, "security", "connections at a time from one address", "N"
    )
    max_connects_per_min: int = _setting(
        3_000, "security", "new connections from one address in a minute", "N"
    )

    stall_s: float = _setting(
        30.0,
        "operation",
        "a client that takes nothing for this long is closed",
        "S",
        is_positive=True,
    )
    ping_s: float = _setting(
        20.0,
        "operation",
        "interval of WebSocket pings, and how long a pong may take",
        "S",
        is_positive=True,
    )
    grace_s: float = _setting(
        20.0, "operation", "after SIGTERM, how long running contexts may go on", "S", at_least=0
    )
    stuck_s: float = _setting(
        30.0,
        "operation",
        "an engine that does not answer for this long is not healthy",
        "S",
        is_positive=True,
    )
    start_s: float = _setting(
        1_800.0,
        "operation",
        "systemd is asked for patience this long while the model loads",
        "S",
        is_positive=True,
    )
    retry_after_s: int = _setting(5, "operation", "what a refused client is told to wait", "S")
    opus_threads: int = _setting(2, "operation", "threads that encode Opus", "N")
    log_level: str = _setting("info", "operation", "least severe log line", choices=LOG_LEVELS)
    log_format: str = _setting(
        "auto",
        "operation",
        "auto writes to the journal under systemd, else text",
        choices=LOG_FORMATS,
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item.name, getattr(self, item.name), item.metadata["setting"])
        self._check_addresses()
        _require(
            self.wyoming_zeroconf is None or self.wyoming is not None,
            "wyoming_zeroconf needs wyoming",
        )
        _require(
            (self.tls_cert is None) == (self.tls_key is None),
            "tls_cert and tls_key need each other",
        )
        for alias in self.voice_aliases:
            theirs, _, ours = alias.partition("=")
            _require(
                bool(theirs and ours),
                f"voice_aliases: {alias!r} is no pair such as their_voice=our_voice",
            )

    def _check_addresses(self) -> None:
        _require(
            self.wyoming is None or _is_tcp_uri(self.wyoming),
            "wyoming must be an address such as tcp://127.0.0.1:10700",
        )
        for network in self.trusted_proxies:
            _require(_is_network(network), f"trusted_proxies: {network!r} is no network")
        for origin in self.allowed_origins:
            _require(
                _is_origin(origin),
                f"allowed_origins: {origin!r} is no origin such as https://a.example",
            )


def _check(name: str, value: Any, setting: Setting) -> None:
    """What one setting alone must be."""
    if setting.choices:
        _require(value in setting.choices, f"{name} must be one of {', '.join(setting.choices)}")
    if value is None:
        return
    least, most = setting.at_least, setting.at_most
    if least is None and type(value) is int:
        least = 1
    if setting.is_positive:
        _require(value > 0, f"{name} must be more than 0")
    elif least is not None and most is not None:
        _require(least <= value <= most, f"{name} must lie between {least} and {most}")
    elif least is not None:
        complaint = f"must be at least {least}" if least else "must not be negative"
        _require(value >= least, f"{name} {complaint}")


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _is_tcp_uri(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme == "tcp" and bool(parts.hostname) and parts.port is not None
    except ValueError:
        return False


def _is_origin(text: str) -> bool:
    scheme, separator, rest = text.partition("://")
    return text == "*" or (bool(scheme and separator and rest) and "/" not in rest)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
