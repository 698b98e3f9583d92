"""What an engine counts, on the page; and the GPU's own figures, where there are any."""

import importlib.machinery
import importlib.util
import math
import sys
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace

import pytest

from chatterbox.api import EngineStats, MeasuredEngine, StageStats
from chatterbox.sine import SineEngine
from daemon.engine.fault_barrier import FaultBarrier
from daemon.engine.stepper import EngineReport
from daemon.watching.gpu import gpu_gauges
from daemon.watching.metrics import Metrics


def _report(*stages: StageStats) -> EngineReport:
    stats = EngineStats(speech_tokens=7, stages=stages, device_bytes=1024)
    return EngineReport(steps_s=(0.01,), num_busy=1, num_waiting=0, stats=stats)


def test_stats_add_up_on_the_page() -> None:
    """Reports hold what is new; the page what has been."""
    metrics = Metrics()
    stage = StageStats(name="flow", seconds=(0.004, 0.1), replays={(8, 261): 3}, eager_runs=2)
    metrics.note_engine(_report(stage))
    metrics.note_engine(_report(stage))
    metrics.note_engine(EngineReport(steps_s=(), num_busy=0, num_waiting=0))
    page = metrics.page().decode()
    for line in (
        "chatterboxd_speech_tokens_total 14.0",
        'chatterboxd_graph_replays_total{rows="8",size="261",stage="flow"} 6.0',
        'chatterboxd_eager_runs_total{stage="flow"} 4.0',
        'chatterboxd_stage_seconds_count{stage="flow"} 4.0',
        'chatterboxd_stage_seconds_bucket{le="0.005",stage="flow"} 2.0',
        "chatterboxd_device_memory_bytes 1024.0",
    ):
        assert line in page.splitlines()


class _Counting(SineEngine):
    def take_stats(self) -> EngineStats:
        return EngineStats(speech_tokens=1, stages=(), device_bytes=0)


def test_the_barrier_passes_counts_on() -> None:
    """Wrapped, an engine that counts must go on doing so; one that does not is no error."""
    assert isinstance(FaultBarrier(_Counting()), MeasuredEngine)
    assert FaultBarrier(_Counting()).take_stats() == _Counting().take_stats()
    assert FaultBarrier(SineEngine()).take_stats() is None


class _Error(Exception):
    """What the library raises."""


def _library(monkeypatch: pytest.MonkeyPatch, *, known: Sequence[str], is_broken: bool) -> None:
    module = ModuleType("pynvml")

    def handle(gpu: str) -> int:
        if gpu not in known:
            raise _Error("not found")
        return 3

    def memory(device: int) -> SimpleNamespace:
        if is_broken:
            raise _Error("driver is busy")
        return SimpleNamespace(used=5, total=device)

    vars(module).update(
        NVMLError=_Error,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=handle,
        nvmlDeviceGetUtilizationRates=lambda _: SimpleNamespace(gpu=40),
        nvmlDeviceGetMemoryInfo=memory,
    )
    module.__spec__ = importlib.machinery.ModuleSpec("pynvml", None)
    monkeypatch.setitem(sys.modules, "pynvml", module)


def test_gpu_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the GPU that the engine names, not of the first one."""
    _library(monkeypatch, known=["GPU-b"], is_broken=False)
    found = {name: ask() for name, (_, ask) in gpu_gauges("GPU-b").items()}
    assert found == {
        "gpu_utilisation_ratio": 0.4,
        "gpu_memory_used_bytes": 5.0,
        "gpu_memory_bytes": 3.0,
    }
    assert gpu_gauges("GPU-a") == {}
    assert gpu_gauges(None) == {}


def test_a_busy_driver_does_not_cost_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of metrics that fails is an alarm for the wrong reason."""
    _library(monkeypatch, known=["GPU-b"], is_broken=True)
    gauges = gpu_gauges("GPU-b")
    assert math.isnan(gauges["gpu_memory_bytes"][1]())
    metrics = Metrics()
    metrics.watch(gauges)
    assert "chatterboxd_gpu_memory_bytes NaN" in metrics.page().decode()


def test_no_library_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is optional."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert gpu_gauges("GPU-b") == {}
