"""A port in; what a client gets that takes little at a time, as one does that listens live."""

import asyncio
import socket

_PIECE_BYTES = 1000
_BEAT_S = 0.01


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def narrow_plug(port: int) -> socket.socket:
    """Connected. What it does not read stays with whoever sent it."""
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    plug.connect(("127.0.0.1", port))
    plug.setblocking(False)
    return plug


async def read_slowly(plug: socket.socket, *, until: bytes) -> bytes:
    """Up to these bytes, or to the end of the connection."""
    loop = asyncio.get_running_loop()
    received = b""
    while until not in received:
        await asyncio.sleep(_BEAT_S)
        try:
            part = await loop.sock_recv(plug, _PIECE_BYTES)
        except ConnectionError:
            break
        if not part:
            break
        received += part
    return received
