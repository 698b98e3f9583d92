"""Log records in; text, JSON lines, or the journal's own datagrams out, with their fields.

A record may carry `session`, `context` and, in `fields`, whatever else a program would want to
search for. The journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL) keeps fields apart
from the message; the library that speaks it needs a compiler and libsystemd, and this is all of it.
"""

import fcntl
import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_EVERY_SEAL = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_SHORT_BYTES = 4096
"""An entry of this size that does not get out was not too long."""
_PLAIN = re.compile(r"[\w.:-]+", re.ASCII)
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def set_up(*, level: str, log_format: str, environ: Mapping[str, str]) -> None:
    """The root logger's one handler. `auto` is the journal if standard error leads there."""
    if log_format == "auto":
        log_format = "journal" if _leads_to_journal(environ) else "text"
    handler: logging.Handler
    if log_format == "journal":
        handler = JournalSocket(JOURNAL_SOCKET)
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines() if log_format == "json" else TextLines(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":  # lines on every handshake are no news
        logging.getLogger("websockets").setLevel(logging.WARNING)
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # each request to the hub


def _leads_to_journal(environ: Mapping[str, str]) -> bool:
    """systemd names the device and inode of what it connected standard error to."""
    stream = environ.get("JOURNAL_STREAM")
    if not stream or not JOURNAL_SOCKET.exists():
        return False
    status = os.fstat(2)
    return stream == f"{status.st_dev}:{status.st_ino}"


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    found = {
        name: getattr(record, name) for name in ("session", "context") if hasattr(record, name)
    }
    return found | getattr(record, "fields", {})


class TextLines(logging.Formatter):
    """For people: the fields follow the message."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        fields = " ".join(f"{name}={_shown(value)}" for name, value in fields_of(record).items())
        first, newline, rest = text.partition("\n")
        return f"{first} [{fields}]{newline}{rest}" if fields else text


def _shown(value: object) -> str:
    """A client chose some of these: quotes and escapes keep one record on one line."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


class JsonLines(logging.Formatter):
    """For collectors: one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{whole}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line | fields_of(record))


class JournalSocket(logging.Handler):
    """For journald: `journalctl SESSION=… CONTEXT=…` finds what a client saw."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        # Level and logger are fields. Without this, basicConfig would put them into the text.
        self.setFormatter(logging.Formatter("%(message)s"))
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(_journal_entry(record, message=self.format(record)))
        except OSError:
            self.handleError(record)

    def _send(self, entry: bytes) -> None:
        try:
            self._socket.sendto(entry, self._path)
        except OSError as error:
            if len(entry) < _SHORT_BYTES:
                raise
            self._send_as_file(entry, because=error)

    def _send_as_file(self, entry: bytes, *, because: OSError) -> None:
        """An entry too long for a datagram travels as a sealed file in memory."""
        file = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.write(file, entry)
            # The journal takes no file that could still change.
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _EVERY_SEAL)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as plug:
                plug.connect(self._path)
                socket.send_fds(plug, [b""], [file])
        except OSError as error:
            raise error from because
        finally:
            os.close(file)

    def close(self) -> None:
        self._socket.close()
        super().close()


def _journal_entry(record: logging.LogRecord, *, message: str) -> bytes:
    priority = next((value for level, value in _PRIORITIES if record.levelno >= level), 7)
    entries: dict[str, object] = {
        "MESSAGE": message,
        "PRIORITY": priority,
        "SYSLOG_IDENTIFIER": "chatterboxd",
        "LOGGER": record.name,
        "CODE_FILE": record.pathname,
        "CODE_LINE": record.lineno,
    }
    entries |= {name.upper(): value for name, value in fields_of(record).items()}
    return b"".join(_journal_field(name, str(value)) for name, value in entries.items())


def _journal_field(name: str, value: str) -> bytes:
    """Length-prefixed always: a value with a line break could otherwise pass for another field."""
    data = value.encode(errors="replace")
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
