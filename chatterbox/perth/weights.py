"""The installed package resemble-perth in, the weights of its networks out.

The package is found, not imported: importing it needs librosa and a setuptools that has gone, and
its networks mark whole files only.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

_FILE = Path("perth_net", "pretrained", "implicit", "perth_net_250000.pth.tar")
_SHA256 = "a15bce457ebc53ce5e6c9c3f11df78cf7ee2bf9cdab0a798902135b4c4027670"


class WatermarkUnavailable(ImportError):
    """The weights are not here, or are others; the text says what to do."""


def find_weights() -> Path:
    """Where the weights lie; what is there has been checked."""
    spec = find_spec("perth")
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        raise WatermarkUnavailable(
            "the watermark needs the package resemble-perth: `make watermark` installs it"
        )
    path = Path(folders[0]) / _FILE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256:
        raise WatermarkUnavailable(
            f"{path} is missing or not the file of resemble-perth 1.0.1: install that version"
        )
    return path


def load_weights(network: str) -> dict[str, Tensor]:
    """The weights of `network`, "encoder" or "decoder", on the CPU.

    The file is a pickle, as that package ships it; only the one whose hash is above is opened, and
    of it tensors alone.
    """
    saved = torch.load(find_weights(), map_location="cpu", weights_only=True)
    prefix = network + "."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in saved["model"].items()
        if name.startswith(prefix)
    }
