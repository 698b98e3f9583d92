"""Texts and a checkpoint in, what a listener of the daemon waits for its first sound out.

Runs the benchmark in a process of its own: the model's code knows neither the daemon nor a socket.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BENCHMARK = ROOT / "tests" / "bench" / "first_audio.py"


def first_audio(texts: Sequence[str], model: str | None, *, cores: set[int]) -> dict[str, object]:
    """Figures of the benchmark over these texts; `cores` are those that the machine lends."""
    daemon_arguments = [] if model is None else ["--model", str(Path(model).resolve())]
    listed = ",".join(str(core) for core in sorted(cores))
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join(texts) + "\n")
        file.flush()
        done = subprocess.run(
            [
                *("taskset", "--cpu-list", listed, sys.executable, str(BENCHMARK)),
                *("--texts", file.name, "--rounds", "1", *daemon_arguments),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
    figures: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return {name: value for name, value in figures.items() if name not in ("bench", "model")}
