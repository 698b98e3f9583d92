"""A checkpoint folder → modules with its weights, strictly: every tensor of a file is loaded,
folded or dropped by the one table below, or it is an error.

Files are safetensors, with the names of the official checkpoints; nothing is renamed. Raises
`CheckpointError` that names the file and the tensor.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from chatterbox.config import ModelConfig
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.vocoder import HiFT
from chatterbox.t3.build import build_t3
from chatterbox.t3.predictor import TokenPredictor

_M = TypeVar("_M", bound=nn.Module)
Shape = tuple[int, ...]

LISTENERS = "s3gen to listen"
"""The kind of file that the models which hear a clip are read from."""
# Kind of file → what of it is not loaded, and why not.
DROPPED = {
    "t3 gpt2": {
        r"tfmr\.wte\.weight": "GPT-2's own token table; T3 has its own embeddings",
        r"text_head\.weight": "predicts text, which nobody reads",
    },
    "t3 llama": {
        r"tfmr\.embed_tokens\.weight": "Llama's own token table, eight rows that nothing looks up",
        r"text_head\.weight": "predicts text, which nobody reads",
    },
    "s3gen": {
        r"speaker_encoder\..*": "makes a voice of a clip; not needed to speak",
        r"tokenizer\..*": "makes a voice of a clip; not needed to speak",
    },
    LISTENERS: {
        r"(flow|mel2wav)\..*": "speaks; not needed to make a voice of a clip",
        r"tokenizer\.(_mel_filters|window)": "follow from a formula",
    },
    "voice encoder": {
        r"similarity_(weight|bias)": "compare speakers in training",
    },
}
# Folded: a gain g and a direction v become the weight g·v/‖v‖.
GAIN = ".parametrizations.weight.original0"
DIRECTION = ".parametrizations.weight.original1"
S3GEN_PARTS = ("flow.", "mel2wav.")


class CheckpointError(ValueError):
    """A checkpoint cannot be loaded; the message says which file and what to do."""


def t3_kind(config: ModelConfig) -> str:
    """The key of `DROPPED` for the token predictor's file."""
    return f"t3 {config.t3.backbone}"


def load_t3(folder: Path, config: ModelConfig) -> TokenPredictor:
    """The token predictor, float32, in evaluation mode."""
    path = folder / config.files.t3
    tensors = read(path, t3_kind(config))
    return filled(lambda: build_t3(config.t3), tensors, path)


def load_s3gen(folder: Path, config: ModelConfig) -> tuple[Flow, HiFT]:
    """The flow and the vocoder, float32 (the F0 predictor float64), in evaluation mode."""
    path = folder / config.files.s3gen
    tensors = fold_weight_norm(read(path, "s3gen"))
    refuse_strangers(tensors, path)
    flow = filled(lambda: Flow(config.flow), under("flow.", tensors), path)
    vocoder = filled(lambda: HiFT(config.vocoder), under("mel2wav.", tensors), path)
    vocoder.f0_predictor.double()
    return flow, vocoder


def fold_weight_norm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace each gain and direction by their weight; the norm is over all axes but the first."""
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


def kept(names: Sequence[str], kind: str) -> list[str]:
    """The names that the table does not drop."""
    return [
        name for name in names if not any(re.fullmatch(pattern, name) for pattern in DROPPED[kind])
    ]


def shapes(path: Path) -> dict[str, Shape]:
    """What a file holds, from its header alone."""
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def can_clone(folder: Path, config: ModelConfig) -> bool:
    """Whether a checkpoint holds the models that make a voice of a clip; reads headers alone."""
    if not (folder / config.files.voice_encoder).is_file():
        return False
    return bool(kept(list(shapes(folder / config.files.s3gen)), LISTENERS))


def read(path: Path, kind: str) -> dict[str, Tensor]:
    """The tensors of a file that are not dropped. They stay in the file until they are touched."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in kept(list(file.keys()), kind)}


@dataclass(frozen=True, slots=True)
class ModuleShapes:
    """What the modules of a config take, by name, as the files spell it once folded."""

    t3: dict[str, Shape]
    s3gen: dict[str, Shape]


def module_shapes(config: ModelConfig) -> ModuleShapes:
    """Built without memory."""
    with torch.device("meta"):
        parts = {"flow.": Flow(config.flow), "mel2wav.": HiFT(config.vocoder)}
        t3 = build_t3(config.t3)
    return ModuleShapes(
        _shapes_of(t3.state_dict()),
        {
            prefix + name: shape
            for prefix, module in parts.items()
            for name, shape in _shapes_of(module.state_dict()).items()
        },
    )


def folded_shapes(found: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shapes of a file's tensors once the weight norm is folded."""
    folded = {
        name.removesuffix(DIRECTION) + ".weight" if name.endswith(DIRECTION) else name: shape
        for name, shape in found.items()
    }
    return {name: shape for name, shape in folded.items() if not name.endswith(GAIN)}


def _shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def refuse_strangers(names: Collection[str], path: Path) -> None:
    """An S3Gen file has two parts that speak; anything else means that it is another file."""
    unknown = sorted(name for name in names if not name.startswith(S3GEN_PARTS))
    if unknown:
        raise CheckpointError(f"{path}: unexpected tensor {unknown[0]}; is it an S3Gen checkpoint?")


def under(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """What lies under a prefix, which is cut off."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def compare(wanted: Mapping[str, Shape], found: Mapping[str, Shape], path: Path) -> None:
    """Raises `CheckpointError` for the first tensor that is missing, left over or of another
    shape.
    """
    common = wanted.keys() & found.keys()
    for problem, names in (
        ("is missing", wanted.keys() - found.keys()),
        ("is not part of the model", found.keys() - wanted.keys()),
        ("has another shape", {name for name in common if wanted[name] != found[name]}),
    ):
        if names:
            raise CheckpointError(
                f"{path}: tensor {min(names)} {problem} ({len(names)} such); does the config match?"
            )


def filled(build: Callable[[], _M], tensors: Mapping[str, Tensor], path: Path) -> _M:
    """A module with exactly these weights, float32, for inference."""
    with _NoInitialisation():
        module = build()
    compare(_shapes_of(module.state_dict()), _shapes_of(tensors), path)
    # Assigned, not copied: a checkpoint of 2 GB is then in memory once.
    module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return module.eval().requires_grad_(False)


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; give the folder of a checkpoint") from None
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({error}); get it again"
        ) from None


class _NoInitialisation(TorchFunctionMode):
    """Modules are built without random first weights, which take longer to draw than real ones to
    read.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)
