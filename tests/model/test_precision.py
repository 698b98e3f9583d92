"""Weights in fewer bits: every stage of every variant runs, and what must be exact stays."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from chatterbox.config import ModelConfig
from chatterbox.device.precision import DTYPES, set_precision
from chatterbox.engine import ChatterboxEngine
from tests.model.random_engine import (
    CONFIG,
    LLAMA,
    Letters,
    random_modules,
    random_voice,
    segment,
    speak,
)
from tests.model.recorded import RecordedGraphs

GUIDED = replace(LLAMA, flow=replace(LLAMA.flow, guidance=0.7))
MEANFLOW = replace(CONFIG, flow=replace(CONFIG.flow, meanflow=True))


def _engine(config: ModelConfig, dtype: str) -> ChatterboxEngine:
    modules = random_modules(config)
    set_precision(*modules, dtype)
    return ChatterboxEngine(
        config,
        *modules,
        voices={"one": random_voice(config)},
        front_end=Letters(),
        num_slots=2,
        backend=RecordedGraphs(),
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("config", [MEANFLOW, GUIDED], ids=["gpt2-meanflow", "llama-guided"])
def test_whole_engine_in_fewer_bits(config: ModelConfig, dtype: str) -> None:
    """One table in another precision than what it meets is an error that only the GPU would see;
    one that silently promotes gives the saving away.
    """
    engine = _engine(config, dtype)
    engine.warm_up()
    samples = speak(engine, 0, segment(1, "hello there"))
    assert len(samples) > 10_000
    assert np.isfinite(samples).all()
    assert engine.stages.t3.cache.keys.dtype is DTYPES[dtype]
    assert sum(stage.eager_runs for stage in engine.stages.captured) == 0


def test_what_must_stay_exact_stays() -> None:
    """The integral of F0 is the phase: in fewer bits it drifts for good."""
    t3, flow, vocoder = random_modules(CONFIG)
    set_precision(t3, flow, vocoder, "bfloat16")
    assert vocoder.f0_predictor.classifier.weight.dtype is torch.float64
    assert vocoder.m_source.l_linear.weight.dtype is torch.float32
    assert vocoder.fourier.synthesis.dtype is torch.float32
    others = {weight.dtype for module in (t3, flow) for weight in module.parameters()}
    assert others == {torch.bfloat16}


def test_float32_changes_nothing() -> None:
    """The default must not touch a checkpoint's weights."""
    weights = [
        weight.clone() for module in random_modules(CONFIG) for weight in module.parameters()
    ]
    modules = random_modules(CONFIG)
    set_precision(*modules, "float32")
    for before, now in zip(weights, [w for m in modules for w in m.parameters()], strict=True):
        assert torch.equal(before, now)
        assert before.dtype is now.dtype
