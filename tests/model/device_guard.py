"""Run a step on the `meta` device and reject every operation that touches a tensor anywhere else.

Plain `meta` lets faults pass that would stop a CUDA graph: `.to(x.device)` of a tensor on the CPU,
CPU indices, CPU weights. Under this mode they raise.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class WrongDevice(AssertionError):
    """An operation read or made a tensor that is not on the step's device."""


class OneDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch declares no types
    """Rejects any operation with a tensor input or output on another device."""

    def __init__(self, device: str = "meta") -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch declares no types
        self._type = device

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        self._check(func, "reads", (args, kwargs))
        result = func(*args, **kwargs)
        self._check(func, "makes", result)
        return result

    def _check(self, func: object, verb: str, values: object) -> None:
        leaves: Iterable[object] = tree_leaves(values)
        for leaf in leaves:
            if isinstance(leaf, Tensor) and leaf.device.type != self._type:
                raise WrongDevice(
                    f"{func} {verb} a tensor {tuple(leaf.shape)} on {leaf.device}, not {self._type}"
                )


def ints(*shape: int) -> Tensor:
    """An int64 input of a step on the meta device."""
    return torch.zeros(shape, dtype=torch.int64, device="meta")
