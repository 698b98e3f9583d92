"""A parameter's name, its shape and a case seed → its made-up value: weights that need no file.

The rules are those of the parity fixtures, whose numbers the reference implementation computed
with exactly these weights. Knows no module and no checkpoint layout.
"""

import math
import re
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torchaudio
from torch import Tensor

# Name pattern → (offset, factor) of the normal value; the first match wins.
AFFINE = (
    (r"similarity_weight", 10.0, 0.0),
    (r"similarity_bias", -5.0, 0.0),
    (r".*\.running_var", 1.0, 0.1),
    (r".*\.running_mean", 0.0, 0.1),
    (r"mel2wav\.conv_post\..*original0", 0.4, 0.04),
    (r"mel2wav\.conv_post\.bias", -1.5, 0.1),
    (r"mel2wav\.f0_predictor\.condnet\..*original0", 2.0, 0.2),
    (r"mel2wav\.f0_predictor\.classifier\.weight", 0.0, 1.0),
    (r"mel2wav\.f0_predictor\.classifier\.bias", -80.0, 0.0),
    (r".*\.parametrizations\.weight\.original0", 0.95, 0.095),
    (r"tokenizer\.encoder\.conv1\.weight", 0.0, 0.15),
    (r"tokenizer\.quantizer\._codebook\.project_down\.weight", 0.0, 0.008),
    (r"flow\.encoder\.(up_)?embed\.out\.1\.weight", 0.06, 0.006),
    (r"flow\.encoder\.(up_)?embed\.out\.1\.bias", 0.0, 0.01),
    (r"lstm\.weight_ih_l0", 0.0, 1.0),
    (r"lstm\.weight_hh_l\d", 0.0, 0.12),
    (r"speech_head\.weight", 0.0, 0.09),
    (r".*\.alpha", 1.0, 0.1),
    (r".*(text_emb|speech_emb|input_embedding)\.weight", 0.0, 1.0),
    (r".*(pos_emb\.emb|wpe)\.weight", 0.0, 0.3),
    (r".*\.pre_attention_query", 0.0, 0.2),
)
FILTERS = "tokenizer._mel_filters"
WINDOW = "tokenizer.window"


def rule(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Offset and factor of a parameter's normal value."""
    for pattern, offset, factor in AFFINE:
        if re.fullmatch(pattern, name):
            return offset, factor
    if len(shape) >= 2:
        # Minus zero is what changes no bit when added, the sign of a zero included.
        return -0.0, 1 / math.sqrt(math.prod(shape[1:]))
    return (1.0, 0.1) if name.endswith(".weight") else (0.0, 0.1)


def seeded(name: str, shape: tuple[int, ...], case_seed: int) -> Tensor:
    """The value of one entry of a state dict: float32, but for batch counters (int64, zero)."""
    if name.endswith(".num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if name == FILTERS:
        return _mel_filters(bands=shape[0], bins=shape[1])
    if name == WINDOW:
        return torch.hann_window(shape[0])
    seed = zlib.crc32(name.encode()) + case_seed
    normal = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, dtype=np.float32)
    if name.endswith(".running_var"):
        normal = np.abs(normal)
    offset, factor = rule(name, shape)
    return torch.from_numpy(np.float32(offset) + np.float32(factor) * normal)


def model_shapes(manifest: Mapping[str, Any], model: str) -> dict[str, tuple[int, ...]]:
    """Every entry of a model's file with its shape, from the manifest of a fixture set."""
    entry = manifest["models"][model]
    shapes: dict[str, tuple[int, ...]] = {}
    if "same_as" in entry:
        shapes = model_shapes(manifest, entry["same_as"])
        for name in entry["absent"]:
            del shapes[name]
    keys: Mapping[str, Any] = entry.get("keys") or entry["different_or_extra"]
    return shapes | {name: tuple(info["shape"]) for name, info in keys.items()}


def _mel_filters(*, bands: int, bins: int) -> Tensor:
    filters: Tensor = torchaudio.functional.melscale_fbanks(
        bins, 0.0, 8000.0, bands, 16_000, norm="slaney", mel_scale="slaney"
    )
    return filters.T.contiguous()
