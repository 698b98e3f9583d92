"""What holds for every test: asyncio's debug mode, and no error that only a log would show."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _watchful_asyncio(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Lost tasks and exceptions that nobody fetched reach only the log of asyncio."""
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    yield
    for phase in ("setup", "call"):
        lost = [
            record.getMessage()
            for record in caplog.get_records(phase)
            if record.name == "asyncio" and record.levelno >= logging.ERROR
        ]
        assert not lost, f"asyncio reported: {lost}"
