"""Command line, environment and a TOML file in, one validated `Config` out: the only reader of
settings.

Defaults < file < environment (`CHATTERBOXD_*`) < command line. Whatever no setting is called is an
error that lists those that are.
"""

import argparse
import json
import os
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from daemon.config import GROUPS, Config, ConfigError, Setting

PREFIX = "CHATTERBOXD_"
FILE_VARIABLE = PREFIX + "CONFIG"
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Named:
    """A setting with its name and the type of its values."""

    name: str
    kind: type
    default: object
    setting: Setting

    @property
    def option(self) -> str:
        return "--" + (self.setting.option or self.name).replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()


def _kind(annotation: Any) -> type:
    """`Path | None` → Path, `tuple[str, ...]` → tuple: the type that a value is read as."""
    if isinstance(annotation, UnionType):
        annotation = next(item for item in get_args(annotation) if item is not NoneType)
    kind = get_origin(annotation) or annotation
    assert kind in _FROM_TEXT, f"settings of type {annotation} cannot be read"
    return kind  # type: ignore[no-any-return]


def _bool(text: str) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ValueError(f"{text!r} is neither true nor false")
    return text.lower() in _TRUE


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


_FROM_TEXT: Mapping[type, Callable[[str], Any]] = {
    bool: _bool,
    int: int,
    float: float,
    str: str,
    Path: Path,
    tuple: _words,
}
_NOT_SET = {int: "8766", str: '"/path/to/checkpoint"', Path: '"/path/to/file"'}
"""What stands in the example where there is no default."""
_NOT_SET_IN = {"N": "1", "URI": '"tcp://127.0.0.1:10700"', "NAME": '"kitchen"'}
"""The same by unit, where that says more."""
_WHAT = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    tuple: "a list of texts",
}


def all_settings() -> list[Named]:
    hints = get_type_hints(Config)
    return [
        Named(item.name, _kind(hints[item.name]), item.default, item.metadata["setting"])
        for item in fields(Config)
    ]


@dataclass(frozen=True, slots=True)
class Settings:
    """A valid configuration, and where each value that is no default came from."""

    config: Config
    sources: Mapping[str, str]
    print_config: bool = False
    dry_run: bool = False


