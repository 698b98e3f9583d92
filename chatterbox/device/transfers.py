"""Small integers → the device, results → the host: one copy each, from and to memory that stays,
and nobody waits.

Rings of buffers: a buffer is written again only when the copy that used it is over.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chatterbox.device.backend import Backend, Mark

PlanRow = tuple[int, ...]


class Staging:
    """Lists of integer rows in, tensors on the device out, in one copy."""

    def __init__(
        self, capacity: int, *, backend: Backend, device: torch.device, depth: int = 4
    ) -> None:
        """`capacity`: the most integers of one call."""
        self._backend = backend
        self._host = [backend.host_buffer((capacity,), torch.int64) for _ in range(depth)]
        self._views: list[NDArray[np.int64]] = [buffer.numpy() for buffer in self._host]
        self._device = torch.zeros(capacity, dtype=torch.int64, device=device)
        self._sent: list[Mark | None] = [None] * depth
        self._next = 0

    @property
    def num_bytes(self) -> int:
        return self._device.numel() * self._device.element_size()

    def send(self, plans: Sequence[Sequence[PlanRow]]) -> list[Tensor]:
        """Each plan as [rows, width], valid until the next call."""
        slot, self._next = self._next, (self._next + 1) % len(self._host)
        if (sent := self._sent[slot]) is not None:
            sent.wait()
        values = [value for plan in plans for row in plan for value in row]
        if len(values) > self._device.shape[0]:
            raise ValueError(f"{len(values)} integers, staging holds {self._device.shape[0]}")
        self._views[slot][: len(values)] = values
        self._device[: len(values)].copy_(self._host[slot][: len(values)], non_blocking=True)
        self._sent[slot] = self._backend.mark()
        tensors, start = [], 0
        for plan in plans:
            end = start + len(plan) * len(plan[0])
            tensors.append(self._device[start:end].view(len(plan), -1))
            start = end
        return tensors


class SampleStaging:
    """Rows of samples in, in persistent memory on the device out, in one copy."""

    def __init__(self, target: Tensor, *, backend: Backend, depth: int = 4) -> None:
        """`target`: flat, as long as the most samples of one call."""
        self._backend = backend
        self._target = target
        self._host = [backend.host_buffer(target.shape, torch.float32) for _ in range(depth)]
        self._sent: list[Mark | None] = [None] * depth
        self._next = 0

    def send(self, rows: Sequence[NDArray[np.float32]]) -> None:
        """One after the other from the beginning of the target; all are equally long."""
        slot, self._next = self._next, (self._next + 1) % len(self._host)
        if (sent := self._sent[slot]) is not None:
            sent.wait()
        length = sum(row.size for row in rows)
        np.concatenate(rows, out=self._host[slot][:length].numpy())
        self._target[:length].copy_(self._host[slot][:length], non_blocking=True)
        self._sent[slot] = self._backend.mark()


class Pending:
    """A result on its way to the host."""

    def __init__(self, host: Tensor, arrival: Mark) -> None:
        self._host = host
        self._arrival = arrival

    def take(self) -> Tensor:
        """Wait for it. The memory is used again some calls later: copy what you keep."""
        self._arrival.wait()
        return self._host


class Readback:
    """Tensors of the device in, `Pending` ones out."""

    def __init__(self, capacity: int, dtype: torch.dtype, *, backend: Backend, depth: int) -> None:
        """`capacity`: the most elements of one round; so many rounds may be on their way."""
        self._backend = backend
        self._host = [backend.host_buffer((capacity,), dtype) for _ in range(depth)]
        self._round = 0
        self._used = 0

    def next_round(self) -> None:
        """What follows belongs together; the oldest round is forgotten."""
        self._round = (self._round + 1) % len(self._host)
        self._used = 0

    def fetch(self, source: Tensor) -> Pending:
        """Start copying; `source` may change once the device has come so far."""
        end = self._used + source.numel()
        host = self._host[self._round][self._used : end].view(source.shape)
        self._used = end
        host.copy_(source, non_blocking=True)
        return Pending(host, self._backend.mark())
