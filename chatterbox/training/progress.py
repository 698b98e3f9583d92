"""Steps and losses in, one line with an estimate of the remaining time on stderr."""

import sys
import time
from collections.abc import Mapping


class Progress:
    """Prints at most one line every few seconds; the first and the last step always."""

    def __init__(self, stage: str, *, total: float, every_s: float = 10.0) -> None:
        self._stage, self._total, self._every_s = stage, total, every_s
        self._start = time.monotonic()
        self._shown = -every_s
        self._first: float | None = None

    def show(self, done: float, values: Mapping[str, float]) -> None:
        """Report that `done` of the total is done."""
        now = time.monotonic() - self._start
        if now - self._shown < self._every_s and done < self._total:
            return
        self._shown = now
        self._first = done if self._first is None else self._first
        since = done - self._first
        left = f"{now / since * max(self._total - done, 0):.0f}s" if since > 0 else "?"
        listed = " ".join(f"{name} {value:.4g}" for name, value in values.items())
        line = f"{self._stage} {done:.0f}/{self._total:.0f} {now:.0f}s, {left} left: {listed}\n"
        sys.stderr.write(line)
        sys.stderr.flush()
