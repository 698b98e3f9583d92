"""One stage of a step, prepared for every size that it will meet: plans in, static outputs out.

Owns warm-up, capture, replay and the checks of shapes and addresses. The same code runs whether the
backend captures or calls: a plan is copied into persistent memory, the function reads it there, and
what it returns is copied into persistent memory.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from chatterbox.device.backend import Backend
from chatterbox.ladder import Ladder


@dataclass(frozen=True, slots=True, order=True)
class Rung:
    """One prepared shape: rows of the batch, and the size of whatever else the stage's has."""

    rows: int
    size: int


class MovedMemory(AssertionError):
    """A tensor that captured steps read is elsewhere now: they would go on reading the old one."""


class CapturedStage:
    """A function of a plan [rows, width] and a size, for all rungs of two ladders."""

    def __init__(
        self,
        name: str,
        function: Callable[[Tensor, int], Tensor | None],
        *,
        rows: Ladder,
        sizes: Ladder,
        width: int,
        backend: Backend,
        device: torch.device,
        out: tuple[int, torch.dtype] | None = None,
        state: nn.Module,
    ) -> None:
        """`out`: the most elements of a row that the function returns, and their type; None if it
        returns nothing. The buffers of `state` are what it reads and writes beside the plan.
        """
        self.name = name
        self.rows = rows
        self.sizes = sizes
        self.replays: Counter[Rung] = Counter()
        self.eager_runs = 0
        self._unreported: Counter[Rung] = Counter()
        self._unreported_eager_runs = 0
        self.plan = torch.zeros(rows.sizes[-1], width, dtype=torch.int64, device=device)
        self._function = function
        self._backend = backend
        self._state = state
        self._out: Tensor | None = None
        if out is not None:
            self._out = torch.zeros(rows.sizes[-1] * out[0], dtype=out[1], device=device)
        self._prepared: dict[Rung, Callable[[], None]] = {}
        self._result: dict[Rung, Tensor] = {}
        self._addresses: list[tuple[nn.Module, str, int]] = []

    @property
    def rungs(self) -> list[Rung]:
        """Largest first: what is captured later fits into the memory of what came before."""
        return sorted(
            (Rung(rows, size) for rows in self.rows.sizes for size in self.sizes.sizes),
            reverse=True,
        )

    @property
    def num_bytes(self) -> int:
        """Of the persistent inputs and outputs."""
        kept = [self.plan] if self._out is None else [self.plan, self._out]
        return sum(tensor.numel() * tensor.element_size() for tensor in kept)

    def fit(self, rows: int, size: int) -> Rung:
        """The smallest prepared shape that holds so many rows of this size."""
        return Rung(self.rows.fit(rows), self.sizes.fit(size))

    def prepare(self) -> Iterator[Rung]:
        """Capture every rung, one at a time; nothing to do where the backend only calls.

        The plan is all zeros then, which no stage takes for work.
        """
        if not self._backend.captures:
            return
        self.plan.zero_()
        for rung in self.rungs:
            self._prepared[rung] = self._backend.capture(partial(self.call, rung))
            yield rung
        self._addresses = [
            (module, name, buffer.data_ptr())
            for module in self._state.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]

    def run(self, plan: Tensor, size: int) -> Tensor | None:
        """One step of the rows of `plan` [rows, width], on the device, already padded to a rung.
        The result is overwritten by the next call.
        """
        rung = Rung(plan.shape[0], size)
        if plan.shape != (rung.rows, self.plan.shape[1]) or plan.dtype != self.plan.dtype:
            raise ValueError(f"{self.name}: a plan {tuple(plan.shape)} {plan.dtype}")
        if rung.rows not in self.rows.sizes or rung.size not in self.sizes.sizes:
            raise ValueError(f"{self.name}: {rung} is not a prepared size")
        self.plan[: rung.rows].copy_(plan)
        replay = self._prepared.get(rung)
        if replay is None:
            self.eager_runs += 1
            self._unreported_eager_runs += 1
            self.call(rung)
        else:
            self.check_addresses()
            self.replays[rung] += 1
            self._unreported[rung] += 1
            replay()
        return self.result(rung)

    def result(self, rung: Rung) -> Tensor | None:
        """Where this rung's results lie."""
        return self._result.get(rung)

    def take_counts(self) -> tuple[dict[Rung, int], int]:
        """Replays of each rung and plain calls, since the last time."""
        counts = dict(self._unreported), self._unreported_eager_runs
        self._unreported.clear()
        self._unreported_eager_runs = 0
        return counts

    def forget_counts(self) -> None:
        """As if it had not run yet."""
        self.take_counts()
        self.replays.clear()
        self.eager_runs = 0

    def check_addresses(self) -> None:
        """Raises `MovedMemory` if a buffer was rebound since the capture."""
        for module, name, address in self._addresses:
            buffer = module._buffers[name]
            if buffer is None or buffer.data_ptr() != address:
                raise MovedMemory(f"{self.name}: {name} was rebound after it was captured")

    def call(self, rung: Rung) -> None:
        """What a replay does, operation by operation; the plan is in its place."""
        result = self._function(self.plan[: rung.rows], rung.size)
        assert (result is None) == (self._out is None), f"{self.name}: an output too many or few"
        if result is not None and self._out is not None:
            if rung not in self._result:
                self._result[rung] = self._out[: result.numel()].view(result.shape)
            self._result[rung].copy_(result)
