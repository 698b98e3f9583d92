"""Golden tensors and the weights that made them: name, shape and case seed → values.

The weights follow rules on the parameter's name (see `rule`), so they are regenerated, never
stored.
"""

import json
import math
import os
import re
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(os.environ.get("PARITY_DIR") or Path(__file__).parents[1] / "golden")

# Name pattern → (offset, factor) of the normal value; the first match wins.
AFFINE = (
    (r"mel2wav\.conv_post\..*original0", 0.4, 0.04),
    (r"mel2wav\.conv_post\.bias", -1.5, 0.1),
    (r"mel2wav\.f0_predictor\.condnet\..*original0", 2.0, 0.2),
    (r"mel2wav\.f0_predictor\.classifier\.weight", 0.0, 1.0),
    (r"mel2wav\.f0_predictor\.classifier\.bias", -80.0, 0.0),
    (r".*\.parametrizations\.weight\.original0", 0.95, 0.095),
    (r"flow\.encoder\.(up_)?embed\.out\.1\.weight", 0.06, 0.006),
    (r"flow\.encoder\.(up_)?embed\.out\.1\.bias", 0.0, 0.01),
    (r"speech_head\.weight", 0.0, 0.09),
    (r".*\.alpha", 1.0, 0.1),
    (r".*(text_emb|speech_emb|input_embedding)\.weight", 0.0, 1.0),
    (r".*(pos_emb\.emb|wpe)\.weight", 0.0, 0.3),
)


@cache
def manifest() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    return loaded


def seeded(name: str, shape: tuple[int, ...]) -> Tensor:
    """The value of one parameter, float32."""
    seed = zlib.crc32(name.encode()) + manifest()["case_seed"]
    normal = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, dtype=np.float32)
    offset, factor = rule(name, shape)
    return torch.from_numpy(np.float32(offset) + np.float32(factor) * normal)


def rule(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Offset and factor of a parameter's normal value."""
    for pattern, offset, factor in AFFINE:
        if re.fullmatch(pattern, name):
            return offset, factor
    if len(shape) >= 2:
        return 0.0, 1 / math.sqrt(math.prod(shape[1:]))
    return (1.0, 0.1) if name.endswith(".weight") else (0.0, 0.1)


def weights(model: str, *, prefix: str = "", unused: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """All parameters of a model under `prefix`, which is cut off."""
    entry = manifest()["models"][model]
    keys: dict[str, Mapping[str, Any]] = dict(entry.get("keys", {}))
    if "same_as" in entry:
        keys = dict(manifest()["models"][entry["same_as"]]["keys"])
        for name in entry["absent"]:
            del keys[name]
        keys.update(entry["different_or_extra"])
    return {
        name.removeprefix(prefix): seeded(name, tuple(info["shape"]))
        for name, info in keys.items()
        if name.startswith(prefix) and name not in unused
    }


class Group:
    """The arrays of one group, and the comparison at a fraction of each array's standard
    deviation.
    """

    def __init__(self, name: str) -> None:
        self.facts: dict[str, Any] = manifest()["groups"][name]["facts"]
        self._arrays = manifest()["groups"][name]["arrays"]
        self._tensors = load_file(FOLDER / f"{name}.safetensors")

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def check(self, name: str, ours: Tensor, tolerance: float = 1e-4) -> None:
        """Assert that `ours` is the reference's array within `tolerance` standard deviations."""
        theirs = self[name]
        assert ours.shape == theirs.shape, f"{name}: shape {ours.shape}, reference {theirs.shape}"
        error = (ours - theirs).abs().max().item() / self._arrays[name]["std"]
        assert error <= tolerance, f"{name} is {error:.2e} standard deviations off"
