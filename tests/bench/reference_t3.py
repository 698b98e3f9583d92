"""One step of T3 beside the reference package: same weights, same work, one core. One JSON line
last.

Theory. Two processes, ours and the reference's in an environment of its own (its packages cannot
live beside ours), each with one torch thread, take turns on the same core, and each counts its own
processor time, so that a neighbour on the core slows neither. The work is a prefill and the first
tokens of a sentence, at the official sizes; weights are a function of their names. Both run their
real loop, sampling included, at a temperature so low that both must say the same tokens: nobody is
fast by doing something else. A step is the time between two logits; its figure is the median of a
round's steps, then of the rounds. `ratio` is the reference's over ours; above 1, we are faster.

    REFERENCE_PYTHON=venv/bin/python PYTHONPATH=. taskset -c 0 \\
        python tests/bench/reference_t3.py [--rounds 3] [--steps 24] [--variants turbo english]

The environment holds `chatterbox-tts` 0.1.7 and what it imports. Without REFERENCE_PYTHON there is
nothing to compare with, and the line says so.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from chatterbox.config import SPEECH_CODES
from chatterbox.ladder import steps_of
from chatterbox.t3.build import build_t3
from chatterbox.t3.decoder import T3Decoder
from chatterbox.t3.variants import SAMPLING_VARIANTS, T3_VARIANTS
from tools.seeded_weights import seeded

ROOT = Path(__file__).resolve().parents[2]
CASE_SEED = 1
TEMPERATURE = 1e-3
TEXT_TOKENS = 60
Order = dict[str, Tensor]
Round = tuple[list[int], float, float]
"""Tokens, seconds until the first logits, seconds of a step."""


def order_of(variant: str, steps: int) -> Order:
    """What both sides are asked to do."""
    config, chance = T3_VARIANTS[variant], torch.Generator().manual_seed(5)
    text = torch.randint(1, 250, (TEXT_TOKENS,), generator=chance).tolist()
    return {
        "speaker": torch.randn(1, config.speaker_channels, generator=chance) / 16,
        "prompt": torch.randint(0, SPEECH_CODES, (1, config.prompt_tokens), generator=chance),
        "text": torch.tensor([config.marked(text)]),
        "steps": torch.tensor(steps),
        "temperature": torch.tensor(TEMPERATURE),
        "exaggeration": torch.tensor([0.5]),
        "cfg_weight": torch.tensor(0.5),
    }


def timed(tokens: list[int], marks: list[float]) -> Round:
    """marks: the start, each logits, the end."""
    steps = [after - before for before, after in pairwise(marks[1:])]
    return tokens, marks[1] - marks[0], statistics.median(steps)


class Ours:
    """One slot of our decoder, stepped as the engine steps it."""

    def __init__(self, variant: str, order: Order) -> None:
        with torch.device("meta"):
            model = build_t3(T3_VARIANTS[variant])
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        weights = {name: seeded(name, shape, CASE_SEED) for name, shape in shapes.items()}
        model.load_state_dict(weights, assign=True)
        self._order = order
        self._sampling = SAMPLING_VARIANTS[variant].with_options({"temperature": TEMPERATURE})
        self._decoder = T3Decoder(model.eval(), 1, top_k=self._sampling.top_k)
        self._lengths = steps_of(128, model.config.max_sequence)
        self._marks: list[float] = []
        model.speech_head.register_forward_hook(lambda *_: self._marks.append(time.process_time()))

    def round(self) -> Round:
        decoder, order, text = self._decoder, self._order, self._order["text"]
        self._marks.clear()
        started = time.process_time()
        condition = decoder.model.embed_condition(order["speaker"], order["prompt"])
        prefix = decoder.model.prefix_length(condition.shape[1], text.shape[1])
        decoder.state.begin(0, prefix=prefix, seed=0, sampling=self._sampling)
        num_text = torch.tensor([text.shape[1]])
        decoder.prefill(torch.tensor([0]), condition, text, num_text)
        tokens: list[int] = []
        for step in range(int(order["steps"])):
            length = self._lengths.fit(prefix + step + 1)
            tokens += decoder.decode(torch.tensor([True]), length).tolist()
        return timed(tokens, [started, *self._marks, time.process_time()])


class Reference:
    """The other process."""

    def __init__(self, python: str, variant: str, order: Path) -> None:
        script = ROOT / "tests" / "bench" / "reference" / "t3.py"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [python, str(script), str(ROOT / "tools"), str(CASE_SEED), variant, str(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self._answer()

    def round(self) -> Round:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._answer()
        return timed(answer["tokens"], answer["marks"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the reference ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._process.communicate()


def compared(variant: str, python: str, *, rounds: int, steps: int) -> dict[str, float]:
    """Take turns; the first round only warms up."""
    order = order_of(variant, steps)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "order.safetensors"
        save_file(order, path)
        reference = Reference(python, variant, path)
        ours = Ours(variant, order)
        pairs = [(ours.round(), reference.round()) for _ in range(rounds + 1)][1:]
        reference.close()
    for mine, theirs in pairs:
        if mine[0] != theirs[0]:
            raise SystemExit(f"{variant}: our tokens {mine[0]} are not the reference's {theirs[0]}")
    figures: dict[str, float] = {
        "prefix": order["text"].shape[1] + T3_VARIANTS[variant].prefix_tokens
    }
    seconds = {
        "prefill": [(mine[1], theirs[1]) for mine, theirs in pairs],
        "step": [(mine[2], theirs[2]) for mine, theirs in pairs],
    }
    for name, found in seconds.items():
        mine_s, theirs_s = (statistics.median(side) for side in zip(*found, strict=True))
        figures |= {
            f"{name}_ours_ms": round(1000 * mine_s, 1),
            f"{name}_reference_ms": round(1000 * theirs_s, 1),
            f"{name}_ratio": round(theirs_s / mine_s, 2),
        }
    return figures


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--variants", nargs="+", default=["turbo", "english"])
    arguments = parser.parse_args()
    python = os.environ.get("REFERENCE_PYTHON")
    if not python:
        sys.stdout.write('{"skipped": "REFERENCE_PYTHON names no environment"}\n')
        return
    torch.set_num_threads(1)
    figures = {
        variant: compared(variant, python, rounds=arguments.rounds, steps=arguments.steps)
        for variant in arguments.variants
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
