"""How many listeners an engine carries, how soon each hears something, and whether the event loop
keeps time meanwhile. One JSON line last.

Theory. A listener speaks one segment, listens to it in real time and begins the next. First audio
of one listener is a prefill, 11 draws, one window of the flow and one of the vocoder; of n who
begin together the prefills queue up, the draws do not. An engine carries n listeners if it makes n
seconds of speech a second; a listener is dry when a chunk comes later than the audio before it has
lasted. Two kinds of load: everybody begins at once and goes on (closed loop), and beginnings at
random moments at 0.7 of the rate that the closed loop's number of listeners would need (Poisson).
The daemon's own engine thread and scheduler drive the engine; sockets and Opus are left out.
Meanwhile a task of the event loop sleeps 5 ms over and over: how much longer it sleeps is the
loop's latency.

The usual way of streaming this model stands beside it, in the same run: one listener, no graphs, 25
tokens a time, and for each the flow and the vocoder run again over the voice prompt, 50 tokens of
context and the new ones.

    python tests/bench/gpu_first_audio.py [--shape turbo] [--streams 1,16,256] [--small]
    python tests/bench/gpu_first_audio.py --shape sine --streams 200
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from chatterbox.api import SAMPLE_RATE, PcmChunk, Segment, SegmentFailed, SpeechEngine
from chatterbox.config import MEL_FRAMES_PER_TOKEN
from chatterbox.engine import ChatterboxEngine
from chatterbox.s3gen.flow_step import FlowStep
from chatterbox.s3gen.vocoder_step import VocoderStep
from chatterbox.s3gen.windows import FrameWindow, TokenWindow
from chatterbox.sine import SineEngine
from daemon.engine.commands import SetOrigin, Speak
from daemon.engine.stepper import News
from daemon.engine.thread import EngineThread
from tests.gpu.measure import device_facts, forget, percentiles, synchronise
from tests.gpu.shapes import SHAPES, best_device, shaped_engine
from tests.gpu.steps import TEXT, occupy, vacate

LEAD_S = 2.0
TICK_S = 0.005
LONGEST_GAP_S = 0.06
POISSON_SHARE = 0.7


@dataclass(slots=True)
class Load:
    """What all listeners of a level noticed."""

    first_audio_ms: list[float] = field(default_factory=list)
    worst_gap_s: float = 0.0
    num_dry: int = 0
    audio_s: float = 0.0
    num_failed: int = 0
    late_ms: list[float] = field(default_factory=list)


async def listen(thread: EngineThread, load: Load, *, voice: str, seed: int, text: str) -> None:
    """One segment, heard to its end in real time."""
    news: asyncio.Queue[News] = asyncio.Queue()
    utterance = thread.open(max_lead_s=LEAD_S, listener=news.put_nowait)
    segment = Segment(id=thread.next_segment_id(), text=text, voice=voice, seed=seed)
    began_s = time.monotonic()
    thread.post(Speak(utterance, segment))
    dry_at_s, worst_s, is_over = 0.0, 0.0, False
    while not is_over:
        event = await news.get()
        is_over = isinstance(event, SegmentFailed)
        load.num_failed += is_over
        if isinstance(event, PcmChunk):
            is_over = event.is_last
            if not event.samples.size:
                continue
            now_s = time.monotonic()
            if not dry_at_s:
                load.first_audio_ms.append(1000 * (now_s - began_s))
                thread.post(SetOrigin(utterance, now_s))
                dry_at_s = now_s
            worst_s = max(worst_s, now_s - dry_at_s)
            length_s = event.samples.size / SAMPLE_RATE
            load.audio_s += length_s
            dry_at_s = max(dry_at_s, now_s) + length_s
    thread.close(utterance)
    load.worst_gap_s = max(load.worst_gap_s, worst_s)
    load.num_dry += worst_s > LONGEST_GAP_S
    await asyncio.sleep(max(0.0, dry_at_s - time.monotonic()))


async def keep_time(load: Load) -> None:
    """Until cancelled."""
    while True:
        before_s = time.monotonic()
        await asyncio.sleep(TICK_S)
        load.late_ms.append(1000 * max(0.0, time.monotonic() - before_s - TICK_S))


async def closed_loop(
    thread: EngineThread, load: Load, *, voice: str, num: int, rounds: int, text: str
) -> None:
    async def one(index: int) -> None:
        for number in range(rounds):
            await listen(thread, load, voice=voice, seed=index + 1000 * number, text=text)

    await asyncio.gather(*(one(index) for index in range(num)))


async def poisson(
    thread: EngineThread, load: Load, *, voice: str, num: int, per_s: float, text: str
) -> None:
    moments = random.Random(1)
    tasks = []
    for index in range(num):
        tasks.append(asyncio.create_task(listen(thread, load, voice=voice, seed=index, text=text)))
        await asyncio.sleep(moments.expovariate(per_s))
    await asyncio.gather(*tasks)


async def under_load(
    thread: EngineThread, *, voice: str, num: int, rounds: int, text: str
) -> dict[str, object]:
    """Both kinds of load, one after the other."""
    figures: dict[str, object] = {}
    utterance_s = 0.0
    for kind in ("closed", "poisson"):
        load = Load()
        ticking = asyncio.create_task(keep_time(load))
        began_s = time.monotonic()
        if kind == "closed":
            await closed_loop(thread, load, voice=voice, num=num, rounds=rounds, text=text)
            utterance_s = load.audio_s / (num * rounds)
        else:
            per_s = POISSON_SHARE * num / max(utterance_s, 0.1)
            await poisson(thread, load, voice=voice, num=num * rounds, per_s=per_s, text=text)
        wall_s = time.monotonic() - began_s
        ticking.cancel()
        figures[kind] = {
            "first_audio_ms": percentiles(load.first_audio_ms or [float("inf")]),
            "worst_gap_ms": round(1000 * load.worst_gap_s, 1),
            "dry": load.num_dry,
            "failed": load.num_failed,
            "audio_s_per_s": round(load.audio_s / wall_s, 2),
            "loop_late_ms": percentiles(load.late_ms),
        }
    sys.stderr.write(f"{num} streams: {figures}\n")
    return figures


async def engine_under_load(
    engine: SpeechEngine, *, levels: Sequence[int], rounds: int, text: str
) -> dict[str, object]:
    """Every level on one engine, whose thread is the daemon's."""
    failures: list[Exception] = []
    thread = EngineThread(lambda: engine, max_wait_s=600.0, on_broken=failures.append)
    info = await thread.start()
    found: dict[str, object] = {}
    for num in levels:
        found[str(num)] = await under_load(
            thread, voice=info.default_voice, num=num, rounds=rounds, text=text
        )
    await thread.stop()
    if failures:
        raise failures[0]
    return found


