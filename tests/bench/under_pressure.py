"""What bad company costs: slow readers beside good listeners, and being refused. JSON line last.

Theory. A slow reader is paused: its packets wait in an outbox of bounded size, its slot finishes
the segment that it has begun and begins no other, and the event loop does nothing for it. So
listeners beside it should hear their first audio as soon as without it: the ratio of the medians
stays within 1.2, and its distance from 1 is noise of the machine. A refusal is one accept, one
parsed request and one write: a few milliseconds, most of it the client's own handshake.

Rounds with and without slow readers alternate in one run against one daemon, so that whatever else
the machine does meets both; medians are compared.

    python tests/bench/under_pressure.py [--slow 20] [--rounds 8]
"""

import argparse
import asyncio
import contextlib
import json
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator

import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from chatterboxd_client.spawn import own_daemon

TEXT = "Hello there. All work and no play makes Jack a dull boy."
LONG = TEXT * 40
NUM_LISTENERS = 4
NUM_REFUSED = 100


async def first_audio_ms(url: str) -> float:
    async with connect(url, compression=None, proxy=None) as connection:
        await connection.recv()
        started_s = time.perf_counter()
        await connection.send('{"type":"open","context":"a"}')
        await connection.send(json.dumps({"type": "text", "context": "a", "text": TEXT}))
        await connection.send('{"type":"end","context":"a"}')
        while not isinstance(await connection.recv(), bytes):
            pass
        return 1000 * (time.perf_counter() - started_s)


@contextlib.asynccontextmanager
async def slow_readers(url: str, num: int) -> AsyncIterator[None]:
    """They ask for a lot, as far ahead as allowed, and never read."""
    host, _, port = url.rpartition("/")[2].rpartition(":")
    connections: list[ClientConnection] = []
    for _ in range(num):
        plug = socket.socket()
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plug.connect((host, int(port)))
        plug.setblocking(False)
        connection = await connect(url, sock=plug, compression=None, max_queue=1, close_timeout=0.1)
        opening = {"type": "open", "context": "a", "format": "pcm_s16le", "max_lead_ms": 120_000}
        await connection.send(json.dumps(opening))
        await connection.send(json.dumps({"type": "text", "context": "a", "text": LONG}))
        connection.transport.pause_reading()
        connections.append(connection)
    await wait_until_paused(url)
    try:
        yield
    finally:
        for connection in connections:
            connection.transport.abort()
        await asyncio.sleep(0.5)


async def refusal_ms(url: str) -> float:
    started_s = time.perf_counter()
    with contextlib.suppress(InvalidStatus):
        async with connect(url, proxy=None):
            raise AssertionError("it was let in")
    return 1000 * (time.perf_counter() - started_s)


async def wait_until_paused(url: str) -> None:
    """Until no slot speaks: what was made ahead for them is in their outboxes."""
    host, _, port = url.rpartition("/")[2].rpartition(":")
    page = ""
    while "\nchatterboxd_slots_in_use 0.0" not in page:
        await asyncio.sleep(0.2)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        page = (await reader.read()).decode()
        writer.close()


async def listen_round(url: str) -> list[float]:
    return list(await asyncio.gather(*(first_audio_ms(url) for _ in range(NUM_LISTENERS))))


async def run(*, num_slow: int, num_rounds: int) -> dict[str, object]:
    places = num_slow + NUM_LISTENERS
    arguments = ["--engine", "sine", "--slots", "8", "--sine-cost-ms", "5", "--log-level", "error"]
    async with own_daemon([*arguments, "--max-sessions", str(places)]) as daemon:
        await listen_round(daemon.url)  # not counted
        alone: list[float] = []
        beside: list[float] = []
        refusals: list[float] = []
        for _ in range(num_rounds):
            alone += await listen_round(daemon.url)
            async with slow_readers(daemon.url, num_slow):
                beside += await listen_round(daemon.url)
        async with slow_readers(daemon.url, places):
            refusals = [await refusal_ms(daemon.url) for _ in range(NUM_REFUSED)]
    median_alone, median_beside = statistics.median(alone), statistics.median(beside)
    return {
        "bench": "under_pressure",
        "slow_readers": num_slow,
        "first_audio_ms_alone": round(median_alone, 2),
        "first_audio_ms_beside": round(median_beside, 2),
        "ratio": round(median_beside / median_alone, 3),
        "is_unharmed": median_beside <= 1.2 * median_alone,
        "refusal_ms_p50": round(statistics.median(refusals), 2),
        "refusal_ms_p95": round(sorted(refusals)[round(0.95 * NUM_REFUSED)], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Slow readers beside good ones, and refusals.")
    parser.add_argument("--slow", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    result = uvloop.run(run(num_slow=arguments.slow, num_rounds=arguments.rounds))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
