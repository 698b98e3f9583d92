"""Nothing in a step is born on the CPU: the fault that kept the seed of this project from CUDA
graphs cannot occur.
"""

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MethodType

import pytest
import torch
from torch import Tensor, nn

from chatterbox.config import FlowConfig, ModelConfig
from chatterbox.device.precision import set_precision
from chatterbox.s3gen.encoder import UpsampleConformer, build_relative_positions
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.flow_step import FlowStep
from chatterbox.s3gen.noise import NoiseBuffers
from chatterbox.s3gen.vocoder import HiFT
from chatterbox.s3gen.vocoder_step import VocoderStep
from chatterbox.t3.decoder import T3Decoder
from chatterbox.t3.predictor import TokenPredictor
from tests.model.device_guard import OneDevice, WrongDevice, ints
from tests.model.random_engine import CONFIG, LLAMA, full_attention, random_modules

MEANFLOW = replace(CONFIG, flow=replace(CONFIG.flow, meanflow=True))
LEARNED_FROM = replace(CONFIG, t3=replace(CONFIG.t3, speech_positions_from=300))
GUIDED = replace(CONFIG, flow=replace(CONFIG.flow, guidance=0.7))
SLOTS = 3

_WHOLE = replace(CONFIG.flow, block_causal=False, whole_prefix_tokens=40)
_FADED = replace(CONFIG.vocoder, fade_in=True)
SMALL_VARIANTS = {
    "turbo-nano": replace(CONFIG, flow=replace(_WHOLE, meanflow=True), vocoder=_FADED),
    "english-multilingual": replace(LLAMA, flow=replace(_WHOLE, guidance=0.7), vocoder=_FADED),
    "bundled": replace(
        LEARNED_FROM,
        vocoder=replace(CONFIG.vocoder, aligned_harmonics=True, directed_phase=True),
    ),
}
"""Every mechanism of each variant, at a size for a CPU."""


def _modules(config: ModelConfig, dtype: str) -> tuple[TokenPredictor, Flow, HiFT]:
    modules = random_modules(config)
    set_precision(*modules, dtype)
    return modules


def _run_t3(config: ModelConfig, kind: type[T3Decoder] = T3Decoder, dtype: str = "float32") -> None:
    t3, _, _ = _modules(config, dtype)
    decoder = kind(t3, SLOTS, top_k=20).to("meta")
    weights = t3.speech_head.weight
    speaker = torch.zeros(1, config.t3.speaker_channels, device="meta", dtype=weights.dtype)
    with OneDevice(), torch.inference_mode():
        condition = t3.embed_condition(speaker, ints(1, config.t3.prompt_tokens))
        decoder.prefill(ints(1), condition, ints(1, 32), ints(1))
        decoder.decode(torch.zeros(2, dtype=torch.bool, device="meta"), 64)


def _flow_step(config: ModelConfig, dtype: str = "float32") -> FlowStep:
    _, flow, _ = _modules(config, dtype)
    return FlowStep(flow, NoiseBuffers(config), config, SLOTS)


def _run_flow(step: FlowStep) -> None:
    step = step.to("meta")
    with OneDevice(), torch.inference_mode():
        step(ints(2, 5), ints(SLOTS, CONFIG.t3.max_speech_tokens + 1), 40)


def _run_vocoder(config: ModelConfig, dtype: str = "float32") -> None:
    _, _, vocoder = _modules(config, dtype)
    step = VocoderStep(vocoder, NoiseBuffers(config), config, SLOTS).to("meta")
    mel = torch.zeros(SLOTS, 2 * config.t3.max_speech_tokens + 1, 80, device="meta")
    with OneDevice(), torch.inference_mode():
        step(ints(2, 5), mel, 32)


@pytest.mark.parametrize("config", [CONFIG, MEANFLOW, GUIDED, full_attention()])
def test_flow_stays_on_its_device(config: ModelConfig) -> None:
    """Encoder, masks, noise, solver and commit, for each kind of flow."""
    _run_flow(_flow_step(config))


@pytest.mark.parametrize("config", [CONFIG, LEARNED_FROM, LLAMA])
def test_t3_stays_on_its_device(config: ModelConfig) -> None:
    """Conditioning, prefill, decode, guidance and sampling in either order, for each kind of T3."""
    _run_t3(config)


