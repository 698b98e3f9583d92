"""Loading is strict: a tensor that is missing, left over or of another shape is an error that
names it.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils import parametrizations

from chatterbox.checkpoint import CheckpointError, fold_weight_norm, load_s3gen, load_t3
from chatterbox.voice import VoiceError, load_voice, load_voices
from tests.model.random_engine import CONFIG, random_modules, random_voice

Weights = dict[str, Tensor]


def _t3_weights() -> Weights:
    return {name: tensor.half() for name, tensor in random_modules()[0].state_dict().items()}


def _s3gen_weights() -> Weights:
    _, flow, vocoder = random_modules()
    named = {f"flow.{name}": tensor for name, tensor in flow.state_dict().items()}
    named |= {f"mel2wav.{name}": tensor for name, tensor in vocoder.state_dict().items()}
    return {name: tensor.half() for name, tensor in named.items()}


def test_half_precision_files_load_into_the_module(tmp_path: Path) -> None:
    """Weights arrive in float32, the F0 predictor in float64, and nothing is left at its initial
    value.
    """
    save_file(_t3_weights(), tmp_path / "t3.safetensors")
    save_file(_s3gen_weights(), tmp_path / "s3gen.safetensors")
    t3, (flow, vocoder) = load_t3(tmp_path, CONFIG), load_s3gen(tmp_path, CONFIG)
    expected = random_modules()
    for loaded, original in zip((t3, flow, vocoder), expected, strict=True):
        for name, tensor in loaded.state_dict().items():
            assert torch.equal(tensor.float(), original.state_dict()[name].half().float()), name
    assert next(vocoder.f0_predictor.parameters()).dtype == torch.float64
    assert not t3.training


def _drop(weights: Weights) -> None:
    del weights["speech_head.bias"]


def _add(weights: Weights) -> None:
    weights["surprise.weight"] = torch.zeros(3)


def _reshape(weights: Weights) -> None:
    weights["speech_head.bias"] = torch.zeros(7)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_drop, "speech_head.bias is missing"),
        (_add, "surprise.weight is not part of the model"),
        (_reshape, "speech_head.bias has another shape"),
    ],
)
def test_strictness(tmp_path: Path, change: Callable[[Weights], None], complaint: str) -> None:
    """A checkpoint of another model must not half load."""
    weights = _t3_weights()
    change(weights)
    save_file(weights, tmp_path / "t3.safetensors")
    with pytest.raises(CheckpointError, match=complaint):
        load_t3(tmp_path, CONFIG)


def test_dead_tensors_of_the_official_files_are_known(tmp_path: Path) -> None:
    """GPT-2's token table and the text head are in the files and are not part of the model."""
    weights = _t3_weights() | {
        "tfmr.wte.weight": torch.zeros(5, 5),
        "text_head.weight": torch.zeros(5, 5),
    }
    save_file(weights, tmp_path / "t3_turbo_v1.safetensors")
    assert load_t3(tmp_path, CONFIG) is not None


def test_wrong_or_broken_files(tmp_path: Path) -> None:
    """No file, half a file, the wrong file: three different errors."""
    with pytest.raises(CheckpointError, match=r"no t3\.safetensors or"):
        load_t3(tmp_path, CONFIG)
    (tmp_path / "t3.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{\x00")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_t3(tmp_path, CONFIG)
    save_file(_t3_weights(), tmp_path / "s3gen.safetensors")
    with pytest.raises(CheckpointError, match=r"unexpected tensor .* is it an S3Gen"):
        load_s3gen(tmp_path, CONFIG)


def test_folded_weight_norm_is_the_same_layer() -> None:
    """Gain times direction over its norm, as torch's parametrization computes it, both kinds of
    layer.
    """
    for layer in (torch.nn.Conv1d(4, 6, 3), torch.nn.ConvTranspose1d(4, 6, 3)):
        normed = parametrizations.weight_norm(layer)
        with torch.no_grad():
            normed.parametrizations.weight.original0.mul_(1.7)
        folded = fold_weight_norm({f"x.{k}": v for k, v in normed.state_dict().items()})
        assert set(folded) == {"x.weight", "x.bias"}
        assert torch.allclose(folded["x.weight"], normed.weight, atol=1e-6)


def _voice_tensors() -> Weights:
    voice = random_voice()
    return {
        "t3.speaker_emb": voice.t3_speaker,
        "t3.cond_prompt_speech_tokens": voice.t3_prompt,
        "gen.prompt_token": voice.prompt_tokens,
        "gen.prompt_feat": voice.prompt_mel.half(),
        "gen.embedding": voice.speaker,
    }


def test_voices_are_found_by_name(tmp_path: Path) -> None:
    """The stem of the file is the name that clients use."""
    save_file(_voice_tensors(), tmp_path / "heart.safetensors")
    voices = load_voices(tmp_path, CONFIG)
    assert list(voices) == ["heart"]
    assert torch.equal(voices["heart"].prompt_tokens, random_voice().prompt_tokens)
    assert voices["heart"].prompt_mel.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("gen.prompt_token", torch.zeros(1, 99, dtype=torch.int64), "prompt is longer"),
        ("gen.prompt_feat", torch.zeros(1, 3, 80), "3 mel frames for 8 tokens"),
        ("gen.prompt_token", torch.full((1, 8), 6561), "a speech token outside 0"),
    ],
)
def test_unfit_voices_are_refused(tmp_path: Path, name: str, value: Tensor, complaint: str) -> None:
    """An id beyond the codes would index past an embedding table on the device."""
    path = tmp_path / "bad.safetensors"
    save_file(_voice_tensors() | {name: value}, path)
    with pytest.raises(VoiceError, match=complaint):
        load_voice(path, CONFIG)


def test_empty_voice_folder(tmp_path: Path) -> None:
    """A daemon without a voice cannot speak; say so at start."""
    with pytest.raises(VoiceError, match="no voice"):
        load_voices(tmp_path, CONFIG)
