"""The name of a GPU in, gauges of its memory and use out, by NVIDIA's own library; nothing where
that is not installed (`pip install nvidia-ml-py`). Knows no torch.
"""

import importlib
import importlib.util
import logging
from collections.abc import Callable, Mapping
from typing import Any

_log = logging.getLogger(__name__)


def gpu_gauges(gpu: str | None) -> Mapping[str, tuple[str, Callable[[], float]]]:
    """Name → (meaning, how to learn the value), for `Metrics.watch`."""
    if gpu is None or importlib.util.find_spec("pynvml") is None:
        return {}
    nvml: Any = importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(gpu)
    except nvml.NVMLError as error:
        _log.warning("no figures of the GPU %s: %s", gpu, error)
        return {}

    def asked(question: Callable[[], float]) -> Callable[[], float]:
        def answer() -> float:
            try:
                return question()
            except nvml.NVMLError:
                return float("nan")  # a page of metrics must not fail for a driver that is busy

        return answer

    return {
        "gpu_utilisation_ratio": (
            "Share of the time in which the GPU did something, whoever for.",
            asked(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100),
        ),
        "gpu_memory_used_bytes": (
            "Memory of the GPU in use, whoever by.",
            asked(lambda: float(nvml.nvmlDeviceGetMemoryInfo(handle).used)),
        ),
        "gpu_memory_bytes": (
            "Memory of the GPU.",
            asked(lambda: float(nvml.nvmlDeviceGetMemoryInfo(handle).total)),
        ),
    }
