"""A module and its loss in, a trained module out: one loop for every stage, resumable, with a
budget of time or steps.

The learning rate follows the share of the budget that is spent, so that any budget ends with a
fine-tuned model.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from chatterbox.training.progress import Progress

SAVE_EVERY_S = 120.0
MUON_RATE = 3.0
"""Muon's learning rate relative to AdamW's, for updates of the same size by its own scale."""
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
    """A linear warm-up and a cosine to nearly zero."""

    peak: float
    warm_up_steps: int = 200
    weight_decay: float = 0.01
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)

    def rate(self, *, step: int, spent: float) -> float:
        warm = min(1.0, (step + 1) / self.warm_up_steps)
        return self.peak * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(spent, 1.0))))


class Optimizers:
    """AdamW for most parameters, Muon (Jordan et al., 2024) for the matrices that are named."""

    def __init__(
        self, module: nn.Module, matrices: Sequence[nn.Parameter], optimisation: Optimisation
    ) -> None:
        chosen = {id(parameter) for parameter in matrices}
        # Saved state goes by position: sorted, it survives a change of the modules' order.
        named = sorted(module.named_parameters())
        trained = [p for _, p in named if p.requires_grad and id(p) not in chosen]
        matrices = [p for _, p in named if id(p) in chosen]
        groups: list[dict[str, object]] = [
            {
                "params": [p for p in trained if p.ndim > 1],
                "weight_decay": optimisation.weight_decay,
            },
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        betas = optimisation.betas
        self._all: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=optimisation.peak, betas=betas, fused=True)
        ]
        if matrices:
            decay = optimisation.weight_decay
            self._all.append(
                torch.optim.Muon(list(matrices), weight_decay=decay, adjust_lr_fn="match_rms_adamw")
            )

    def step(self, rate: float) -> None:
        for optimizer in self._all:
            factor = MUON_RATE if isinstance(optimizer, torch.optim.Muon) else 1.0
            for group in optimizer.param_groups:
                group["lr"] = factor * rate
            optimizer.step()

    def clear(self) -> None:
        for optimizer in self._all:
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, object]]:
        return [optimizer.state_dict() for optimizer in self._all]

    def load(self, states: list[dict[str, object]]) -> None:
        for optimizer, state in zip(self._all, states, strict=True):
            optimizer.load_state_dict(state)


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
    matrices: Sequence[nn.Parameter] = (),
) -> None:
    """Train until the budget is spent; what an interrupted run had saved is taken up again."""
    folder.mkdir(parents=True, exist_ok=True)
    state_path, log_path = folder / f"{name}.pt", folder / f"{name}.jsonl"
    optimizers = Optimizers(module, matrices, optimisation)
    step, elapsed_s = 0, 0.0
    if state_path.exists():
        saved = torch.load(state_path, weights_only=True)
        module.load_state_dict(saved["module"])
        optimizers.load(saved["optimizers"])
        step, elapsed_s = saved["step"], saved["elapsed_s"]
    progress = Progress(name, total=100.0)
    since_save = last = time.monotonic()
    shown: dict[str, float] = {}
    module.train()
    while (spent := budget.spent(step=step, elapsed_s=elapsed_s)) < 1.0:
        rate = optimisation.rate(step=step, spent=spent)
        torch.manual_seed(seed * 1_000_003 + step)
        loss, values = loss_function(np.random.default_rng((seed, step)), spent)
        optimizers.clear()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), optimisation.clip)
        if torch.isfinite(norm):
            optimizers.step(rate)
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
            _save(state_path, _state(module, optimizers, step, elapsed_s))
    _save(state_path, _state(module, optimizers, step, elapsed_s))
    module.eval()


def _state(
    module: nn.Module, optimizers: Optimizers, step: int, elapsed_s: float
) -> dict[str, object]:
    return {
        "module": module.state_dict(),
        "optimizers": optimizers.state(),
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
