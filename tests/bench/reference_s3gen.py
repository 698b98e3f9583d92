"""Flow and vocoder beside the reference package: same weights, same work, one core. One JSON line
last.

Theory. Two processes, ours and the reference's in an environment of its own (its packages cannot
live beside ours), each with one torch thread, take turns on the same core, and what counts is
processor time, which other programs hardly blur. The work is what one utterance of 2 s behind a
voice prompt of 2 s asks for: the flow of base S3Gen (ten guided steps) and of meanflow (two steps),
and the vocoder. Weights are a function of their names. The outputs are compared, so that nobody is
fast by doing something else. `ratio` is the median of the reference's times over the median of
ours; above 1, we are faster.

    REFERENCE_PYTHON=venv/bin/python PYTHONPATH=. taskset -c 0 \\
        python tests/bench/reference_s3gen.py [--rounds 5]

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
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from chatterbox.checkpoint import fold_weight_norm
from chatterbox.config import MEL_FRAMES_PER_TOKEN, SPEECH_CODES, FlowConfig, VocoderConfig
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.vocoder import HiFT
from tools.seeded_weights import model_shapes, seeded

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = json.loads((ROOT / "tests" / "golden" / "manifest.json").read_text(encoding="utf-8"))
CASE_SEED: int = MANIFEST["case_seed"]
PROMPT_TOKENS, NEW_TOKENS = 50, 50
SEED = 1234
AGREEMENT = {"flow": 1e-3, "flow_meanflow": 1e-3, "vocoder": 3e-2}
"""Largest difference of the outputs, in standard deviations; the vocoder adds up a predicted F0."""

Order = dict[str, Tensor]


def weights(model: str, prefix: str) -> Order:
    return {
        name.removeprefix(prefix): seeded(name, shape, CASE_SEED)
        for name, shape in model_shapes(MANIFEST, model).items()
        if name.startswith(prefix)
    }


def build_flow(config: FlowConfig, model: str) -> Flow:
    flow = Flow(config)
    flow.load_state_dict(weights(model, "flow."))
    return flow.eval()


def build_vocoder() -> HiFT:
    vocoder = HiFT(VocoderConfig())
    vocoder.load_state_dict(fold_weight_norm(weights("s3gen", "mel2wav.")))
    vocoder.f0_predictor.double()
    return vocoder.eval()


def run_flow(flow: Flow, order: Order) -> Tensor:
    """The same as one call of the reference, through the parts that the streaming step uses."""
    tokens = torch.cat([order["prompt_tokens"], order["tokens"]], dim=1)
    block = torch.zeros_like(tokens)
    mu = flow.encode(tokens, block)
    prompt = order["prompt_mel"].shape[1]
    cond = torch.zeros_like(mu)
    cond[:, :, :prompt] = order["prompt_mel"].transpose(1, 2)
    mel = flow.solve(
        order["noise"],
        block.repeat_interleave(MEL_FRAMES_PER_TOKEN, dim=1),
        mu=mu,
        speaker=flow.project_speaker(order["speaker"]),
        cond=cond,
    )
    return mel[:, :, prompt:]


def run_vocoder(vocoder: HiFT, order: Order) -> Tensor:
    """The reference draws the phases, then the noise."""
    generator = torch.Generator().manual_seed(SEED)
    sines = vocoder.config.sines
    phase = (2 * torch.rand(1, sines, 1, generator=generator) - 1) * torch.pi
    phase[:, 0] = 0
    samples = 480 * order["mel"].shape[2]
    wave: Tensor = vocoder(order["mel"], phase, torch.randn(1, sines, samples, generator=generator))
    return wave


def orders() -> dict[str, Order]:
    """What both sides are asked to do."""
    generator = torch.Generator().manual_seed(5)
    frames = MEL_FRAMES_PER_TOKEN * (PROMPT_TOKENS + NEW_TOKENS)
    spoken = {
        "prompt_tokens": torch.randint(0, SPEECH_CODES, (1, PROMPT_TOKENS), generator=generator),
        "tokens": torch.randint(0, SPEECH_CODES, (1, NEW_TOKENS), generator=generator),
        "prompt_mel": torch.randn(1, 2 * PROMPT_TOKENS, 80, generator=generator),
        "speaker": torch.randn(1, 192, generator=generator),
        "noise": torch.randn(1, 80, frames, generator=generator),
    }
    mel = {"mel": torch.randn(1, 80, 2 * NEW_TOKENS, generator=generator)}
    return {"flow": spoken, "flow_meanflow": spoken, "vocoder": mel}


class Reference:
    """The other process."""

    def __init__(self, python: str, folder: Path) -> None:
        self._folder = folder
        script = ROOT / "tests" / "bench" / "reference" / "s3gen.py"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [python, str(script), str(ROOT / "tools"), str(CASE_SEED), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "log").open("w"),
            text=True,
            env=environment,
        )
        self._answer()

    def run(self, name: str) -> tuple[float, Tensor]:
        """Seconds, and the output."""
        assert self._process.stdin is not None
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        seconds: float = self._answer()["seconds"]
        return seconds, load_file(self._folder / f"{name}.reference.safetensors")["output"]

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            last = (self._folder / "log").read_text().splitlines()[-1:]
            raise SystemExit(f"the reference ended with status {self._process.wait()}: {last}")
        answer: dict[str, float] = json.loads(line)
        return answer

    def close(self) -> None:
        self._process.communicate()


def compared(
    name: str, work: Callable[[Order], Tensor], order: Order, reference: Reference, rounds: int
) -> dict[str, float]:
    """Take turns; the first round only warms up and compares."""
    ours, theirs = [], []
    for number in range(rounds + 1):
        seconds, expected = reference.run(name)
        started = time.process_time()
        output = work(order)
        elapsed = time.process_time() - started
        difference = float((output - expected).abs().max() / expected.std())
        if difference > AGREEMENT[name]:
            raise SystemExit(f"{name}: the outputs differ by {difference:.1e} of their deviation")
        if number:
            ours.append(elapsed)
            theirs.append(seconds)
    middle, their_middle = statistics.median(ours), statistics.median(theirs)
    return {
        "ours_s": round(middle, 3),
        "reference_s": round(their_middle, 3),
        "ratio": round(their_middle / middle, 2),
        "difference_std": float(f"{difference:.1e}"),
    }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    python = os.environ.get("REFERENCE_PYTHON")
    if not python:
        sys.stdout.write('{"skipped": "REFERENCE_PYTHON names no environment"}\n')
        return
    torch.set_num_threads(1)
    base = build_flow(FlowConfig(meanflow=False, steps=10, guidance=0.7), "s3gen")
    meanflow = build_flow(FlowConfig(meanflow=True, steps=2), "s3gen_meanflow")
    vocoder = build_vocoder()
    works: dict[str, Callable[[Order], Tensor]] = {
        "flow": lambda order: run_flow(base, order),
        "flow_meanflow": lambda order: run_flow(meanflow, order),
        "vocoder": lambda order: run_vocoder(vocoder, order),
    }
    with tempfile.TemporaryDirectory() as name:
        folder, given = Path(name), orders()
        for work, order in given.items():
            save_file(order, folder / f"{work}.order.safetensors")
        reference = Reference(python, folder)
        figures = {
            work: compared(work, run, given[work], reference, rounds) for work, run in works.items()
        }
        reference.close()
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
