"""Loading is strict: a tensor that is missing, left over or of another shape is an error that
names it.
"""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils import parametrizations

from chatterbox.checkpoint import (
    CheckpointError,
    compare,
    fold_weight_norm,
    folded_shapes,
    kept,
    load_s3gen,
    load_t3,
    module_shapes,
    t3_kind,
)
from chatterbox.config import ConfigError
from chatterbox.loading import load_all_voices
from chatterbox.text.speech_need import speech_need
from chatterbox.variants import BUNDLED, VARIANTS, find_checkpoint
from chatterbox.voice import Voice, VoiceError, load_voice, load_voices
from tests.model.parity import manifest
from tests.model.random_engine import CONFIG, random_modules, random_voice
from tools.seeded_weights import model_shapes

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
    save_file(weights, tmp_path / "t3.safetensors")
    assert load_t3(tmp_path, CONFIG) is not None
    # Llama's dummy table is no part of a GPT-2 file.
    save_file(
        weights | {"tfmr.embed_tokens.weight": torch.zeros(8, 5)}, tmp_path / "t3.safetensors"
    )
    with pytest.raises(CheckpointError, match=r"embed_tokens\.weight is not part of the model"):
        load_t3(tmp_path, CONFIG)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_official_files_fit_to_the_last_tensor(variant: str) -> None:
    """Every name and shape of the released files against the modules: none missing, left over, of
    another shape.
    """
    config = VARIANTS[variant]
    t3 = {"english": "t3", "turbo": "t3_turbo", "nano": "t3_nano"}.get(variant, "t3_multilingual")
    entries = model_shapes(manifest(), t3)
    found = {name: entries[name] for name in kept(list(entries), t3_kind(config))}
    wanted = module_shapes(config)
    compare(wanted.t3, found, Path(config.files.t3))
    assert len(entries) > len(found)  # something is dropped, or the table is for nothing
    entries = model_shapes(manifest(), "s3gen_meanflow" if config.flow.meanflow else "s3gen")
    compare(
        wanted.s3gen,
        folded_shapes({name: entries[name] for name in kept(list(entries), "s3gen")}),
        Path(config.files.s3gen),
    )


def test_wrong_or_broken_files(tmp_path: Path) -> None:
    """No file, half a file, the wrong file: three different errors."""
    with pytest.raises(CheckpointError, match=r"t3\.safetensors: no such file"):
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
        ("gen.prompt_token", torch.zeros(8, dtype=torch.int64), r"the shape \(8,\)"),
        ("gen.prompt_token", torch.zeros(1, 8), "holds torch.float32, not tokens"),
        ("t3.cond_prompt_speech_tokens", torch.zeros(1, 0, dtype=torch.int64), r"\(1, 0\)"),
        ("gen.prompt_feat", torch.tensor(0.0), r"gen\.prompt_feat has the shape \(\)"),
        ("gen.prompt_feat", torch.full((1, 16, 80), torch.inf), "not numbers"),
        ("t3.speaker_emb", torch.zeros(2, 8), r"the shape \(2, 8\)"),
        ("gen.embedding", torch.zeros(1, 3), "3 channels, the model 8"),
        ("gen.embedding", torch.full((1, 8), torch.nan), "not numbers"),
    ],
)
def test_unfit_voices_are_refused(tmp_path: Path, name: str, value: Tensor, complaint: str) -> None:
    """An id beyond the codes would index past an embedding table on the device; a tensor of another
    shape would end the daemon's start in a trace, or be noise for whoever chooses the voice.
    """
    path = tmp_path / "bad.safetensors"
    save_file(_voice_tensors() | {name: value}, path)
    with pytest.raises(VoiceError, match=complaint):
        load_voice(path, CONFIG)


def _conds() -> dict[str, dict[str, object]]:
    groups: dict[str, dict[str, object]] = {"t3": {"emotion_adv": None}, "gen": {}}
    for name, tensor in _voice_tensors().items():
        group, _, rest = name.partition(".")
        groups[group][rest] = tensor
    # As in the official file: the mel is stored transposed, and some entries are None.
    mel = groups["gen"]["prompt_feat"]
    assert isinstance(mel, Tensor)
    groups["gen"]["prompt_feat"] = mel.transpose(1, 2).contiguous().transpose(1, 2)
    groups["gen"]["prompt_feat_len"] = None
    return groups


