"""A module and its loss in, a trained module out: one loop for every stage, resumable, with a
budget of time or steps.

The learning rate follows the share of the budget that is spent, so that any budget ends with a
fine-tuned model.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from chatterbox.training.progress import Progress

SAVE_EVERY_S = 120.0
LossFunction = Callable[[np.random.Generator, float], tuple[Tensor, Mapping[str, float]]]
"""(random source, share of the budget spent) → loss and values to show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How long a stage may train: `steps` if given, else `minutes` of training time over all
    resumed runs.
    """

    minutes: float
    steps: int | None = None

    def spent(self, *, step: int, elapsed_s: float) -> float:
        return step / self.steps if self.steps is not None else elapsed_s / (self.minutes * 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimisation:
    """AdamW with a linear warm-up and a cosine to nearly zero."""

    peak: float
    warm_up_steps: int = 200
    weight_decay: float = 0.01
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)

    def rate(self, *, step: int, spent: float) -> float:
        warm = min(1.0, (step + 1) / self.warm_up_steps)
        return self.peak * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(spent, 1.0))))


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _save(path: Path, state: Mapping[str, object]) -> None:
    building = path.with_suffix(".partial")
    torch.save(dict(state), building)
    building.rename(path)


def train(
    name: str,
    module: nn.Module,
    loss_function: LossFunction,
    *,
    folder: Path,
    budget: Budget,
    optimisation: Optimisation,
    seed: int,
) -> None:
    """Train until the budget is spent; what an interrupted run had saved is taken up again."""
    folder.mkdir(parents=True, exist_ok=True)
    state_path, log_path = folder / f"{name}.pt", folder / f"{name}.jsonl"
    optimizer = torch.optim.AdamW(
        _groups(module, optimisation.weight_decay),
        lr=optimisation.peak,
        betas=optimisation.betas,
        fused=True,
    )
    step, elapsed_s = 0, 0.0
    if state_path.exists():
        saved = torch.load(state_path, weights_only=True)
        module.load_state_dict(saved["module"])
        optimizer.load_state_dict(saved["optimizer"])
        step, elapsed_s = saved["step"], saved["elapsed_s"]
    progress = Progress(name, total=100.0)
    since_save = last = time.monotonic()
    shown: dict[str, float] = {}
    module.train()
    while (spent := budget.spent(step=step, elapsed_s=elapsed_s)) < 1.0:
        rate = optimisation.rate(step=step, spent=spent)
        for group in optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(seed * 1_000_003 + step)
        loss, values = loss_function(np.random.default_rng((seed, step)), spent)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), optimisation.clip)
        if torch.isfinite(norm):
            optimizer.step()
        step += 1
        now = time.monotonic()
        elapsed_s, last = elapsed_s + now - last, now
        for key, value in values.items():
            shown[key] = value if key not in shown else 0.98 * shown[key] + 0.02 * value
        progress.show(spent * 100, {"step": step, "lr": rate, **shown})
        if step % 100 == 0:
            with log_path.open("a", encoding="utf-8") as log:
                log.write(
                    json.dumps(
                        {"step": step, "elapsed_s": round(elapsed_s, 1), "lr": rate, **shown}
                    )
                    + "\n"
                )
        if now - since_save > SAVE_EVERY_S:
            since_save = now
            _save(state_path, _state(module, optimizer, step, elapsed_s))
    _save(state_path, _state(module, optimizer, step, elapsed_s))
    module.eval()


def _state(
    module: nn.Module, optimizer: torch.optim.Optimizer, step: int, elapsed_s: float
) -> dict[str, object]:
    return {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "elapsed_s": elapsed_s,
    }


def load_trained(name: str, module: nn.Module, folder: Path) -> int:
    """Fill `module` with what `train` last saved; returns the steps trained."""
    saved = torch.load(folder / f"{name}.pt", weights_only=True)
    module.load_state_dict(saved["module"])
    module.eval()
    steps: int = saved["step"]
    return steps
