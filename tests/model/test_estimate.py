"""`--dry-run`: what it says is what loading does."""

from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
from safetensors.torch import load_file, save_file

from chatterbox.checkpoint import CheckpointError
from chatterbox.estimate import FLOAT_BYTES, SPARE_BYTES, estimate
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
    assert found.weights_bytes == pytest.approx(held, abs=FLOAT_BYTES)
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
