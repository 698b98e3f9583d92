"""How many people this machine can speak to at the same time. One JSON line last.

Theory. A daemon with as many slots as listeners; each listener has a connection of its own and one
context of about 9 s of speech, sent at once, all starting together: the worst case, because first
windows coincide, and nobody is so far ahead that the daemon would let him wait. A listener's player
starts with its first packet and holds nothing back. It runs dry whenever a packet arrives later
than the audio before it has lasted; the longest such silence is its gap. A number of listeners is
carried if no gap is longer than 60 ms (what any player's buffer hides) and everybody's first audio
comes within 3 s. The number grows until it is carried no more; each number is tried twice, and once
is enough. The daemon and this program share the machine.

    python tests/bench/streams.py [--most 64] [--threads N] [daemon options]
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

from chatterboxd_client.listening import Timings
from chatterboxd_client.session import SpeechClient
from chatterboxd_client.spawn import own_daemon

TEXT = " ".join((Path(__file__).parent / "sentences.txt").read_text().splitlines()[1:5])
LONGEST_GAP_MS = 60.0
LATEST_FIRST_AUDIO_MS = 3_000.0
TRIES = 2


async def listen(url: str, *, seed: int) -> Timings:
    async with await SpeechClient.connect(url) as client:
        context = await client.open(seed=seed)
        await context.send_text(TEXT)
        await context.end()
        async for _audio in context.audio():
            pass
        return context.timings


async def is_carried(num_listeners: int, daemon_arguments: list[str]) -> bool:
    arguments = ["--slots", str(num_listeners), "--max-sessions", str(num_listeners + 1)]
    arguments += ["--max-wait-ms", "60000", *daemon_arguments]
    async with own_daemon(arguments) as daemon:
        await listen(daemon.url, seed=0)
        for _try in range(TRIES):
            heard = await asyncio.gather(
                *(listen(daemon.url, seed=index) for index in range(num_listeners))
            )
            gap_ms = 1000 * max(item.worst_gap_s for item in heard)
            first_audio_ms = max(item.first_audio_ms or float("inf") for item in heard)
            sys.stderr.write(
                f"{num_listeners} listeners: worst gap {gap_ms:.0f} ms,"
                f" latest first audio {first_audio_ms:.0f} ms\n"
            )
            if gap_ms <= LONGEST_GAP_MS and first_audio_ms <= LATEST_FIRST_AUDIO_MS:
                return True
    return False


def numbers_up_to(most: int) -> list[int]:
    """1, 2, 3, 4, then steps of about a quarter."""
    numbers = [1]
    while numbers[-1] < most:
        numbers.append(min(most, numbers[-1] + max(1, numbers[-1] // 4)))
    return numbers


async def run(*, most: int, daemon_arguments: list[str]) -> dict[str, object]:
    carried = 0
    for number in numbers_up_to(most):
        if not await is_carried(number, daemon_arguments):
            break
        carried = number
    return {
        "bench": "streams",
        "streams_in_real_time": carried,
        "limit_tried": most,
        "cores": len(os.sched_getaffinity(0)),
        "daemon_arguments": daemon_arguments,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Listeners that this machine carries at once.")
    parser.add_argument("--most", type=int, default=64, help="stop at this number of listeners")
    arguments, daemon_arguments = parser.parse_known_args()
    result = asyncio.run(run(most=arguments.most, daemon_arguments=daemon_arguments))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
