"""The watermark on a real device: replays mark as the CPU does, and a step waits for nothing."""

import numpy as np
import pytest
import torch

from chatterbox.api import SlotIndex
from chatterbox.device.backend import CudaGraphs
from chatterbox.perth.embedder import load_embedder
from chatterbox.watermark import Watermarked
from tests.model.test_watermark import SPEECH, Recital, marked, segment

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
PROGRAMME = [(SPEECH[:20_000], 3840), (SPEECH[5_000:], 9600), (SPEECH[:9_000], 640)]


@pytest.mark.parametrize("lag", [0, 1])
def test_replays_mark_as_the_cpu_does(lag: int) -> None:
    """A convolution in less precision, or a graph that reads memory of yesterday."""
    device = torch.device("cuda")
    on_gpu = marked(PROGRAMME, load_embedder(), lag=lag, backend=CudaGraphs(device), device=device)
    on_cpu = marked(PROGRAMME, load_embedder())
    for place, (samples, _) in enumerate(PROGRAMME):
        added = on_cpu[place] - samples
        assert np.std(on_gpu[place] - on_cpu[place]) < 0.01 * np.std(added)


def test_launching_never_synchronises() -> None:
    """A pageable copy of the windows would stall every session on the device."""
    device = torch.device("cuda")
    engine = Watermarked(
        Recital(PROGRAMME), embedder=load_embedder(), backend=CudaGraphs(device), device=device
    )
    engine.warm_up()
    slots = [SlotIndex(0), SlotIndex(1)]
    for slot in slots:
        engine.start(slot, segment(int(slot)))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            engine.step(slots)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert engine.stage.captured.replays
    assert not engine.stage.captured.eager_runs
