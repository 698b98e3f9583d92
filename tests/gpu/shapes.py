"""The name of a variant → an engine of its sizes: random weights in official shapes, a tiny one, or
the bundled voice. Imports no more than torch, numpy and safetensors, but for the bundled voice.
"""

from dataclasses import replace

import torch

from chatterbox.config import ModelConfig, TextConfig
from chatterbox.device.backend import Backend, choose_backend
from chatterbox.device.precision import set_precision
from chatterbox.engine import ChatterboxEngine
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.vocoder import HiFT
from chatterbox.t3.build import build_t3
from chatterbox.t3.predictor import TokenPredictor
from chatterbox.variants import VARIANTS
from tests.model.random_engine import CONFIG, LLAMA, Letters, random_voice

TINY = {"tiny-gpt2": CONFIG, "tiny-llama": LLAMA}
SHAPES = ("turbo", "english", "nano", *TINY, "bundled")


def config_of(name: str) -> ModelConfig:
    """Letters are text tokens here, of which one takes about three speech tokens."""
    config = TINY.get(name) or VARIANTS[name]
    return replace(config, text=TextConfig(max_speech_per_text_token=3.0))


def random_weights(config: ModelConfig, device: torch.device) -> tuple[TokenPredictor, Flow, HiFT]:
    """T3, flow and vocoder on `device`, loud enough that nothing is taken for silence."""
    torch.manual_seed(1)
    with torch.device(device):
        t3, flow, vocoder = build_t3(config.t3), Flow(config.flow), HiFT(config.vocoder)
    with torch.no_grad():
        t3.speech_head.weight.mul_(12)
        vocoder.f0_predictor.classifier.bias.fill_(60)
        assert vocoder.conv_post.bias is not None
        vocoder.conv_post.bias[: config.vocoder.n_fft // 2 + 1].fill_(1.0)
    vocoder.f0_predictor.double()
    return t3.eval(), flow.eval(), vocoder.eval()


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def shaped_engine(
    name: str,
    *,
    num_slots: int,
    dtype: str = "float32",
    backend: Backend | None = None,
    eager: bool = False,
    lag: int | None = None,
) -> ChatterboxEngine:
    """Not warm yet."""
    if name == "bundled":
        from chatterbox.loading import load_engine  # its text front end is not on every machine

        return load_engine(None, num_slots=num_slots, dtype=dtype, eager=eager, lag=lag)
    device = best_device()
    config = config_of(name)
    weights = random_weights(config, device)
    set_precision(*weights, dtype)
    return ChatterboxEngine(
        config,
        *weights,
        voices={"one": random_voice(config)},
        front_end=Letters(),
        num_slots=num_slots,
        device=device,
        backend=backend or choose_backend(device, eager=eager),
        lag=lag,
    )
