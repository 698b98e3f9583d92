"""How soon a listener hears something, and how fast one core speaks. One JSON line last.

Theory. A real daemon runs on one core (`taskset`) with one model thread; this program keeps to the
other cores, if there are any. Two passes over the same sentences, one context after the other, the
longest lead asked for, so that nothing waits for playback:

1. Text written as a language model writes it (pieces of 4 characters, 62 a second). First audio is
   the time from the first text byte sent to the arrival of the packet with the first audible
   sample (10 ms above -50 dBFS). It holds what a listener feels: writing the first phrase, waiting
   for its end, T3 for 11 speech tokens, one flow window, one vocoder window, Opus, the socket.
2. All text at once. First audio is then the machine's part alone. The real-time factor is the time
   from the first text byte to the last audio, summed over the sentences, divided by the summed
   length of their audio. 1 is the most that one listener can bear; 0.2 leaves room for four more.
   Beside it stands the processor time that the daemon used for a second of audio: the same, unless
   the core was shared with other programs.

The first sentence is spoken once beforehand and not counted.

    python tests/bench/first_audio.py [--engine sine] [--rounds 3] [--texts FILE] [daemon options]
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

import numpy as np

from chatterboxd_client.listening import Timings
from chatterboxd_client.session import SpeechClient
from chatterboxd_client.spawn import own_daemon
from chatterboxd_client.speak import write_like_a_model

SENTENCES = Path(__file__).parent / "sentences.txt"


async def spoken(client: SpeechClient, text: str, *, is_streamed: bool) -> Timings:
    context = await client.open(max_lead_ms=client.begin.limits.lead_ms_max)
    if is_streamed:
        writing = asyncio.create_task(write_like_a_model(context, text))
    else:
        await context.send_text(text)
        writing = asyncio.create_task(context.end())
    async for _audio in context.audio():
        pass
    await writing
    return context.timings


def share_the_cores() -> list[str]:
    """Take all cores but one for this program; the command that gives the daemon the last one."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:-1] or cores)
    return ["taskset", "--cpu-list", str(cores[-1])]


def processor_s(pid: int) -> float:
    """What a process has used so far, all threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentiles(name: str, values_ms: list[float]) -> dict[str, float]:
    return {
        f"{name}_p{share}": round(float(np.percentile(values_ms, share)), 1) for share in (50, 95)
    }


async def run(
    sentences: list[str], *, num_rounds: int, daemon_arguments: list[str]
) -> dict[str, object]:
    prefix = share_the_cores()
    async with (
        own_daemon(["--threads", "1", *daemon_arguments], command_prefix=prefix) as daemon,
        await SpeechClient.connect(daemon.url) as client,
    ):
        await spoken(client, sentences[0], is_streamed=False)
        streamed_ms: list[float] = []
        at_once_ms: list[float] = []
        factors: list[float] = []
        processor: list[float] = []
        for _round in range(num_rounds):
            streamed = [await spoken(client, text, is_streamed=True) for text in sentences]
            streamed_ms += [item.first_audio_ms or np.inf for item in streamed]
            used_before_s = processor_s(daemon.pid)
            at_once = [await spoken(client, text, is_streamed=False) for text in sentences]
            at_once_ms += [item.first_audio_ms or np.inf for item in at_once]
            audio_s = sum(item.audio_s for item in at_once)
            busy_s = sum((item.real_time_factor or np.inf) * item.audio_s for item in at_once)
            factors.append(busy_s / audio_s)
            processor.append((processor_s(daemon.pid) - used_before_s) / audio_s)
            sys.stderr.write(f"round {_round + 1}: {audio_s:.1f} s of audio in {busy_s:.1f} s\n")
        return {
            "bench": "first_audio",
            "model": client.begin.model,
            "sentences": len(sentences),
            "rounds": num_rounds,
            **percentiles("first_audio_ms", streamed_ms),
            **percentiles("first_audio_at_once_ms", at_once_ms),
            "real_time_factor_one_core": round(float(np.median(factors)), 4),
            "processor_s_per_audio_s": round(float(np.median(processor)), 4),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description="First audio and real-time factor on one core.")
    parser.add_argument("--rounds", type=int, default=3, help="passes over the sentences")
    parser.add_argument("--texts", type=Path, default=SENTENCES, help="what to say, line by line")
    arguments, daemon_arguments = parser.parse_known_args()
    sentences = arguments.texts.read_text(encoding="utf-8").splitlines()
    result = asyncio.run(
        run(sentences, num_rounds=arguments.rounds, daemon_arguments=daemon_arguments)
    )
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