def test_vocoder_stays_on_its_device() -> None:
    """F0, source, inverse STFT."""
    _run_vocoder(CONFIG)
    _run_vocoder(replace(CONFIG, vocoder=replace(CONFIG.vocoder, fade_in=True)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", SMALL_VARIANTS)
def test_every_stage_of_every_variant_stays_on_its_device(name: str, dtype: str) -> None:
    """What one variant alone does, or one precision, is as fatal to its capture."""
    config = SMALL_VARIANTS[name]
    _run_t3(config, dtype=dtype)
    _run_flow(_flow_step(config, dtype))
    _run_vocoder(config, dtype)


# The four defects of the seed's list, one mutant each. A guard that lets one pass guards nothing.


class _MovedPositions(UpsampleConformer):
    """Defect 1: the positional encoding is a plain tensor, moved at each call."""

    def __init__(self, config: FlowConfig, longest: int) -> None:
        super().__init__(config, longest)
        self.table = build_relative_positions(self.longest, config.encoder_channels)

    def _attend(self, blocks: nn.ModuleList, x: Tensor, block: Tensor) -> Tensor:
        del self._buffers["positions"]
        self._buffers["positions"] = self.table.to(x.device)
        return super()._attend(blocks, x, block)


def _moved_positions(step: FlowStep) -> None:
    step.flow.encoder = _MovedPositions(CONFIG.flow, CONFIG.flow.max_window_tokens)


def _mask_from_host_lengths(step: FlowStep) -> None:
    """Defect 2: a mask built on the CPU from Python lengths."""
    encode = step.flow.encode

    def mutant(_self: nn.Module, tokens: Tensor, block: Tensor) -> Tensor:
        lengths = torch.tensor([tokens.shape[1] - 3] * tokens.shape[0])
        valid = torch.arange(tokens.shape[1]) < lengths[:, None]
        return encode(tokens, block * valid)

    step.flow.encode = MethodType(mutant, step.flow)  # type: ignore[method-assign]  # a mutant


def _noise_on_host(step: FlowStep) -> None:
    """Defect 3: the noise lives on the CPU and is sliced per call."""
    noise, solve = torch.randn(1, 80, 400), step.flow.solve

    def mutant(
        _self: nn.Module,
        _noise: Tensor,
        block: Tensor,
        *,
        mu: Tensor,
        speaker: Tensor,
        cond: Tensor,
    ) -> Tensor:
        sliced = noise[:, :, : mu.shape[2]].expand_as(mu)
        return solve(sliced, block, mu=mu, speaker=speaker, cond=cond)

    step.flow.solve = MethodType(mutant, step.flow)  # type: ignore[method-assign]  # a mutant


def _pad_mask_without_device(step: FlowStep) -> None:
    """Defect 4: a pad mask that ignores the device of what it masks."""
    layer = step.flow.encoder.pre_lookahead_layer
    forward = layer.forward

    def mutant(_self: nn.Module, x: Tensor, valid: Tensor) -> Tensor:
        inside = torch.arange(x.shape[1])[None, :] < x.shape[1] - 3
        return forward(x, valid * inside)

    layer.forward = MethodType(mutant, layer)  # type: ignore[method-assign]  # a mutant


MUTANTS = (_moved_positions, _mask_from_host_lengths, _noise_on_host, _pad_mask_without_device)


@pytest.mark.parametrize("mutate", MUTANTS)
def test_guard_catches_each_defect(mutate: Callable[[FlowStep], None]) -> None:
    """Each defect of the list that started this project is caught."""
    step = _flow_step(CONFIG)
    mutate(step)
    with pytest.raises(WrongDevice):
        _run_flow(step)


class _WeightFromHost(T3Decoder):
    """The guidance weight is made on the CPU at each step, as the reference does."""

    def adjusted(self, logits: Tensor) -> Tensor:
        return logits * torch.tensor([0.5])


def test_guard_catches_a_guidance_weight_from_the_host() -> None:
    """The same list has one of T3's: a Python number that becomes a tensor in each step."""
    with pytest.raises(WrongDevice):
        _run_t3(LLAMA, _WeightFromHost)


# The lint: what a step must not even spell.

PACKAGE = Path(__file__).parents[2] / "chatterbox"
EAGER = {PACKAGE / "t3" / "alignment.py"}
"""Reads every step back by design, and is never part of a captured one."""
STEP_FILES = sorted(
    {
        *PACKAGE.glob("t3/*.py"),
        *PACKAGE.glob("s3gen/*.py"),
        PACKAGE / "perth" / "embedder.py",
        PACKAGE / "perth" / "spectrum.py",
        PACKAGE / "perth" / "stage.py",
        PACKAGE / "uniforms.py",
        PACKAGE / "device" / "captured_stage.py",
    }
    - EAGER
)
HOST_CALLS = {"to", "item", "cpu", "cuda", "numpy", "tolist", "from_numpy", "tensor", "as_tensor"}
FACTORIES = {"arange", "zeros", "ones", "full", "empty", "randn", "rand", "linspace", "eye"}


def _offences(source: str) -> list[str]:
    """Calls in steps that move data between host and device, or make tensors without saying where.

    Constructors and functions named `build…` run before any step and may.
    """
    found: list[str] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef):
            if node.name == "__init__" or node.name.lstrip("_").startswith("build"):
                return
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            placed = any(keyword.arg == "device" for keyword in node.keywords)
            if name in HOST_CALLS or (name in FACTORIES and not placed):
                found.append(f"line {node.lineno}: .{name}(…)")
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source))
    return found


@pytest.mark.parametrize("path", STEP_FILES, ids=lambda path: path.stem)
def test_step_files_spell_no_transfer(path: Path) -> None:
    """`.to(`, `.item(`, `torch.tensor(` and factories without a device stay out of the files of a
    step.
    """
    assert _offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    ["x.to(y.device)", "n.item()", "torch.tensor([1])", "torch.from_numpy(a)", "torch.arange(3)"],
)
def test_lint_finds_each_offence(line: str) -> None:
    """The lint sees every kind of call that it bans, and only outside constructors."""
    assert _offences(f"def forward(x):\n    return {line}\n")
    assert not _offences(f"def __init__(self):\n    self.x = {line}\n")
