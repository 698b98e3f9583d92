"""What was done with a voice in; one line of JSON in a file, or in the log, out. Never audio.

The file is opened anew for each line, so that it can be rotated by renaming it.
"""

import errno
import json
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from daemon.config import ConfigError

_log = logging.getLogger(__name__)
_log.setLevel(logging.INFO)  # whatever `log_level` says: it is about the daemon's own talk


class AuditLog:
    """`clock` gives seconds of wall time."""

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        """Raises `ConfigError` if lines could not be written there."""
        self._path = path
        self._clock = clock
        self._is_cut = False
        if path is not None:
            try:
                os.close(self._open(path))
            except OSError as error:
                raise ConfigError(f"audit_file: {error}") from error

    def note(self, event: str, **facts: object) -> None:
        """Returns when the line is on its way to the disk. Raises `OSError`: what cannot be noted
        must not happen."""
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": at, "event": event, **facts}, ensure_ascii=True)
        if self._path is None:
            _log.info("%s", line)
            return
        # What a full disk cut is a line of its own, and spoils no later one.
        data = ("\n" * self._is_cut + line + "\n").encode()
        file = self._open(self._path)
        try:
            # In one call, so that lines of several daemons never mix.
            num_written = os.write(file, data)
        finally:
            os.close(file)
        self._is_cut = num_written < len(data)
        if self._is_cut:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    @staticmethod
    def _open(path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
