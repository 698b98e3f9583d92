"""The name of a precision → the weights of all stages in it, but for what needs more.

Kept as they are: the F0 predictor (float64: its integral is the phase), the harmonic source, both
Fourier transforms, the solver's sum, sampling, and every table of positions.
"""

from collections.abc import Iterable

import torch
from torch import nn

from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.vocoder import HiFT
from chatterbox.t3.predictor import TokenPredictor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def set_precision(t3: TokenPredictor, flow: Flow, vocoder: HiFT, name: str) -> None:
    """Change the weights in place. Buffers stay: they are tables and state."""
    dtype = DTYPES[name]
    kept = {
        id(weight)
        for part in (vocoder.f0_predictor, vocoder.m_source)
        for weight in part.parameters()
    }
    for weight in _weights(t3, flow, vocoder):
        if id(weight) not in kept and weight.dtype != dtype:
            weight.data = weight.data.to(dtype)


def _weights(*stages: nn.Module) -> Iterable[nn.Parameter]:
    return (weight for stage in stages for weight in stage.parameters())
