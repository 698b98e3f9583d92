"""AuditLog: whole lines, in a file or in the log, or an error."""

import json
import logging
import resource
from pathlib import Path

import pytest

from daemon.config import ConfigError
from daemon.watching.audit_log import AuditLog
from tests.fakes import FakeClock


def test_a_line_that_a_full_disk_cuts_is_an_error_and_spoils_no_other(tmp_path: Path) -> None:
    """A write of half a line succeeds; the voice would have been made, and its line unreadable."""
    log = AuditLog(tmp_path / "audit", clock=FakeClock())
    log.note("first")
    size = (tmp_path / "audit").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            log.note("second")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.note("third")
    first, cut, third = (tmp_path / "audit").read_text().splitlines()
    assert [json.loads(line)["event"] for line in (first, third)] == ["first", "third"]
    assert len(cut) == 20


def test_an_audit_file_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    """Better at the start than at the first upload, months later."""
    with pytest.raises(ConfigError, match="audit_file"):
        AuditLog(tmp_path / "nowhere" / "audit")


def test_without_a_file_audit_lines_are_in_the_log_however_quiet_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`log_level = "error"` must not be the end of the audit."""
    logging.getLogger().setLevel(logging.ERROR)
    try:
        AuditLog(None, clock=FakeClock()).note("voice_uploaded", voice="v-1")
    finally:
        logging.getLogger().setLevel(logging.WARNING)
    (record,) = caplog.records
    assert json.loads(record.getMessage())["voice"] == "v-1"