def test_the_official_voice_is_the_default(tmp_path: Path) -> None:
    """`conds.pt` is the voice of an official checkpoint; those in voices/ come beside it."""
    with pytest.raises(VoiceError, match="no voice; there is neither"):
        load_all_voices(tmp_path, CONFIG)
    torch.save(_conds(), tmp_path / "conds.pt")
    (tmp_path / "voices").mkdir()
    save_file(_voice_tensors(), tmp_path / "voices" / "heart.safetensors")
    voices = load_all_voices(tmp_path, CONFIG)
    assert set(voices) == {CONFIG.default_voice, "heart"}
    for field in fields(Voice):
        ours = getattr(voices[CONFIG.default_voice], field.name)
        assert torch.equal(ours, getattr(voices["heart"], field.name)), field.name
        assert ours.is_contiguous()


class _Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('the pickle ran')",)


@pytest.mark.parametrize("content", [_Harmful(), {"t3": 3}, [1]])
def test_a_pickle_holds_tensors_or_nothing(tmp_path: Path, content: object) -> None:
    """A voice from the internet must not run code."""
    torch.save(content, tmp_path / "conds.pt")
    with pytest.raises(VoiceError, match="not a file of conditionals"):
        load_voice(tmp_path / "conds.pt", CONFIG)


@pytest.mark.parametrize("content", [b"PK\x03\x04 and no more", b"", b"hello there", b"<html>"])
def test_a_broken_pickle_is_said(tmp_path: Path, content: bytes) -> None:
    """A download that was cut short, or is a page that says why not, ends in one line, not in a
    trace.
    """
    (tmp_path / "conds.pt").write_bytes(content)
    with pytest.raises(VoiceError, match="not a file of conditionals"):
        load_voice(tmp_path / "conds.pt", CONFIG)


def test_a_folder_is_recognised_by_its_files(tmp_path: Path) -> None:
    """The official repositories carry no config of ours; two of their variants share a folder."""
    with pytest.raises(ConfigError, match="no such folder"):
        find_checkpoint(str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match=r"no checkpoint there; .*t3_nano_v1\.safetensors"):
        find_checkpoint(str(tmp_path))
    for name, config in VARIANTS.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / config.files.t3).touch()
        assert find_checkpoint(str(folder)) == (folder, config)
    both = tmp_path / "english"
    (both / "t3_mtl23ls_v3.safetensors").touch()
    with pytest.raises(ConfigError, match=r"several checkpoints; choose one of .*:multilingual_v3"):
        find_checkpoint(str(both))
    assert find_checkpoint(f"{both}:multilingual_v3") == (both, VARIANTS["multilingual_v3"])
    assert find_checkpoint(None)[0] == BUNDLED


def test_a_segment_of_any_language_fits_one_generation() -> None:
    """A hundred Han characters are as long as 360 letters: the limit is the language's."""
    config = VARIANTS["multilingual_v2"]
    cap = config.t3.max_generated_tokens
    assert set(config.max_segment_chars_of) == {"ar", "he", "hi", "ja", "ko", "zh"}
    for language, char in (("zh", "水"), ("ja", "水"), ("ko", "한"), ("ar", "ب"), ("en", "e")):
        longest = min(
            config.text.max_segment_chars, config.max_segment_chars_of.get(language, 10**9)
        )
        assert speech_need(char * longest) <= cap
        assert speech_need(char * longest) > cap / 2


def test_empty_voice_folder(tmp_path: Path) -> None:
    """A daemon without a voice cannot speak; say so at start. A folder is no voice whatever it is
    called.
    """
    with pytest.raises(VoiceError, match="no voice"):
        load_voices(tmp_path, CONFIG)
    (tmp_path / "ada.safetensors").mkdir()
    with pytest.raises(VoiceError, match=r"ada\.safetensors is a folder, not a voice"):
        load_voices(tmp_path, CONFIG)
