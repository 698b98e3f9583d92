"""The fields of one JSON message in, typed and checked values out, or a `BadMessage` that names the
field. Pure; knows types and ranges, not messages.
"""

import math
from typing import Any

from daemon.wire.errors import BadMessage

MAX_CONTEXT_NAME_CHARS = 64


def is_text(value: str) -> bool:
    """JSON escapes can spell half a surrogate pair, which no UTF-8 message could carry back."""
    return not any("\ud800" <= char <= "\udfff" for char in value)


class FieldReader:
    """Takes typed fields out of one message and complains about the first that does not fit."""

    def __init__(self, message_type: str, body: dict[str, Any], *, context: str | None) -> None:
        self._type = message_type
        self._body = body
        self._context = context
        self._upload: str | None = None

    def _error(self, name: str, problem: str) -> BadMessage:
        return self._refusal(f"{name} {problem}")

    def _refusal(self, problem: str) -> BadMessage:
        """Carries what its sender waits for an answer about."""
        error = BadMessage(f"{self._type}: {problem}", context=self._context)
        error.upload = self._upload
        return error

    def context(self) -> str:
        try:
            return self.name("context")
        except BadMessage as error:
            error.context = self._context = None
            raise

    def upload(self) -> str:
        self._upload = self.name("upload")
        return self._upload

    def name(self, field: str) -> str:
        """A short text."""
        value = self.text(field)
        if not 1 <= len(value) <= MAX_CONTEXT_NAME_CHARS:
            raise self._error(field, f"must have 1 to {MAX_CONTEXT_NAME_CHARS} characters")
        return value

    def text(self, name: str) -> str:
        value = self.optional_text(name)
        if value is None:
            raise self._error(name, "is missing")
        return value

    def optional_text(self, name: str) -> str | None:
        value = self._body.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self._error(name, "must be a string")
        if not is_text(value):
            raise self._error(name, "holds half a surrogate pair")
        return value

    def optional_integer(self, name: str, *, minimum: int, maximum: int) -> int | None:
        value = self._body.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._error(name, "must be an integer")
        if not minimum <= value <= maximum:
            raise self._error(name, f"must lie between {minimum} and {maximum}")
        return value

    def integer(self, name: str, *, minimum: int, maximum: int) -> int:
        value = self.optional_integer(name, minimum=minimum, maximum=maximum)
        if value is None:
            raise self._error(name, "is missing")
        return value

    def flag(self, name: str) -> bool:
        value = self._body.pop(name, None)
        if not isinstance(value, bool):
            raise self._error(name, "is missing" if value is None else "must be true or false")
        return value

    def optional_number(self, name: str, *, minimum: float) -> float | None:
        value = self._body.pop(name, None)
        if value is None:
            return None
        number = self._as_number(name, value)
        if number < minimum:
            raise self._error(name, f"must be at least {minimum:g}")
        return number

    def numbers(self, name: str) -> dict[str, float]:
        value = self._body.pop(name, None)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._error(name, "must be an object of names and numbers")
        if not all(is_text(key) for key in value):
            raise self._error(name, "holds half a surrogate pair")
        return {key: self._as_number(f"{name}.{key}", item) for key, item in value.items()}

    def optional_texts(self, name: str) -> dict[str, str] | None:
        value = self._body.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self._error(name, "must be an object of texts")
        if not all(is_text(key) and is_text(item) for key, item in value.items()):
            raise self._error(name, "holds half a surrogate pair")
        return value

    def _as_number(self, name: str, value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._error(name, "must be a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self._error(name, "is too large")
        return number

    def refuse_the_rest(self) -> None:
        for name in self._body:
            shown = repr(name[:MAX_CONTEXT_NAME_CHARS])
            raise self._refusal(f"unknown field {shown}")
