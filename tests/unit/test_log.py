"""Log lines: fields in text, JSON and the journal's datagrams; one record stays one record."""

import json
import logging
import os
import socket
import sys
from pathlib import Path

import pytest

from daemon.watching import log


def record(
    message: str, *args: object, level: int = logging.INFO, **extra: object
) -> logging.LogRecord:
    made = logging.getLogger("daemon.test").makeRecord(
        "daemon.test", level, "/x/test.py", 7, message, args, None, extra=extra
    )
    return made


def test_text_shows_the_fields_behind_the_message() -> None:
    """What a person reads in `make serve`."""
    line = log.TextLines("%(levelname)s %(message)s").format(
        record("said %s", "it", session="ab12", context="a", fields={"audio_ms": 5, "x": "b c"})
    )
    assert line == 'INFO said it [session=ab12 context=a audio_ms=5 x="b c"]'


def test_a_clients_name_cannot_forge_a_line() -> None:
    """A context may be called anything, also a line break and an ERROR."""
    line = log.TextLines("%(message)s").format(record("over", context="a\n2026 ERROR"))
    assert "\n" not in line
    line = log.JsonLines().format(record("over", context="a\n2026 ERROR"))
    assert "\n" not in line


def test_json_is_one_object_a_line() -> None:
    """Collectors parse it; the exception belongs to its record."""
    made = record("it broke", session="ab", level=logging.ERROR)
    try:
        raise ValueError("because")
    except ValueError:
        made.exc_info = sys.exc_info()
    entry = json.loads(log.JsonLines().format(made))
    assert (entry["level"], entry["message"], entry["session"]) == ("error", "it broke", "ab")
    assert "ValueError: because" in entry["exception"]
    assert entry["time"].endswith("Z")


def parse_journal(entry: bytes) -> dict[str, str]:
    """As journald reads it: name, line break, length, value, line break."""
    fields = {}
    while entry:
        name, _, rest = entry.partition(b"\n")
        length = int.from_bytes(rest[:8], "little")
        fields[name.decode()] = rest[8 : 8 + length].decode()
        assert rest[8 + length : 9 + length] == b"\n"
        entry = rest[9 + length :]
    return fields


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_the_journal_gets_fields(tmp_path: Path, size: int) -> None:
    """`journalctl SESSION=…`; a record too long for a datagram comes as a sealed file."""
    path = tmp_path / "journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(path))
        handler = log.JournalSocket(path)
        text = "x" * size + "\nPRIORITY=0"
        handler.emit(record(text, session="ab", fields={"audio_ms": 5}, level=logging.WARNING))
        handler.close()
        data, files, _flags, _address = socket.recv_fds(journald, 2**20, 1)
        if files:
            assert not data
            data = os.pread(files[0], 2**24, 0)
            with pytest.raises(PermissionError):
                os.write(files[0], b"more")
            os.close(files[0])
        assert bool(files) == (size > 2**20)
        fields = parse_journal(data)
    assert fields["MESSAGE"] == text
    assert (fields["PRIORITY"], fields["SESSION"], fields["AUDIO_MS"]) == ("4", "ab", "5")
    assert fields["SYSLOG_IDENTIFIER"] == "chatterboxd"


def test_the_journals_message_is_the_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """basicConfig once put level and logger in front of it."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(log, "JOURNAL_SOCKET", tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(tmp_path / "journal"))
        log.set_up(level="debug", log_format="journal", environ={})
        logging.getLogger("daemon.test").info("all is well")
        assert parse_journal(journald.recv(2**16))["MESSAGE"] == "all is well"
        root.handlers[0].close()


def test_auto_is_the_journal_only_if_standard_error_leads_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever redirects a service's errors to a file wants them in the file."""
    (tmp_path / "socket").touch()
    monkeypatch.setattr(log, "JOURNAL_SOCKET", tmp_path / "socket")
    status = os.fstat(2)
    assert log._leads_to_journal({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    assert not log._leads_to_journal({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
    assert not log._leads_to_journal({})