def parse_arguments(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> Settings:
    """Exits with a message, as argparse does, if a setting is wrong."""
    environ = os.environ if environ is None else environ
    parser = _build_parser()
    arguments = vars(parser.parse_args(argv))
    print_config, dry_run = arguments.pop("print_config"), arguments.pop("dry_run")
    path = arguments.pop("config") or environ.get(FILE_VARIABLE)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    try:
        for source, found in (
            (f"file {path}", _from_file(Path(path)) if path else {}),
            ("environment", _from_environment(environ)),
            ("command line", arguments),
        ):
            values |= found
            sources |= dict.fromkeys(found, source)
        return Settings(Config(**values), sources, print_config, dry_run)
    except ConfigError as error:
        parser.error(str(error))


def _from_file(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    known = {item.name: item for item in all_settings()}
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise ConfigError(
            f"{path}: no setting is called {', '.join(unknown)}; there are {', '.join(known)}"
        )
    return {name: _checked(known[name], value, path) for name, value in found.items()}


def _checked(item: Named, value: object, path: Path) -> Any:
    """A TOML value as the setting's type; a number in quotes is a mistake, not a number."""
    if item.kind is float and type(value) is int:
        return float(value)
    if item.kind is Path and isinstance(value, str):
        return Path(value)
    if item.kind is tuple and isinstance(value, list) and all(isinstance(x, str) for x in value):
        return tuple(value)
    if type(value) is not item.kind:
        raise ConfigError(f"{path}: {item.name} must be {_WHAT[item.kind]}, not {value!r}")
    return value


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    known = {item.variable: item for item in all_settings()}
    ours = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
    ours.pop(FILE_VARIABLE, None)
    unknown = sorted(set(ours) - set(known))
    if unknown:
        raise ConfigError(
            f"no environment variable is called {', '.join(unknown)};"
            f" there are {FILE_VARIABLE}, {', '.join(known)}"
        )
    found = {}
    for name, text in ours.items():
        item = known[name]
        try:
            found[item.name] = _FROM_TEXT[item.kind](text)
        except ValueError as error:
            raise ConfigError(f"{name} must be {_WHAT[item.kind]}") from error
    return found


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m daemon",
        description="Speaks text while it is being written: a WebSocket daemon. The protocol is"
        " docs/protocol.md. SIGTERM or Ctrl-C finishes what is being spoken; a second one does not"
        " wait.",
        epilog=f"Every setting can also be written in a TOML file, or as {PREFIX}NAME in the"
        " environment: defaults < file < environment < command line."
        " systemd/chatterboxd.toml.example documents them all.",
    )
    parser.add_argument("--config", metavar="PATH", help=f"TOML file (or {FILE_VARIABLE})")
    parser.add_argument(
        "--print-config", action="store_true", help="print what holds, and where from, and end"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print what would be loaded, the memory of a slot and how many fit, and end",
    )
    groups = {name: parser.add_argument_group(title) for name, title in GROUPS.items()}
    for item in all_settings():
        if not item.setting.is_secret:
            _add_option(groups[item.setting.group], item)
    return parser


def _add_option(group: "argparse._ArgumentGroup", item: Named) -> None:
    facts: dict[str, Any] = {"dest": item.name, "default": argparse.SUPPRESS}
    shown = _shown_default(item)
    facts["help"] = item.setting.help.replace("%", "%%") + (f" (default: {shown})" if shown else "")
    if item.kind is bool:
        facts["action"] = argparse.BooleanOptionalAction
    else:
        facts["type"] = _FROM_TEXT[item.kind]
        if item.setting.choices:
            facts["choices"] = item.setting.choices
        else:
            facts["metavar"] = item.setting.unit
    group.add_argument(item.option, **facts)


def _shown_default(item: Named) -> str:
    if item.kind is bool or item.default in (None, ()):
        return ""
    return f"{item.default:g}" if isinstance(item.default, float) else str(item.default)


# --- out again ------------------------------------------------------------------------------------


def _toml(value: object) -> str:
    """One value as TOML. JSON's strings are TOML's."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case tuple():
            return "[" + ", ".join(_toml(item) for item in value) + "]"
        case _:
            return json.dumps(str(value))


def printed(settings: Settings) -> str:
    """What holds, as a file that `--config` reads, each line with its source. No secrets."""
    lines = []
    for item in all_settings():
        value = getattr(settings.config, item.name)
        source = settings.sources.get(item.name, "default")
        if item.setting.is_secret:
            lines.append(f"# {item.name} is not shown; {len(value)} from {source}")
        elif value is None:
            lines.append(f"# {item.name} is not set")
        else:
            lines.append(f"{item.name} = {_toml(value)}  # {source}")
    return "\n".join(lines) + "\n"


def example() -> str:
    """The text of systemd/chatterboxd.toml.example: every setting, its meaning and its default."""
    lines = [
        "# chatterboxd's settings. Every line shows a default; take away the # to change it.",
        f"# Stronger than this file are the environment ({PREFIX}PORT=9000 and the like) and the",
        "# command line (--port 9000). Times end in _s (seconds) or _ms (milliseconds).",
        "# Written by: python -m daemon.settings > systemd/chatterboxd.toml.example",
    ]
    for group, title in GROUPS.items():
        lines += ["", f"# --- {title} ---"]
        for item in all_settings():
            if item.setting.group != group:
                continue
            choices = f" One of {', '.join(item.setting.choices)}." if item.setting.choices else ""
            secret = " Better in the environment, or in token_file." * item.setting.is_secret
            lines += ["", f"# {_sentence(item.setting.help)}{choices}{secret}"]
            shown = _toml(item.default) if item.default is not None else _not_set(item)
            lines.append(f"# {item.name} = {shown}")
    return "\n".join(lines) + "\n"


def _not_set(item: Named) -> str:
    return _NOT_SET_IN.get(item.setting.unit, _NOT_SET[item.kind])


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


if __name__ == "__main__":
    sys.stdout.write(example())
