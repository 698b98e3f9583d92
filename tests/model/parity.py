"""Numbers of the reference implementation, to compare with, and the weights that made them.

The folder is the environment variable PARITY_DIR; else `../shared/parity` beside the repository,
if it is there; else the small set in `tests/golden`. Nothing here knows the sizes, texts or seed of
one set: they are read from its manifest. A set may lack groups; their tests are then skipped.
"""

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tools.seeded_weights import model_shapes, seeded

REPOSITORY = Path(__file__).parents[2]
TOLERANCE = 1e-4
"""Largest error, in standard deviations of the array; the reference itself varies by a tenth."""
LOOSE_TOLERANCE = 3e-2
"""For what follows from the running sum of a predicted F0, whose errors add up."""
LOOSE = {"end_to_end": ("source", "wav")}


def _folder() -> Path:
    chosen = os.environ.get("PARITY_DIR")
    if chosen:
        return Path(chosen)
    beside = REPOSITORY.parent / "shared" / "parity"
    return beside if (beside / "manifest.json").is_file() else REPOSITORY / "tests" / "golden"


FOLDER = _folder()


@cache
def manifest() -> dict[str, Any]:
    loaded: dict[str, Any] = read_json("manifest.json")
    return loaded


def read_json(name: str) -> Any:
    """A JSON file of the set; the test is skipped if this set lacks it."""
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"{FOLDER} has no {name}")
    return json.loads(path.read_text(encoding="utf-8"))


def weights(model: str, *, prefix: str = "", unused: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """All entries of a model's official file under `prefix`, which is cut off."""
    return {
        name.removeprefix(prefix): seeded(name, shape, manifest()["case_seed"])
        for name, shape in model_shapes(manifest(), model).items()
        if name.startswith(prefix) and name not in unused
    }


def seed_module(module: torch.nn.Module, *, prefix: str = "") -> None:
    """Fill any module with the weights that its own names stand for; `prefix` is what the official
    file puts before them.
    """
    module.load_state_dict(
        {
            name: seeded(prefix + name, tuple(tensor.shape), manifest()["case_seed"])
            for name, tensor in module.state_dict().items()
        }
    )


class Group:
    """The arrays of one group by name, its facts, and the comparison."""

    def __init__(self, name: str) -> None:
        path = FOLDER / f"{name}.safetensors"
        if name not in manifest()["groups"] or not path.is_file():
            pytest.skip(f"{FOLDER} has no group {name}")
        self.name = name
        self.facts: dict[str, Any] = manifest()["groups"][name]["facts"]
        self._arrays = manifest()["groups"][name]["arrays"]
        self._tensors = load_file(path)

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def assert_close(self, name: str, ours: Tensor, tolerance: float | None = None) -> None:
        """`ours` is the reference's array: integers exactly, floats within `tolerance` standard
        deviations of the array (default: what the fixtures' README asks for).
        """
        theirs = self[name]
        assert ours.shape == theirs.shape, f"{name}: shape {ours.shape}, reference {theirs.shape}"
        if not theirs.is_floating_point():
            assert torch.equal(ours.to(theirs.dtype), theirs), f"{name}: {ours} is not {theirs}"
            return
        # An array of equal values has no spread: its size is then the measure.
        scale = self._arrays[name]["std"] or theirs.abs().max().item()
        error = (ours.double() - theirs.double()).abs().max().item()
        allowed = self.tolerance(name) if tolerance is None else tolerance
        assert error <= allowed * scale, f"{name} is {error / scale:.2e} standard deviations off"

    def tolerance(self, name: str) -> float:
        """What the fixtures' README allows for this array."""
        loose = name.startswith(LOOSE.get(self.name, ("\0",)))
        return LOOSE_TOLERANCE if loose else TOLERANCE
