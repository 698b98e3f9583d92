"""A minute of clients of every bad habit; afterwards the daemon must be as it was before."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from chatterboxd_client.context import ClientContext, DaemonError
from chatterboxd_client.session import SpeechClient
from chatterboxd_client.spawn import own_daemon

WARM_UP_S = 15.0
"""The first storm sizes the allocator's pools; only what grows after it could be a leak."""
DURATIONS_S = (60.0, 1_800.0)
NUM_READINGS = 120
PLOT = Path(__file__).resolve().parent.parent.parent / "build" / "soak.svg"
SETTLE_S = 3.0
"""Closing handshakes have an end by then."""
NUM_CLIENTS = 24
MAX_GROWTH_KB = 30_000
TEXT = "Well, you see the 3.5 lights (of 1999) went out, didn't they? Yes! no... 好 😀 \n\n- so"
WORDS = TEXT.split(" ")

Habit = Callable[[ClientContext, random.Random], Awaitable[bool]]
"""Returns whether the connection is still to be used."""


def some_text(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randrange(40)))


async def listen_to_the_end(context: ClientContext, chance: random.Random) -> bool:
    for word in some_text(chance).split(" "):
        await context.send_text(word + " ")
        if chance.random() < 0.1:
            await context.flush()
    await context.end()
    async for _event in context.events():
        pass
    return True


async def cancel_somewhere(context: ClientContext, chance: random.Random) -> bool:
    text = some_text(chance)
    await context.send_text(text)
    await asyncio.sleep(chance.random() * 0.2)
    if chance.random() < 0.5:
        await context.end()
    cancelled = await context.cancel(played_ms=chance.choice([None, 0, 50, 1e6]))
    assert cancelled.text_spoken + cancelled.text_remaining == text
    return True


async def vanish(context: ClientContext, chance: random.Random) -> bool:
    await context.send_text(some_text(chance) * 3)
    await asyncio.sleep(chance.random() * 0.1)
    context.abort_connection()
    return False


async def leave_it_open(context: ClientContext, chance: random.Random) -> bool:
    await context.send_text(some_text(chance))
    return chance.random() < 0.5


HABITS: tuple[Habit, ...] = (listen_to_the_end, cancel_somewhere, vanish, leave_it_open)


async def misbehave(url: str, *, seed: int, until: float) -> int:
    """One client after the other; returns how many contexts were opened."""
    chance = random.Random(seed)
    num_opened = 0
    while asyncio.get_running_loop().time() < until:
        async with await SpeechClient.connect(url) as client:
            for _round in range(8):
                context = await client.open(
                    format=chance.choice(client.begin.formats),
                    max_lead_ms=chance.choice([200, 60_000]),
                )
                num_opened += 1
                try:
                    if not await chance.choice(HABITS)(context, chance):
                        break
                except DaemonError as error:
                    if error.failed.code != "busy":
                        raise
    return num_opened


def footprint(pid: int) -> tuple[int, int, int]:
    """Resident kB, open files, threads."""
    status = Path(f"/proc/{pid}/status").read_text()
    values = dict(line.split(":", 1) for line in status.splitlines())
    num_files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return int(values["VmRSS"].split()[0]), num_files, int(values["Threads"])


async def one_good_context(url: str) -> int:
    async with await SpeechClient.connect(url) as client:
        context = await client.open(max_lead_ms=60_000)
        await context.send_text("All is well again.")
        await context.end()
        return sum([len(audio.samples) async for audio in context.audio()])


async def watch_memory(pid: int, *, until: float) -> list[int]:
    """Resident kB, at even intervals."""
    loop = asyncio.get_running_loop()
    interval_s = (until - loop.time()) / NUM_READINGS
    readings = []
    while loop.time() < until:
        readings.append(footprint(pid)[0])
        await asyncio.sleep(interval_s)
    return readings


def plot(readings_kb: list[int], *, duration_s: float) -> None:
    """A line in an SVG: growth that goes on looks different from growth that ends."""
    low, high = min(readings_kb), max(readings_kb)
    span = max(1, high - low)
    points = " ".join(
        f"{40 + 720 * index / max(1, len(readings_kb) - 1):.1f},{20 + 200 * (high - kb) / span:.1f}"
        for index, kb in enumerate(readings_kb)
    )
    caption = f"{duration_s / 60:.0f} minutes: {readings_kb[0]} to {readings_kb[-1]} kB resident"
    PLOT.parent.mkdir(exist_ok=True)
    PLOT.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 260">'
        '<rect width="800" height="260" fill="white"/>'
        f'<polyline points="{points}" fill="none" stroke="black"/>'
        f'<text x="40" y="250" font-size="14">{caption}; from {low} to {high}</text></svg>\n'
    )


@pytest.mark.slow
@pytest.mark.parametrize("duration_s", DURATIONS_S)
def test_nothing_leaks_under_a_storm_of_clients(
    duration_s: float, record_property: Callable[[str, object], None]
) -> None:
    """A slot, file, task or encoder that one vanished client keeps would end a daemon in days."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        arguments = ["--engine", "sine", "--sine-cost-ms", "2", "--log-level", "warning"]
        arguments += ["--max-connects-per-min", "1000000"]
        async with own_daemon(arguments) as daemon:
            samples = await one_good_context(daemon.url)
            warm_at = loop.time() + WARM_UP_S
            await asyncio.gather(
                *(misbehave(daemon.url, seed=-seed, until=warm_at) for seed in range(NUM_CLIENTS))
            )
            await asyncio.sleep(SETTLE_S)
            memory_kb, num_files, num_threads = footprint(daemon.pid)
            until = loop.time() + duration_s
            watching = asyncio.create_task(watch_memory(daemon.pid, until=until))
            opened = await asyncio.gather(
                *(misbehave(daemon.url, seed=seed, until=until) for seed in range(NUM_CLIENTS))
            )
            assert sum(opened) > 200
            assert await one_good_context(daemon.url) == samples
            await asyncio.sleep(SETTLE_S)
            later_kb, later_files, later_threads = footprint(daemon.pid)
            plot(await watching, duration_s=duration_s)
            record_property("memory_growth_kb", later_kb - memory_kb)
            assert (later_files, later_threads) == (num_files, num_threads)
            assert later_kb < memory_kb + MAX_GROWTH_KB
            assert "Traceback" not in daemon.said()

    asyncio.run(run())
