"""A voice file → the conditioning of one speaker, computed once from reference audio.

The file is an official `conds.pt`, or safetensors with its names: `t3.…` condition the tokens,
`gen.…` the sound. `python -m chatterbox.voice` makes one of a clip.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from chatterbox.config import MEL_FRAMES_PER_TOKEN, SPEECH_CODES, ModelConfig

_MADE_FOR = "made_for"
"""The one fact beside the tensors: several would be written in any order. A file without it is
taken as it is."""
_DIMENSIONS = {
    "t3.speaker_emb": 2,
    "t3.cond_prompt_speech_tokens": 2,
    "gen.prompt_token": 2,
    "gen.prompt_feat": 3,
    "gen.embedding": 2,
}
"""What a voice holds, in the order of `Voice`, and how many dimensions each has."""
_TOKENS = ("t3.cond_prompt_speech_tokens", "gen.prompt_token")


class VoiceError(ValueError):
    """A voice file cannot be used with this model; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """Conditioning tensors of one speaker."""

    t3_speaker: Tensor
    """[1, t3.speaker_channels]"""
    t3_prompt: Tensor
    """[1, ≤ t3.prompt_tokens] int64 speech tokens."""
    prompt_tokens: Tensor
    """[1, prompt] int64 speech tokens of the flow's prompt."""
    prompt_mel: Tensor
    """[1, 2 * prompt, mel_bins]: the mel of the same sound."""
    speaker: Tensor
    """[1, flow.speaker_channels]"""


def load_voices(folder: Path, config: ModelConfig) -> dict[str, Voice]:
    """Every `*.safetensors` of `folder`, by its name without the ending."""
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise VoiceError(f"{folder}: no voice (*.safetensors) there")
    return {path.stem: load_voice(path, config) for path in paths}


def load_voice(path: Path, config: ModelConfig) -> Voice:
    """Read one voice, safetensors or an official `conds.pt`, and check it against the sizes of the
    model.
    """
    tensors = _read_conds(path) if path.suffix == ".pt" else _read_safetensors(path, config)
    missing = [name for name in _DIMENSIONS if name not in tensors]
    if missing:
        raise VoiceError(f"{path}: no {missing[0]}; a voice holds {', '.join(_DIMENSIONS)}")
    for name, dimensions in _DIMENSIONS.items():
        _check_kind(path, name, tensors[name], dimensions=dimensions)
    speaker, t3_prompt, prompt, mel, embedding = (tensors[name] for name in _DIMENSIONS)
    if mel.shape[1] == MEL_FRAMES_PER_TOKEN * prompt.shape[1] + 1:
        mel = mel[:, :-1]  # the reference keeps half a token of mel at the end of a clip
    _check_prompts(path, config, t3_prompt=t3_prompt, prompt=prompt, mel=mel)
    for name, found, wanted in (
        ("t3.speaker_emb", speaker, config.t3.speaker_channels),
        ("gen.embedding", embedding, config.flow.speaker_channels),
        ("gen.prompt_feat", mel, config.flow.mel_bins),
    ):
        if found.shape[-1] != wanted:
            raise VoiceError(f"{path}: {name} has {found.shape[-1]} channels, the model {wanted}")
    return Voice(
        t3_speaker=speaker.float(),
        t3_prompt=t3_prompt.to(torch.int64),
        prompt_tokens=prompt.to(torch.int64),
        prompt_mel=mel.float().contiguous(),
        speaker=embedding.float(),
    )


def _check_kind(path: Path, name: str, tensor: Tensor, *, dimensions: int) -> None:
    """A voice is one row of each, of numbers that are numbers: a file that is not would be heard,
    or break a step, long after it was loaded.
    """
    if tensor.dim() != dimensions or tensor.shape[0] != 1 or not tensor.numel():
        raise VoiceError(f"{path}: {name} has the shape {tuple(tensor.shape)}, which is no voice's")
    if name in _TOKENS:
        if tensor.dtype not in (torch.int64, torch.int32):
            raise VoiceError(f"{path}: {name} holds {tensor.dtype}, not tokens")
        if tensor.amax() >= SPEECH_CODES or tensor.amin() < 0:
            raise VoiceError(f"{path}: a speech token outside 0 … {SPEECH_CODES - 1} in {name}")
    elif not tensor.is_floating_point() or not tensor.isfinite().all():
        raise VoiceError(f"{path}: {name} holds values that are not numbers")


def _check_prompts(
    path: Path, config: ModelConfig, *, t3_prompt: Tensor, prompt: Tensor, mel: Tensor
) -> None:
    for found, longest in (
        (prompt, config.flow.max_prompt_tokens),
        (t3_prompt, config.t3.prompt_tokens),
    ):
        if found.shape[1] > longest:
            raise VoiceError(
                f"{path}: the prompt is longer than the model's: {found.shape[1]} tokens, not up to"
                f" {longest}; it was made for another model"
            )
    if mel.shape[1] != MEL_FRAMES_PER_TOKEN * prompt.shape[1]:
        raise VoiceError(
            f"{path}: {mel.shape[1]} mel frames for {prompt.shape[1]} tokens, not two each"
        )


def save_voice(path: Path, voice: Voice, *, made_for: ModelConfig | None = None) -> None:
    """Write a file that `load_voice` reads, by models that hear clips as `made_for` does. Raises
    `OSError`.
    """
    tensors = (getattr(voice, item.name) for item in fields(Voice))
    named = dict(zip(_DIMENSIONS, tensors, strict=True))
    facts = {} if made_for is None else {_MADE_FOR: f"{made_for.name}, {_hearing(made_for)}"}
    path.write_bytes(save({name: tensor.contiguous() for name, tensor in named.items()}, facts))


def _hearing(config: ModelConfig) -> str:
    """What makes voices of the same clip differ between models of the same sizes."""
    loudness = config.clip.loudness_lufs
    return f"prompt of {config.t3.prompt_tokens} tokens, loudness {loudness or 'as it is'}"


def _check_hearing(path: Path, config: ModelConfig) -> None:
    with safe_open(path, "pt") as file:
        facts = file.metadata() or {}
    model, _, hearing = facts.get(_MADE_FOR, "").partition(", ")
    if hearing not in ("", _hearing(config)):
        raise VoiceError(
            f"{path}: made for {model}, which hears a clip otherwise than {config.name};"
            f" make it again, with --model {config.name}"
        )


def _read_safetensors(path: Path, config: ModelConfig) -> dict[str, Tensor]:
    if path.is_dir():
        raise VoiceError(f"{path} is a folder, not a voice")
    try:
        _check_hearing(path, config)
        return load_file(path)
    except SafetensorError as error:
        raise VoiceError(f"{path}: not a whole safetensors file ({error})") from None


def _read_conds(path: Path) -> dict[str, Tensor]:
    """The only pickle that is ever read, and of it tensors in dictionaries only."""
    try:
        groups = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise VoiceError(f"{path}: not a file of conditionals ({reason})") from None
    if not isinstance(groups, dict) or not all(
        isinstance(group, dict) for group in groups.values()
    ):
        raise VoiceError(f"{path}: not a file of conditionals; it holds no dictionaries")
    return {
        f"{group}.{name}": value
        for group, values in groups.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
