"""A device in; functions that can be replayed, memory to copy from and to, and points in time out.

Two of them: one that calls functions as they are (the CPU, or `--eager`), and CUDA graphs. What is
above, `captured_stage.py` and `transfers.py`, is the same code for both.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

_log = logging.getLogger(__name__)


class Mark(Protocol):
    """A point in the work that was given to the device."""

    def wait(self) -> None:
        """Return when the device has come so far."""

    def is_over(self) -> bool: ...


class Backend(Protocol):
    """Where steps run. All calls come from the thread that owns the engine."""

    captures: bool
    few_sizes: bool
    """Each size costs a capture, so there are few of them; otherwise as many as can occur."""

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        """`run` once for good: what comes back does the same work on the same memory."""

    def host_buffer(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Memory of the host that the device can copy from and to without waiting."""

    def mark(self) -> Mark: ...

    def seconds_between(self, first: Mark, second: Mark) -> float:
        """Both must be over."""


@dataclass(frozen=True, slots=True)
class HostMark:
    """The CPU does what it is told at once."""

    at_s: float = field(default_factory=time.perf_counter)

    def wait(self) -> None:
        """See `Mark`."""

    def is_over(self) -> bool:
        return True


class EagerHost:
    """The CPU: everything is called as it is."""

    captures = False
    few_sizes = False

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        """See `Backend`."""
        return run

    def host_buffer(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """See `Backend`."""
        return torch.zeros(tuple(shape), dtype=dtype, device="cpu")

    def mark(self) -> Mark:
        return HostMark()

    def seconds_between(self, first: Mark, second: Mark) -> float:
        """See `Backend`."""
        assert isinstance(first, HostMark)
        assert isinstance(second, HostMark)
        return second.at_s - first.at_s


class CudaMark:
    """An event of the current stream."""

    def __init__(self) -> None:
        self.event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # untyped
        self.event.record()

    def wait(self) -> None:
        """See `Mark`."""
        self.event.synchronize()

    def is_over(self) -> bool:
        return bool(self.event.query())  # type: ignore[no-untyped-call]  # untyped


class EagerCuda:
    """A GPU that is told each operation by itself: to look for faults, and to compare with."""

    captures = False
    few_sizes = True

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        """See `Backend`."""
        return run

    def host_buffer(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """See `Backend`."""
        return torch.zeros(tuple(shape), dtype=dtype, device="cpu", pin_memory=True)

    def mark(self) -> Mark:
        return CudaMark()

    def seconds_between(self, first: Mark, second: Mark) -> float:
        """See `Backend`."""
        assert isinstance(first, CudaMark)
        assert isinstance(second, CudaMark)
        return float(first.event.elapsed_time(second.event)) / 1000


class CudaGraphs(EagerCuda):
    """A GPU that replays recorded graphs, all in one pool of memory."""

    captures = True

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # untyped

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        """See `Backend`. The call before the capture loads kernels and makes workspaces, which a
        capture may not; both use one stream, because workspaces belong to it.
        """
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            run()
        torch.cuda.current_stream(self.device).wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads of the process may use CUDA (a metrics page asking for free memory).
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            run()
        return graph.replay


def choose_backend(device: torch.device, *, eager: bool) -> Backend:
    """Graphs where there is a GPU, unless told otherwise."""
    if device.type != "cuda":
        return EagerHost()
    if eager:
        _log.warning(
            "--eager: the GPU is told each operation by itself, which is many times slower"
        )
        return EagerCuda(device)
    return CudaGraphs(device)
