"""On a real device: no step synchronises, copies from pageable memory or allocates; replays equal
calls on every rung, after resets, and at any lag.

`make gpu-check` runs these where there is a GPU. The CPU's share of the proof is
tests/model/test_device_guard.py and tests/model/test_captured.py.
"""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from chatterbox.api import PcmChunk, SlotIndex
from chatterbox.config import ModelConfig
from chatterbox.device.backend import CudaGraphs, EagerCuda
from chatterbox.engine import ChatterboxEngine
from tests.gpu.rungs import largest_difference
from tests.gpu.steps import stage_calls
from tests.model.random_engine import CONFIG, LLAMA, segment
from tests.model.test_captured import TEXTS, crowded_engine, joined, speak_crowd

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
BOTH = pytest.mark.parametrize("config", [CONFIG, LLAMA], ids=["gpt2", "llama"])
TOLERANCE = 1e-4
"""Of samples and state. Captured kernels are those of the calls; cuDNN may choose another one."""
SLOTS = [SlotIndex(0), SlotIndex(1), SlotIndex(2)]


def _captured(config: ModelConfig = CONFIG, *, lag: int = 1) -> ChatterboxEngine:
    device = torch.device("cuda")
    engine = crowded_engine(config, backend=CudaGraphs(device), lag=lag, device=device)
    engine.warm_up()
    return engine


def _eager(config: ModelConfig = CONFIG) -> ChatterboxEngine:
    device = torch.device("cuda")
    return crowded_engine(config, backend=EagerCuda(device), lag=0, device=device)


@contextmanager
def _no_synchronisation() -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _busy(engine: ChatterboxEngine) -> None:
    """Three slots in the middle of their speech."""
    for slot in SLOTS:
        engine.start(slot, segment(slot, TEXTS[2], seed=slot))
    for _ in range(4):
        engine.step(SLOTS)


@BOTH
@pytest.mark.parametrize("lag", [0, 1, 2])
def test_steady_state_never_synchronises(config: ModelConfig, lag: int) -> None:
    """One hidden `.item()` or pageable copy stalls every session on the device. Windows of all
    sizes, and an admission in the middle.
    """
    engine = _captured(config, lag=lag)
    _busy(engine)
    events = []
    with _no_synchronisation():
        for _ in range(30):
            events += engine.step(SLOTS)
        engine.release(SLOTS[1])
        engine.start(SLOTS[1], segment(9, TEXTS[0]))
        for _ in range(30):
            events += engine.step(SLOTS)
    assert sum(isinstance(event, PcmChunk) for event in events) > 6


@BOTH
def test_steady_state_copies_from_pinned_memory_only(config: ModelConfig) -> None:
    """A pageable copy waits for the device; the profiler names it so."""
    engine = _captured(config)
    _busy(engine)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(20):
            engine.step(SLOTS)
        torch.cuda.synchronize()
    counts = {event.key: event.count for event in profiler.key_averages() if "Memcpy" in event.key}
    assert not [name for name in counts if "Pageable" in name], counts
    to_device = sum(count for name, count in counts.items() if "HtoD" in name)
    assert 0 < to_device <= 20, counts  # one a step


@BOTH
def test_steady_state_allocates_nothing(config: ModelConfig) -> None:
    """The pool is full after warm-up: an allocation a step would end in fragments, hours later."""
    engine = _captured(config)
    _busy(engine)
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    for _ in range(60):
        engine.step(SLOTS)
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


@BOTH
@pytest.mark.parametrize("lag", [0, 1, 2])
def test_captured_is_eager(config: ModelConfig, lag: int) -> None:
    """The same crowd through both: slots are reused, batches shrink and grow."""
    captured, eager = _captured(config, lag=lag), _eager(config)
    heard, wanted = speak_crowd(captured), speak_crowd(eager)
    assert heard.keys() == wanted.keys()
    for key, events in wanted.items():
        expected, found = joined(events), joined(heard[key])
        assert len(expected) == len(found)
        assert np.abs(expected - found).max(initial=0.0) < TOLERANCE
    for stage in captured.stages.captured:
        assert stage.eager_runs == 0, stage.name
        assert sum(stage.replays.values()) > 3


@BOTH
def test_every_rung_is_eager(config: ModelConfig) -> None:
    """Buffers and results of each capture against the same calls from the same state."""
    worst, count = largest_difference(_captured(config))
    assert worst < TOLERANCE
    assert count > 15


@contextmanager
def _compiler_log() -> Iterator[list[str]]:
    """What torch.compile says about graphs that it could not capture."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler, logger = Lines(level=logging.DEBUG), logging.getLogger("torch")
    torch._logging.set_logs(perf_hints=True, cudagraphs=True)  # type: ignore[attr-defined]  # undeclared
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        torch._logging.set_logs()  # type: ignore[attr-defined]  # as above


@pytest.mark.skipif(shutil.which("cc") is None, reason="torch.compile needs a C compiler")
@pytest.mark.filterwarnings("default")  # of the compiler, about itself
@BOTH
@pytest.mark.parametrize("stage", ["t3_decode", "flow", "vocoder"])
def test_torch_compile_skips_no_graph(config: ModelConfig, stage: str) -> None:
    """The fault of the server that this project answers: "skipping cudagraphs due to cpu device".
    The same modules under the same mode must log none of its kind.
    """
    engine = _eager(config)
    call: Callable[[], Tensor | None] = stage_calls(engine, rows=2)[stage]
    torch.compiler.reset()
    compiled = torch.compile(call, mode="reduce-overhead")
    with _compiler_log() as lines, torch.inference_mode():
        for _ in range(4):
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # untyped
            compiled()
    assert not [line for line in lines if "skipping cudagraphs" in line and "cpu" in line]
    assert not [line for line in lines if "skipping cudagraphs" in line]
