"""Clients that vanish at every point of a session, thousands of times: afterwards nothing is left.

The daemon is a process of its own, and its own metrics say what it holds.
"""

import asyncio
import contextlib
import os
import random
import socket
import struct
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.e2e.processes import FAST, Process, daemon_process
from tests.e2e.test_security import get
from tests.e2e.wire import Wire

NUM_AT_ONCE = 24
MAX_GROWTH_BYTES = 30_000_000
LONG = "All work and no play makes Jack a dull boy, and so it goes on and on. " * 10
HELD = ("sessions", "contexts", "slots_in_use", "waiting_contexts", "tasks")


def reset(plug: socket.socket) -> None:
    """Close with RST: what a crashed host looks like."""
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    plug.close()


async def half_a_handshake(port: int, chance: random.Random) -> None:
    """A connection, some bytes of a request, and nothing, or a reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(request[: chance.randrange(len(request))])
    await asyncio.sleep(chance.random() * 0.02)
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await reader.read()


async def half_a_frame(connection: ClientConnection, chance: random.Random) -> None:
    """A frame's header that promises more than ever comes."""
    connection.transport.write(bytes([0x81, 0x80 | 100, 1, 2, 3, 4]) + b"x" * chance.randrange(90))


async def cancel_storm(connection: ClientConnection, chance: random.Random) -> None:
    for number in range(10):
        name = f"c{number}"
        await connection.send(f'{{"type":"open","context":"{name}"}}')
        await connection.send(f'{{"type":"text","context":"{name}","text":"{LONG}"}}')
        await connection.send(f'{{"type":"cancel","context":"{name}"}}')
        await connection.send(f'{{"type":"cancel","context":"{name}"}}')


async def pings(connection: ClientConnection, chance: random.Random) -> None:
    for _ in range(20):
        await connection.ping()


async def speech(connection: ClientConnection, chance: random.Random) -> None:
    await connection.send('{"type":"open","context":"a","format":"pcm_s16le"}')
    if chance.random() < 0.8:
        await connection.send(f'{{"type":"text","context":"a","text":"{LONG}"}}')
    with contextlib.suppress(TimeoutError):  # without a text there is nothing to hear
        async with asyncio.timeout(0.5):
            for _ in range(chance.randrange(10)):
                await connection.recv()


HABITS = (half_a_frame, cancel_storm, pings, speech, speech)


async def vanish_somewhere(daemon: Process, chance: random.Random) -> None:
    if chance.random() < 0.1:
        await half_a_handshake(daemon.port, chance)
        return
    try:
        connection = await connect(
            daemon.url,
            compression=None,
            proxy=None,
            ping_interval=None,
            close_timeout=1,
            open_timeout=30,
        )
    except InvalidStatus as error:
        assert error.response.status_code == 503  # noqa: PT017 - the storm may find it full
        return
    with contextlib.suppress(ConnectionClosed):
        await chance.choice(HABITS)(connection, chance)
    if chance.random() < 0.2:
        await connection.close()
        return
    plug = connection.transport.get_extra_info("socket")
    if chance.random() < 0.5:
        reset(socket.socket(fileno=os.dup(plug.fileno())))
    connection.transport.abort()


async def held(port: int) -> dict[str, float]:
    page = (await get(port, "/metrics"))[1]
    values = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    found = {name: float(values[f"chatterboxd_{name}"]) for name in HELD}
    return found | {"files": float(values["process_open_fds"])}


async def resident_bytes(port: int) -> float:
    page = (await get(port, "/metrics"))[1]
    line = next(x for x in page.splitlines() if x.startswith("process_resident_memory_bytes"))
    return float(line.split()[1])


async def storm(daemon: Process, *, num_cycles: int, seed: int) -> None:
    numbers = iter(range(num_cycles))

    async def one_after_the_other() -> None:
        for number in numbers:
            await vanish_somewhere(daemon, random.Random(seed + number))

    await asyncio.gather(*(one_after_the_other() for _ in range(NUM_AT_ONCE)))


async def weather(daemon: Process, *, num_cycles: int) -> None:
    await storm(daemon, num_cycles=100, seed=-1_000)  # sizes the allocator's pools
    await settle(daemon.port, before=None)
    before, memory = await held(daemon.port), await resident_bytes(daemon.port)
    await storm(daemon, num_cycles=num_cycles, seed=0)
    await settle(daemon.port, before=before)
    assert await resident_bytes(daemon.port) < memory + MAX_GROWTH_BYTES
    async with connect(daemon.url, compression=None, proxy=None) as connection:
        assert (await Wire(connection).speak("a", "All is well.")).end.samples


async def settle(port: int, *, before: dict[str, float] | None) -> None:
    """Wait until it holds what it held before; closing handshakes take a second or two."""
    last: dict[str, float] = {}
    for _ in range(80):
        now = await held(port)
        if now == before or (before is None and now == last and not now["sessions"]):
            return
        last = now
        await asyncio.sleep(0.25)
    raise AssertionError(f"before: {before}, after: {last}")


async def bounded(work: Coroutine[Any, Any, None], *, longest_s: float) -> None:
    async with asyncio.timeout(longest_s):
        await work


@pytest.mark.parametrize("num_cycles", [150, pytest.param(10_000, marks=pytest.mark.slow)])
def test_nothing_is_left_of_clients_that_vanish(tmp_path: Path, num_cycles: int) -> None:
    """A slot, task, file or place kept for one client in a thousand ends a daemon in a week."""
    arguments = ("--slots", "8", "--max-connects-per-min", "1000000", "--log-level", "warning")
    with daemon_process(tmp_path, *arguments, whole_command=FAST) as daemon:
        uvloop.run(
            bounded(weather(daemon, num_cycles=num_cycles), longest_s=120 + num_cycles / 5),
            debug=False,
        )
        daemon.process.terminate()
        status, errors = daemon.finish()
        assert status == 0
        assert "Traceback" not in errors
