"""A TCP connection in, one line for HAProxy's agent check out: how free this daemon is, or `drain`.

`agent-check` reads the line: `ready up 75%` sets the server's weight, `drain` keeps what runs and
sends nobody new.
"""

import asyncio
import socket
from collections.abc import Callable


async def serve_agent(listener: socket.socket, line: Callable[[], str]) -> asyncio.Server:
    """HAProxy says nothing: the answer is all there is."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(f"{line()}\n".encode())
            await writer.drain()
        except ConnectionError:
            return  # whoever asked is gone
        finally:
            writer.close()

    return await asyncio.start_server(answer, sock=listener)


def agent_line(*, num_free: int, num_places: int, is_draining: bool) -> str:
    """A full daemon stays `up` with the least weight: it still answers with 503, which HAProxy
    sends elsewhere, and its running sessions must not be dropped."""
    if is_draining:
        return "drain"
    return f"ready up {max(1, round(100 * num_free / num_places))}%"
