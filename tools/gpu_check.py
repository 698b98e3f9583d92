"""A machine with a GPU in; guards passed, figures in build/gpu-check.json and pictures out, in ten
minutes. Where torch sees no GPU it says so in one line, and that is no failure.

Needs torch, numpy, safetensors, tokenizers, uvloop and pytest; pictures need matplotlib as well.
`--small` runs every benchmark at its smallest, on whatever device there is.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build"
BUDGET_S = 570.0
GUARDS = ("-m", "pytest", "-m", "gpu", "-q", "tests/gpu")


@dataclass(frozen=True, slots=True)
class Run:
    """One benchmark; the most important come first, and what no time is left for is left out."""

    name: str
    arguments: tuple[str, ...]
    limit_s: float = 240.0


ON_A_GPU = (
    Run("turbo_stages", ("gpu_stages.py", "--shape", "turbo")),
    Run("turbo_streams", ("gpu_first_audio.py", "--shape", "turbo", "--rounds", "1")),
    Run("turbo_precision", ("gpu_precision.py", "--shape", "turbo")),
    Run("english_stages", ("gpu_stages.py", "--shape", "english", "--rows", "1,16",
                           "--compiled-rows", "", "--repeats", "5")),
    Run("english_streams", ("gpu_first_audio.py", "--shape", "english", "--streams", "1,16",
                            "--rounds", "1")),
)  # fmt: skip
SMALL = (
    Run("small_stages", ("gpu_stages.py", "--shape", "tiny-gpt2", "--small")),
    Run("small_streams", ("gpu_first_audio.py", "--shape", "tiny-llama", "--small")),
    Run("small_precision", ("gpu_precision.py", "--shape", "tiny-llama", "--small")),
)


def guard_status(*, limit_s: float) -> int:
    """Exit status of the tests that need a GPU."""
    return subprocess.run(
        [sys.executable, *GUARDS], cwd=ROOT, timeout=limit_s, check=False
    ).returncode


def figures_of(run: Run, *, limit_s: float) -> dict[str, Any]:
    """The JSON line that a benchmark ends with, or why there is none."""
    command = [sys.executable, str(ROOT / "tests" / "bench" / run.arguments[0]), *run.arguments[1:]]
    try:
        found = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            timeout=limit_s,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no figures after {limit_s:.0f} s"}
    except subprocess.CalledProcessError as error:
        return {"failed": f"exit status {error.returncode}"}
    figures: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return figures


def measured(runs: Sequence[Run], *, until_s: float) -> dict[str, dict[str, Any]]:
    """All benchmarks that there is time for."""
    figures: dict[str, dict[str, Any]] = {}
    for run in runs:
        left_s = until_s - time.monotonic()
        if left_s < 20:
            figures[run.name] = {"failed": "no time was left"}
            continue
        began_s = time.monotonic()
        figures[run.name] = figures_of(run, limit_s=min(run.limit_s, left_s))
        figures[run.name]["took_s"] = round(time.monotonic() - began_s, 1)
        sys.stdout.write(f"{run.name}: {json.dumps(figures[run.name])}\n")
        sys.stdout.flush()
    return figures


def draw(figures: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    """First audio over streams, and the stages' times: one picture each that there are figures
    for.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return []
    import matplotlib.pyplot as plt

    paths = []
    for name, found in figures.items():
        if "streams" not in found and "rows" not in found:
            continue
        figure, axes = plt.subplots(figsize=(7, 4))
        for label, (x, y) in _series(found).items():
            axes.plot(x, y, marker="o", label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("streams" if "streams" in found else "rows of the batch")
        axes.set_ylabel("first audio, ms" if "streams" in found else "ms")
        axes.set_title(f"{name}, {found.get('device', '')}")
        axes.legend()
        paths.append(folder / f"gpu-check-{name}.png")
        figure.savefig(paths[-1], dpi=120, bbox_inches="tight")
        plt.close(figure)
    return paths


def _series(found: Mapping[str, Any]) -> dict[str, tuple[list[int], list[float]]]:
    """Lines of a picture: label → where, how much."""
    if "streams" in found:
        levels = found["streams"]
        x = [int(number) for number in levels]
        return {
            f"{kind} {share}": (x, [levels[n][kind]["first_audio_ms"][share] for n in levels])
            for kind in ("closed", "poisson")
            for share in ("p50", "p95")
        }
    levels = found["rows"]
    x = [int(number) for number in levels]
    return {
        f"{stage} {how}": (x, [levels[number][stage][f"{how}_ms"] for number in levels])
        for stage in ("t3_decode", "flow", "vocoder", "step")
        for how in ("eager", "ours")
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Guards and benchmarks of the engine on a GPU.")
    parser.add_argument("--small", action="store_true", help="smallest sizes, on any device")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of figures and pictures")
    arguments = parser.parse_args()
    if not torch.cuda.is_available() and not arguments.small:
        sys.stdout.write(
            "gpu-check: torch sees no CUDA device here, so there is nothing to check\n"
        )
        return 0
    until_s = time.monotonic() + BUDGET_S
    status = guard_status(limit_s=BUDGET_S / 2) if torch.cuda.is_available() else 0
    figures = measured(SMALL if arguments.small else ON_A_GPU, until_s=until_s)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "gpu-check.json"
    path.write_text(json.dumps({"guards": status, "figures": figures}, indent=1) + "\n")
    pictures = draw(figures, arguments.out)
    sys.stdout.write(f"figures: {path}; pictures: {len(pictures)}\n")
    has_failed = status or any("failed" in found for found in figures.values())
    return 1 if has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