@torch.inference_mode()
def usual_way(shape: str, *, dtype: str, tokens: int = 25, context: int = 50) -> dict[str, float]:
    """Everything again over prompt, context and new tokens; one stream, no graphs."""
    engine = shaped_engine(shape, num_slots=1, dtype=dtype, eager=True)
    stages = engine.stages
    occupy(engine, 1, text=TEXT)
    stepping = torch.ones(1, dtype=torch.bool, device=stages.device)
    length = engine.config.t3.max_sequence
    prompt = engine.config.flow.max_prompt_tokens
    # A checkpoint of small windows has no positions for more.
    context = min(context, engine.config.flow.max_window_tokens - prompt - tokens)

    def chunk(kept: int) -> float:
        began_s = time.perf_counter()
        for _ in range(tokens):
            stages.t3.decode(
                stepping, length
            ).cpu()  # the reference looks at each token for its end
        window = TokenWindow(0, kept, tokens, 0)
        plan = torch.tensor([FlowStep.plan_row(0, window)], device=stages.device)
        stages.flow(plan, stages.t3.state.tokens, prompt + window.tokens)
        frames = window.tokens * MEL_FRAMES_PER_TOKEN
        sound = FrameWindow(0, frames, 0, frames)
        row = VocoderStep.plan_row(0, sound, known_f0=0, finished=True)
        plan = torch.tensor([row], device=stages.device)
        stages.vocoder(plan, stages.flow.state.mel, frames).cpu()
        synchronise(stages.device)
        return time.perf_counter() - began_s

    chunk(0)
    first_s = chunk(0)
    later_s = min(chunk(context) for _ in range(2))
    vacate(engine, 1)
    return {
        "first_audio_ms": round(1000 * first_s, 1),
        "real_time_factor": round(later_s / (tokens / 25), 4),
    }


def counts(engine: ChatterboxEngine) -> dict[str, object]:
    """Replays and plain calls of each stage."""
    return {
        stage.name: {"replays": sum(stage.replays.values()), "eager_runs": stage.eager_runs}
        for stage in engine.stages.captured
    }


def measure(
    shape: str, *, levels: Sequence[int], rounds: int, dtype: str, lag: int | None, text: str
) -> dict[str, object]:
    device = best_device()
    most = max(levels)
    result: dict[str, object] = {"bench": "gpu_first_audio", "shape": shape, "dtype": dtype}
    if shape == "sine":
        engine: SpeechEngine = SineEngine(num_slots=most, samples_per_step=4800)
        found = asyncio.run(engine_under_load(engine, levels=levels, rounds=rounds, text=text))
        return result | {"streams": found}
    usual = usual_way(shape, dtype=dtype)
    forget(device)
    ours = shaped_engine(shape, num_slots=most, dtype=dtype, lag=lag)
    found = asyncio.run(engine_under_load(ours, levels=levels, rounds=rounds, text=text))
    slot_bytes = ours.stages.state_bytes / most
    return result | {
        **device_facts(device),
        "usual_way": usual,
        "slot_mib": round(slot_bytes / 2**20, 2),
        "streams": found,
        "runs": counts(ours),
    }


def main() -> None:
    has_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="First audio and listeners of an engine.")
    parser.add_argument(
        "--shape", choices=(*SHAPES, "sine"), default="turbo" if has_gpu else "bundled"
    )
    parser.add_argument("--streams", default="1,4,16,64,128,256" if has_gpu else "1,2")
    parser.add_argument("--dtype", default="bfloat16" if has_gpu else "float32")
    parser.add_argument("--rounds", type=int, default=2, help="segments of each listener")
    parser.add_argument("--lag", type=int, default=None, help="draws ahead of what was read")
    parser.add_argument("--small", action="store_true", help="seconds, to see that it runs")
    arguments = parser.parse_args()
    result = measure(
        arguments.shape,
        levels=[1, 2] if arguments.small else [int(num) for num in arguments.streams.split(",")],
        rounds=1 if arguments.small else arguments.rounds,
        dtype=arguments.dtype,
        lag=arguments.lag,
        text="hello to you" if arguments.small else TEXT,
    )
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
