"""An address, or a socket that systemd opened, in; a socket to listen on out."""

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from daemon.config import ConfigError

_SEND_BUFFER_BYTES = 16_384
"""What the kernel may hold for one client. Its own default would hide minutes of Opus."""
_FIRST_INHERITED = 3
AGENT = "agent"
"""FileDescriptorName= of the socket for HAProxy's agent check."""


def listen(host: str, port: int) -> socket.socket:
    """Accepted sockets inherit the small send buffer."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return prepare(listener)


def prepare(listener: socket.socket) -> socket.socket:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    listener.setblocking(False)
    return listener


def inherited(environ: Mapping[str, str]) -> dict[str, socket.socket]:
    """The sockets that systemd passed to this process, by name (sd_listen_fds(3)). One without a
    name of its own has the name of its unit."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    num_sockets = int(environ.get("LISTEN_FDS", "0"))
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found = {}
    for index in range(num_sockets):
        name = names[index] if index < len(names) else ""
        descriptor = _FIRST_INHERITED + index
        os.set_inheritable(descriptor, False)
        found[name or str(index)] = socket.socket(fileno=descriptor)
    return found


def choose(passed: Mapping[str, socket.socket], host: str, port: int) -> socket.socket:
    """The socket for clients: systemd's, if it passed one."""
    for_clients = [plug for name, plug in passed.items() if name != AGENT]
    if not for_clients:
        return listen(host, port)
    if len(for_clients) > 1:
        raise ConfigError(f"systemd passed {len(for_clients)} sockets for clients; one is enough")
    return prepare(for_clients[0])


def is_public(listener: socket.socket) -> bool:
    """Whether other machines could connect."""
    if listener.family == socket.AF_UNIX:
        return False
    return not ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def url_of(listener: socket.socket, *, is_secure: bool) -> str:
    scheme = "wss" if is_secure else "ws"
    if listener.family == socket.AF_UNIX:
        return f"{scheme}+unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


@contextlib.contextmanager
def port_file(path: Path | None, port: int) -> Iterator[None]:
    """Whoever reads the file while it exists sees a whole number."""
    if path is None:
        yield
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(f"{port}\n")
    draft.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
