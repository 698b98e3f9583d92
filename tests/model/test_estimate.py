"""`--dry-run`: what it says is what loading does."""

from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file, save_file

from chatterbox.checkpoint import CheckpointError
from chatterbox.estimate import SPARE_BYTES, TooManySlots, estimate, require_slots_fit
from chatterbox.loading import load_engine
from chatterbox.variants import BUNDLED


def test_it_says_what_loading_takes() -> None:
    """An operator sizes a machine by these numbers."""
    found = estimate(None, num_slots=3)
    engine = load_engine(None, num_slots=3)
    assert found.fixed_bytes + 3 * found.slot_bytes == engine.state_bytes
    stages = (engine.stages.t3, engine.stages.flow, engine.stages.vocoder)
    held = sum(
        weight.numel() * weight.element_size() for stage in stages for weight in stage.parameters()
    )
    assert found.weights_bytes == held
    assert list(found.voices) == list(engine.info.voices)


def test_slots_fit_as_long_as_memory_lasts() -> None:
    """One slot too many would end in an allocation that fails hours later."""
    found = estimate(None, num_slots=2)
    needed = found.weights_bytes + found.fixed_bytes + SPARE_BYTES
    tight = replace(found, available_bytes=needed + 2 * found.slot_bytes)
    assert (tight.slots_that_fit, tight.fits) == (2, True)
    tighter = replace(tight, available_bytes=tight.available_bytes - 1)
    assert (tighter.slots_that_fit, tighter.fits) == (1, False)
    assert "does NOT" in str(tighter)
    assert replace(found, available_bytes=0).slots_that_fit == 0


def test_it_finds_what_loading_would_trip_over(tmp_path: Path) -> None:
    """From headers alone, before gigabytes are read."""
    folder = copytree(BUNDLED, tmp_path / "copy")
    weights = load_file(folder / "t3.safetensors")
    del weights["speech_head.bias"]
    save_file(weights, folder / "t3.safetensors")
    with pytest.raises(CheckpointError, match=r"speech_head\.bias is missing"):
        estimate(str(folder), num_slots=1)


def test_fewer_bits_leave_room_for_more_slots() -> None:
    """Half of the weights and half of the keys and values, but not of what must stay exact."""
    exact, fewer = (estimate(None, num_slots=2, dtype=dtype) for dtype in ("float32", "bfloat16"))
    engine = load_engine(None, num_slots=2, dtype="bfloat16")
    assert fewer.fixed_bytes + 2 * fewer.slot_bytes == engine.state_bytes
    assert exact.weights_bytes / 2 < fewer.weights_bytes < 0.6 * exact.weights_bytes
    assert fewer.slot_bytes < exact.slot_bytes


def test_too_many_slots_are_refused_before_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the last slot's allocation fails only when its caches are made, minutes later."""
    require_slots_fit(None, num_slots=10**9, dtype="float32")  # no GPU: nothing to ask
    needed = estimate(None, num_slots=2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    memory = needed.weights_bytes + needed.fixed_bytes + SPARE_BYTES + 2**30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (memory, memory))
    found = estimate(None, num_slots=2)
    assert found.graphs_bytes > 0
    assert "captured steps" in str(found)
    require_slots_fit(None, num_slots=2, dtype="float32")
    with pytest.raises(TooManySlots, match=r"--slots 5000 needs more memory than a GPU has free"):
        require_slots_fit(None, num_slots=5000, dtype="float32")
