"""A checkpoint folder → modules with its weights, strictly: every tensor is loaded, or named in
one of two tables.

Files are safetensors. Names are those of the official checkpoints; weight norm is folded while
loading. Raises `CheckpointError` that names the file and the tensor.
"""

import re
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from chatterbox.config import ModelConfig
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.vocoder import HiFT
from chatterbox.t3.model import T3

_M = TypeVar("_M", bound=nn.Module)

T3_FILES = ("t3.safetensors", "t3_turbo_v1.safetensors", "t3_nano_v1.safetensors")
S3GEN_FILES = ("s3gen.safetensors", "s3gen_meanflow.safetensors")

UNUSED = re.compile(
    r"tfmr\.wte\.weight"  # GPT-2's own token table; T3 has its own embeddings
    r"|text_head\.weight"  # predicts text, which nobody reads
    r"|(speaker_encoder|tokenizer)\..*"  # compute voices from clips, not needed to speak
)
GAIN = ".parametrizations.weight.original0"
DIRECTION = ".parametrizations.weight.original1"


class CheckpointError(ValueError):
    """A checkpoint cannot be loaded; the message says which file and what to do."""


def load_t3(folder: Path, config: ModelConfig) -> T3:
    """The token predictor, float32, in evaluation mode."""
    path = _existing(folder, T3_FILES)
    return _filled(T3(config.t3), _read(path), path)


def load_s3gen(folder: Path, config: ModelConfig) -> tuple[Flow, HiFT]:
    """The flow and the vocoder, float32 (the F0 predictor float64), in evaluation mode."""
    path = _existing(folder, S3GEN_FILES)
    tensors = _read(path)
    unknown = sorted(name for name in tensors if not name.startswith(("flow.", "mel2wav.")))
    if unknown:
        raise CheckpointError(f"{path}: unexpected tensor {unknown[0]}; is it an S3Gen checkpoint?")
    flow = _filled(Flow(config.flow), _under("flow.", tensors), path)
    vocoder = _filled(HiFT(config.vocoder), _under("mel2wav.", tensors), path)
    vocoder.f0_predictor.double()
    return flow, vocoder


def fold_weight_norm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replace each gain g and direction v by the weight g·v/‖v‖, the norm over all axes but the
    first.
    """
    folded = {}
    for name, tensor in tensors.items():
        if name.endswith(GAIN):
            direction = tensors[name.removesuffix(GAIN) + DIRECTION].float()
            norm = torch.linalg.vector_norm(
                direction, dim=tuple(range(1, direction.dim())), keepdim=True
            )
            folded[name.removesuffix(GAIN) + ".weight"] = tensor.float() * direction / norm
        elif not name.endswith(DIRECTION):
            folded[name] = tensor
    return folded


def _existing(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder}: no {' or '.join(names)}; give the folder of a checkpoint")


def _read(path: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({error}); get it again"
        ) from None
    return fold_weight_norm(
        {name: tensor for name, tensor in tensors.items() if not UNUSED.fullmatch(name)}
    )


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _filled(module: _M, tensors: dict[str, Tensor], path: Path) -> _M:
    wanted = module.state_dict()
    missing, extra = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    wrong = [
        name for name in wanted if name in tensors and wanted[name].shape != tensors[name].shape
    ]
    for problem, names in (
        ("is missing", missing),
        ("is not part of the model", extra),
        ("has another shape", wrong),
    ):
        if names:
            raise CheckpointError(
                f"{path}: tensor {names[0]} {problem} ({len(names)} such); does config.json match?"
            )
    module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return module.eval().requires_grad_(False)
