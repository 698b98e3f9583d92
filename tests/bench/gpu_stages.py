"""What a stage and a whole step take: told one operation at a time, compiled, captured. One JSON
line last.

Theory. A T3 step of one slot reads every weight once: 4 (or 2) bytes a parameter, at the bandwidth
that the device copies with, is its floor. Told operation by operation, 24 layers of some fifteen
kernels cost the host 4 to 8 µs each, which is several times that floor on a large GPU; a replayed
graph costs the host one call. The flow of a first window is 2 (Turbo) or 10 (English, twice as
wide) passes of some 1,000 kernels, so the ratio is larger there. `torch.compile` in the mode
"reduce-overhead" is how servers of this model try to get there: the same modules are measured so.
On a CPU nothing is captured, and the columns agree but for noise.

"ours" of a stage is a replay at its rung with the plan's copy. The whole step is `engine.step` for
so many speaking slots, samples read back and all, once eager and once as it is.

    python tests/bench/gpu_stages.py [--shape turbo] [--rows 1,64,256] [--dtype bfloat16] [--small]
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence

import torch

from chatterbox.api import SlotIndex
from chatterbox.engine import ChatterboxEngine
from tests.gpu.measure import bandwidth, device_facts, forget, seconds, synchronise
from tests.gpu.shapes import SHAPES, best_device, shaped_engine
from tests.gpu.steps import TEXT, occupy, stage_calls, stage_plans, vacate


def replayed_ms(engine: ChatterboxEngine, *, rows: int, repeats: int) -> dict[str, float]:
    """Each stage at the rung that holds so many rows, as the engine runs it."""
    plans = stage_plans(engine, rows=rows)
    occupy(engine, rows)
    figures = {}
    for stage in engine.stages.captured[-3:]:
        plan, rung = plans[stage.name]
        taken = seconds(
            lambda stage=stage, plan=plan, size=rung.size: stage.run(plan, size),  # type: ignore[misc]
            engine.stages.device,
            repeats=repeats,
        )
        figures[stage.name] = 1000 * taken
    vacate(engine, rows)
    return figures


def called_ms(
    engine: ChatterboxEngine, *, rows: int, repeats: int, mode: str | None
) -> dict[str, float]:
    """Each stage called, compiled in `mode` if there is one."""
    occupy(engine, rows)
    figures = {}
    for name, call in stage_calls(engine, rows=rows).items():
        run = call
        if mode is not None:
            torch.compiler.reset()  # slows the calls after it, and must not slow those of eager
            run = torch.compile(call, mode=mode)
        figures[name] = 1000 * seconds(run, engine.stages.device, repeats=repeats)
    vacate(engine, rows)
    return figures


def step_ms(engine: ChatterboxEngine, *, rows: int, steps: int) -> float:
    """One step of so many speaking slots, windows included: the mean over `steps`."""
    occupy(engine, rows, text=TEXT * 2)
    slots = [SlotIndex(slot) for slot in range(rows)]
    for _ in range(4):
        engine.step(slots)
    synchronise(engine.stages.device)
    start = time.perf_counter()
    for _ in range(steps):
        engine.step(slots)
    synchronise(engine.stages.device)
    taken = (time.perf_counter() - start) / steps
    vacate(engine, rows)
    return 1000 * taken


def measure(
    shape: str,
    *,
    rows: Sequence[int],
    compiled_rows: Sequence[int],
    dtype: str,
    repeats: int,
    steps: int,
) -> dict[str, object]:
    """All of it, in one run, with one set of weights after the other."""
    device = best_device()
    ours = shaped_engine(shape, num_slots=max(rows), dtype=dtype)
    started = time.perf_counter()
    ours.warm_up()
    warm_up_s = time.perf_counter() - started
    captured = {number: replayed_ms(ours, rows=number, repeats=repeats) for number in rows}
    ours_step = {number: step_ms(ours, rows=number, steps=steps) for number in rows}
    weights = list(ours.stages.t3.model.parameters())
    num_bytes = sum(weight.numel() * weight.element_size() for weight in weights)
    floor_ms = 1000 * num_bytes / bandwidth(device, num_bytes=min(2**30, num_bytes * 2))
    facts = device_facts(device)
    del ours, weights
    forget(device)
    eager = shaped_engine(shape, num_slots=max(rows), dtype=dtype, eager=True)
    levels = {}
    for number in rows:
        called = called_ms(eager, rows=number, repeats=repeats, mode=None)
        compiled = (
            called_ms(eager, rows=number, repeats=repeats, mode="reduce-overhead")
            if number in compiled_rows
            else {}
        )
        stages = {
            name: {
                "eager_ms": round(called[name], 3),
                "compiled_ms": round(compiled[name], 3) if compiled else None,
                "ours_ms": round(value, 3),
                "eager_over_ours": round(called[name] / value, 2),
                "compiled_over_ours": round(compiled[name] / value, 2) if compiled else None,
            }
            for name, value in captured[number].items()
        }
        eager_step = step_ms(eager, rows=number, steps=steps)
        levels[str(number)] = {
            **stages,
            "step": {
                "eager_ms": round(eager_step, 3),
                "ours_ms": round(ours_step[number], 3),
                "eager_over_ours": round(eager_step / ours_step[number], 2),
            },
        }
        sys.stderr.write(f"{number} rows: {levels[str(number)]}\n")
    return {
        "bench": "gpu_stages",
        "shape": shape,
        "dtype": dtype,
        **facts,
        "warm_up_s": round(warm_up_s, 1),
        "t3_token_floor_ms": round(floor_ms, 3),
        "rows": levels,
    }


def main() -> None:
    has_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="Eager, compiled and captured stages.")
    parser.add_argument("--shape", choices=SHAPES, default="turbo" if has_gpu else "bundled")
    parser.add_argument("--rows", default="1,16,64,256" if has_gpu else "1,2")
    parser.add_argument("--compiled-rows", default="1" if has_gpu else "")
    parser.add_argument("--dtype", default="bfloat16" if has_gpu else "float32")
    parser.add_argument("--repeats", type=int, default=20 if has_gpu else 5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--small", action="store_true", help="seconds, to see that it runs")
    arguments = parser.parse_args()
    # Inductor needs a compiler, and minutes for each size.
    compiled = arguments.compiled_rows if shutil.which("cc") else ""
    result = measure(
        arguments.shape,
        rows=[1, 2] if arguments.small else [int(number) for number in arguments.rows.split(",")],
        dtype=arguments.dtype,
        repeats=2 if arguments.small else arguments.repeats,
        steps=16 if arguments.small else arguments.steps,
        compiled_rows=[int(number) for number in compiled.split(",") if number],
    )
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
