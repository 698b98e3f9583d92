"""A CUDA graph for machines without one: what a function does to tensors is recorded once, and
replayed on the same memory.

Like the real one it runs no Python again: a number, a branch or a tensor that was rebound stays
what it was at the capture.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from chatterbox.device.backend import EagerHost


class FewSizes(EagerHost):
    """Plain calls, at the sizes that a GPU would capture."""

    few_sizes = True


class RecordedGraphs(FewSizes):
    """Captures on the CPU."""

    captures = True

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        """See `Backend`."""
        run()
        tape = _Tape()
        with tape:
            run()
        return tape.replay


class _Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch declares no types
    """Every operation with the very tensors that it read and made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch declares no types
        self._recorded: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        made = _tensors(result)
        is_view = not func._schema.is_mutable and bool(
            _memory(made) & _memory(_tensors((args, kwargs)))
        )
        if not is_view:
            self._recorded.append((func, args, kwargs, made))
        return result

    @torch.inference_mode()
    def replay(self) -> None:
        for func, args, kwargs, made in self._recorded:
            again = _tensors(func(*args, **kwargs))
            if not func._schema.is_mutable:
                for old, new in zip(made, again, strict=True):
                    old.copy_(new)


def _tensors(values: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _memory(tensors: list[Tensor]) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors} - {0}
