"""Command line in, one frozen, validated `Config` out. A leaf: imports nothing of ours.

The only place that reads settings. `Config` holds them whatever their source, so that environment
and files can join `parse_arguments` without a change elsewhere.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

SERVER_VERSION = "0.1.0"
ENGINES = ("chatterbox", "sine")
SHORTEST_LEAD_MS = 200
LONGEST_LEAD_MS = 120_000
LONGEST_BUFFER_DELAY_MS = 60_000
LOG_LEVELS = ("debug", "info", "warning", "error")


class ConfigError(ValueError):
    """A setting outside its range; the text names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting of one daemon. Defaults are those of the command line."""

    host: str = "127.0.0.1"
    port: int = 8765
    port_file: Path | None = None

    engine: str = "chatterbox"
    model: str | None = None
    num_slots: int = 4
    threads: int = 1
    deterministic: bool = False
    sine_step_ms: int = 200
    sine_cost_ms: float = 0.0

    max_sessions: int = 100
    max_contexts: int = 16
    max_text_chars: int = 50_000
    max_message_bytes: int = 65_536
    max_wait_ms: int = 5_000
    max_lead_ms: int = 10_000
    max_buffer_delay_ms: int = 500

    stall_s: float = 30.0
    ping_s: float = 20.0
    grace_s: float = 20.0
    retry_after_s: int = 5
    opus_threads: int = 2
    log_level: str = "warning"

    def __post_init__(self) -> None:
        _require(self.engine in ENGINES, f"engine must be one of {', '.join(ENGINES)}")
        _require(self.log_level in LOG_LEVELS, f"log_level: one of {', '.join(LOG_LEVELS)}")
        _require(0 <= self.port <= 65_535, "port must lie between 0 and 65535")
        for name in ("num_slots", "threads", "sine_step_ms", "max_sessions", "max_contexts"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1")
        for name in ("max_text_chars", "retry_after_s", "opus_threads", "max_wait_ms"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1")
        for name in ("stall_s", "ping_s"):
            _require(getattr(self, name) > 0, f"{name} must be more than 0")
        for name in ("grace_s", "sine_cost_ms"):
            _require(getattr(self, name) >= 0, f"{name} must not be negative")
        _require(self.max_message_bytes >= 1024, "max_message_bytes must be at least 1024")
        _require(
            SHORTEST_LEAD_MS <= self.max_lead_ms <= LONGEST_LEAD_MS,
            f"max_lead_ms must lie between {SHORTEST_LEAD_MS} and {LONGEST_LEAD_MS}",
        )
        _require(
            0 <= self.max_buffer_delay_ms <= LONGEST_BUFFER_DELAY_MS,
            f"max_buffer_delay_ms must lie between 0 and {LONGEST_BUFFER_DELAY_MS}",
        )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


def parse_arguments(argv: Sequence[str]) -> Config:
    """Exits with a message, as argparse does, if a setting is wrong."""
    parser = _build_parser()
    arguments = vars(parser.parse_args(argv))
    try:
        return Config(**{item.name: arguments[item.name] for item in fields(Config)})
    except ConfigError as error:
        parser.error(str(error))


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m daemon",
        description="Speaks text while it is being written: a WebSocket daemon. The protocol is"
        " docs/protocol.md. SIGTERM or Ctrl-C finishes what is being spoken; a second one does not"
        " wait.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_listening(parser.add_argument_group("where it listens"))
    _add_engine(parser.add_argument_group("who speaks"))
    _add_limits(parser.add_argument_group("limits and defaults for clients"))
    _add_operation(parser.add_argument_group("operation"))
    return parser


def _add_listening(group: "argparse._ArgumentGroup") -> None:
    default = Config()
    group.add_argument("--host", default=default.host, help="address to bind")
    group.add_argument(
        "--port", type=int, default=default.port, help="TCP port; 0 takes a free one"
    )
    group.add_argument(
        "--port-file",
        type=Path,
        metavar="PATH",
        help="once listening, write the port number to this file (removed at the end)",
    )


def _add_engine(group: "argparse._ArgumentGroup") -> None:
    default = Config()
    group.add_argument(
        "--engine",
        choices=ENGINES,
        default=default.engine,
        help="the speech model, or tones that need no torch",
    )
    group.add_argument(
        "--model", metavar="NAME_OR_PATH", help="checkpoint to load; the bundled voice if absent"
    )
    group.add_argument(
        "--slots",
        dest="num_slots",
        type=int,
        metavar="N",
        default=default.num_slots,
        help="segments that are spoken at the same time",
    )
    group.add_argument(
        "--threads",
        type=int,
        metavar="N",
        default=default.threads,
        help="processor threads of the model",
    )
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="same text, voice and seed give the same samples under any load, at a cost in speed",
    )
    group.add_argument(
        "--sine-step-ms",
        type=int,
        metavar="MS",
        default=default.sine_step_ms,
        help="--engine sine: audio made by one step",
    )
    group.add_argument(
        "--sine-cost-ms",
        type=float,
        metavar="MS",
        default=default.sine_cost_ms,
        help="--engine sine: time that one step takes",
    )


def _add_limits(group: "argparse._ArgumentGroup") -> None:
    default = Config()
    for name, unit, text in (
        ("max_sessions", "N", "connections at a time; more are refused with HTTP 503"),
        ("max_contexts", "N", "live contexts of one session"),
        ("max_text_chars", "N", "characters of one context"),
        ("max_message_bytes", "BYTES", "longest message of a client"),
        ("max_wait_ms", "MS", "a context that waits longer for a free slot gets the error busy"),
        ("max_lead_ms", "MS", "audio sent ahead of playback, unless the client asks otherwise"),
        ("max_buffer_delay_ms", "MS", "unfinished phrases wait this long for more text"),
    ):
        group.add_argument(
            _flag(name), type=int, metavar=unit, default=getattr(default, name), help=text
        )


def _add_operation(group: "argparse._ArgumentGroup") -> None:
    default = Config()
    for name, text in (
        ("stall_s", "a client that takes nothing for this long is closed (seconds)"),
        ("ping_s", "interval of WebSocket pings, and how long a pong may take (seconds)"),
        ("grace_s", "after SIGTERM, how long running contexts may go on (seconds)"),
    ):
        group.add_argument(
            _flag(name), type=float, metavar="S", default=getattr(default, name), help=text
        )
    group.add_argument(
        "--retry-after-s",
        type=int,
        metavar="S",
        default=default.retry_after_s,
        help="what a refused client is told to wait (seconds)",
    )
    group.add_argument(
        "--opus-threads",
        type=int,
        metavar="N",
        default=default.opus_threads,
        help="threads that encode Opus",
    )
    group.add_argument(
        "--log-level", choices=LOG_LEVELS, default=default.log_level, help="least severe log line"
    )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
