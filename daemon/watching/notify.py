"""News of the daemon's life in, systemd's notify datagrams out; nothing without systemd.

The protocol, sd_notify(3), is one datagram of NAME=value lines to the socket that NOTIFY_SOCKET
names: too little to need a library.
"""

import logging
import os
import socket
import time
from collections.abc import Mapping

_log = logging.getLogger(__name__)

_MICRO = 1_000_000


class Notifier:
    """Where systemd listens, if it does."""

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._status: str | None = None
        self._has_failed = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Notifier":
        return cls(environ.get("NOTIFY_SOCKET"))

    @property
    def is_heard(self) -> bool:
        return self._address is not None

    def ready(self, status: str) -> None:
        self._status = status
        self._send("READY=1", f"STATUS={status}", f"MAINPID={os.getpid()}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`; sent only when it has changed."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def ask_for(self, longer_s: float) -> None:
        """The start or the end, so far unfinished, may take so much longer from now on."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(longer_s * _MICRO)}")

    def reloading(self) -> None:
        """To be followed by `ready`."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    def stopping(self, status: str) -> None:
        self._status = status
        self._send("STOPPING=1", f"STATUS={status}")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        address = self._address
        if address.startswith("@"):  # the abstract namespace
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as plug:
                plug.setblocking(False)
                plug.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            if not self._has_failed:  # a watchdog would repeat the line for ever
                _log.warning("systemd does not hear the daemon at %s: %s", self._address, error)
            self._has_failed = True


def watchdog_s(environ: Mapping[str, str]) -> float | None:
    """How long systemd waits for a sign of life, if it watches this process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    interval_us = int(environ.get("WATCHDOG_USEC", "0"))
    return interval_us / _MICRO if interval_us > 0 else None
