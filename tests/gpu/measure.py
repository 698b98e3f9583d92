"""Calls in, seconds out: medians, on a device that works while the host goes on; and what a GPU or
a CPU can do at best.
"""

import gc
import statistics
import time
from collections.abc import Callable, Sequence

import torch


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(
    call: Callable[[], object], device: torch.device, *, repeats: int, warm: int = 3, batch: int = 1
) -> float:
    """Median of one call; `batch` calls are launched between two looks at the clock."""
    with torch.inference_mode():
        for _ in range(warm):
            call()
        taken = []
        for _ in range(repeats):
            synchronise(device)
            start = time.perf_counter()
            for _ in range(batch):
                call()
            synchronise(device)
            taken.append((time.perf_counter() - start) / batch)
    return statistics.median(taken)


def bandwidth(device: torch.device, *, num_bytes: int) -> float:
    """Bytes a second that the device reads and writes, by copying."""
    source = torch.zeros(num_bytes // 4, device=device)
    target = torch.empty_like(source)
    return 2 * num_bytes / seconds(lambda: target.copy_(source), device, repeats=5)


def device_facts(device: torch.device) -> dict[str, object]:
    """What a figure was measured on."""
    facts: dict[str, object] = {"device": "cpu", "torch": torch.__version__}
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
        facts["memory_gib"] = round(torch.cuda.max_memory_reserved(device) / 2**30, 2)
    return facts


def forget(device: torch.device) -> None:
    """Give memory of the engine before back, and start its peak anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def percentiles(values: Sequence[float], *, digits: int = 2) -> dict[str, float]:
    """p50, p95 and p99 by rank."""
    ordered = sorted(values)
    return {
        f"p{share}": round(ordered[min(len(ordered) - 1, len(ordered) * share // 100)], digits)
        for share in (50, 95, 99)
    }
