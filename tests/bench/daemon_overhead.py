"""What the daemon itself costs, with an engine that costs next to nothing. One JSON line last.

Theory. A second of Opus speech is 50 packets. For each the daemon encodes (about 0.05 ms, in the
pool), builds a header, paces and writes one WebSocket message (about 0.05 ms of Python and one
system call); for each step of 200 ms it wakes the event loop once, and the sine engine computes
4800 sines. So 5 to 10 ms of processor time for a second of audio are expected, which is 100 to 200
streams for a core. First audio is the time from sending the first complete phrase to the arrival of
the first packet: one command to the engine thread, one step, one packet encoded alone, one message;
below 5 ms on an idle machine, and a few steps of the other streams more under load.

Each level starts its streams evenly over one second, each on a connection of its own, with a lead
of 500 ms, so that the daemon paces all of them through their 6 s. A stream is late when a packet
arrives after the audio before it has run out by more than 60 ms. A level is carried if no stream is
late and first audio stays below 500 ms. This program decodes nothing, but reads every message, and
costs about as much as the daemon: both processor times are reported, and with few cores the limit
found here is that of the two together.

    python tests/bench/daemon_overhead.py [--most 256]
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from websockets.asyncio.client import connect

from chatterbox.api import SAMPLE_RATE
from chatterboxd_client.spawn import own_daemon
from daemon.wire.protocol import AudioMessage

LEVELS = (1, 16, 64)
TEXT = "Hello there. All work and no play makes Jack a dull boy, and so it goes on for some time."
LEAD_MS = 500
SPREAD_S = 1.0
LATEST_GAP_S = 0.06
LATEST_FIRST_AUDIO_MS = 500.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Stream:
    """What one listener noticed."""

    audio_format: str
    first_audio_ms: float = 0.0
    audio_s: float = 0.0
    worst_gap_s: float = 0.0
    opened_at_s: float = field(default=0.0)

    async def listen(self, url: str, *, delay_s: float) -> None:
        async with connect(url, compression=None) as connection:
            await connection.recv()
            await asyncio.sleep(delay_s)
            opening = {"type": "open", "context": "a", "max_lead_ms": LEAD_MS}
            await connection.send(json.dumps(opening | {"format": self.audio_format}))
            self.opened_at_s = time.monotonic()
            await connection.send(json.dumps({"type": "text", "context": "a", "text": TEXT}))
            await connection.send('{"type":"end","context":"a"}')
            dry_at_s = 0.0
            while isinstance(message := await connection.recv(), bytes) or "_end" not in message:
                if isinstance(message, bytes):
                    dry_at_s = self._note_packet(message, dry_at_s)

    def _note_packet(self, raw: bytes, dry_at_s: float) -> float:
        """Returns when the listener will run dry."""
        now_s = time.monotonic()
        if not self.audio_s:
            self.first_audio_ms = 1000 * (now_s - self.opened_at_s)
            dry_at_s = now_s
        self.worst_gap_s = max(self.worst_gap_s, now_s - dry_at_s)
        packet_s = AudioMessage.from_bytes(raw).num_samples / SAMPLE_RATE
        self.audio_s += packet_s
        return max(dry_at_s, now_s) + packet_s


def processor_s(pid: int) -> float:
    """Processor time of all threads of a process, user and system."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / _TICKS_PER_S


async def run_level(num_streams: int, *, audio_format: str = "opus") -> dict[str, float | bool]:
    arguments = ["--engine", "sine", "--slots", str(num_streams), "--max-wait-ms", "60000"]
    async with own_daemon([*arguments, "--max-sessions", str(num_streams + 1)]) as daemon:
        await Stream(audio_format).listen(daemon.url, delay_s=0.0)  # not counted
        streams = [Stream(audio_format) for _ in range(num_streams)]
        daemon_before_s, own_before_s = processor_s(daemon.pid), time.process_time()
        await asyncio.gather(
            *(
                stream.listen(daemon.url, delay_s=SPREAD_S * index / num_streams)
                for index, stream in enumerate(streams)
            )
        )
        daemon_s = processor_s(daemon.pid) - daemon_before_s
        own_s = time.process_time() - own_before_s
    audio_s = sum(stream.audio_s for stream in streams)
    first_ms = sorted(stream.first_audio_ms for stream in streams)
    gap_ms = 1000 * max(stream.worst_gap_s for stream in streams)
    p95_ms = first_ms[min(len(first_ms) - 1, round(0.95 * len(first_ms)))]
    level = {
        "first_audio_ms_p50": round(statistics.median(first_ms), 2),
        "first_audio_ms_p95": round(p95_ms, 2),
        "worst_gap_ms": round(gap_ms, 1),
        "daemon_cpu_ms_per_audio_s": round(1000 * daemon_s / audio_s, 2),
        "client_cpu_ms_per_audio_s": round(1000 * own_s / audio_s, 2),
        "is_carried": gap_ms <= 1000 * LATEST_GAP_S and first_ms[-1] <= LATEST_FIRST_AUDIO_MS,
    }
    sys.stderr.write(f"{num_streams} streams, {audio_format}: {level}\n")
    return level


async def run(*, most: int) -> dict[str, object]:
    levels: dict[str, object] = {}
    carried = 0
    number = 0
    for number in LEVELS:
        level = await run_level(number)
        levels[str(number)] = level
        carried = number if level["is_carried"] else carried
    while number < most and carried == number:
        number = min(most, number * 3 // 2)
        level = await run_level(number)
        carried = number if level["is_carried"] else carried
    return {
        "bench": "daemon_overhead",
        "levels": levels,
        "pcm_16": await run_level(16, audio_format="pcm_s16le"),
        "streams_in_real_time": carried,
        "limit_tried": number,
        "cores": len(os.sched_getaffinity(0)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="The daemon's own cost, with the sine engine.")
    parser.add_argument("--most", type=int, default=256, help="stop at this number of streams")
    result = uvloop.run(run(most=parser.parse_args().most))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
