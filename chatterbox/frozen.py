"""A JSON object in, a frozen dataclass out; whatever is wrong raises `ConfigError` that names the
key.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

_T = TypeVar("_T")


class ConfigError(ValueError):
    """`config.json` does not describe a model; the message names the key."""


def from_json(kind: type[_T], raw: object, *, where: str = "") -> _T:
    """A frozen dataclass from its JSON form: unknown and missing keys are errors, lists become
    tuples.
    """
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where or 'the file'} must be an object")
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]  # a dataclass type
    unknown = sorted(set(raw) - set(known))
    if unknown:
        raise ConfigError(
            f"unknown key {where}{unknown[0]}; valid ones: {', '.join(sorted(known))}"
        )
    values: dict[str, Any] = {}
    for name, item in known.items():
        if name in raw:
            hint = hints[name]
            values[name] = (
                from_json(hint, raw[name], where=f"{where}{name}.")
                if isinstance(hint, type) and is_dataclass(hint)
                else _tuples(raw[name])
            )
        elif item.default is MISSING and item.default_factory is MISSING:
            raise ConfigError(f"key {where}{name} is missing")
    return kind(**values)


def _tuples(value: object) -> object:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
