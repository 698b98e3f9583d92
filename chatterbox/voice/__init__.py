"""A voice file → the conditioning of one speaker, computed once from reference audio.

The file is an official `conds.pt`, or safetensors with its names: `t3.…` condition the tokens,
`gen.…` the sound. `python -m chatterbox.voice` makes one of a clip.
"""

from dataclasses import dataclass
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
    names = (
        "t3.speaker_emb",
        "t3.cond_prompt_speech_tokens",
        "gen.prompt_token",
        "gen.prompt_feat",
        "gen.embedding",
    )
    missing = [name for name in names if name not in tensors]
    if missing:
        raise VoiceError(f"{path}: no {missing[0]}; a voice holds {', '.join(names)}")
    speaker, t3_prompt, prompt, mel, embedding = (tensors[name] for name in names)
    if mel.shape[1] == MEL_FRAMES_PER_TOKEN * prompt.shape[1] + 1:
        mel = mel[:, :-1]  # the reference keeps half a token of mel at the end of a clip
    if (
        prompt.shape[1] > config.flow.max_prompt_tokens
        or t3_prompt.shape[1] > config.t3.prompt_tokens
    ):
        raise VoiceError(
            f"{path}: the prompt is longer than the model's {config.flow.max_prompt_tokens} tokens"
        )
    if mel.shape[1] != MEL_FRAMES_PER_TOKEN * prompt.shape[1]:
        raise VoiceError(
            f"{path}: {mel.shape[1]} mel frames for {prompt.shape[1]} tokens, not two each"
        )
    for name, found, wanted in (
        ("t3.speaker_emb", speaker, config.t3.speaker_channels),
        ("gen.embedding", embedding, config.flow.speaker_channels),
        ("gen.prompt_feat", mel, config.flow.mel_bins),
    ):
        if found.shape[-1] != wanted:
            raise VoiceError(f"{path}: {name} has {found.shape[-1]} channels, the model {wanted}")
    if (
        max(prompt.amax(), t3_prompt.amax()) >= SPEECH_CODES
        or min(prompt.amin(), t3_prompt.amin()) < 0
    ):
        raise VoiceError(f"{path}: a speech token outside 0 … {SPEECH_CODES - 1}")
    return Voice(
        t3_speaker=speaker.float(),
        t3_prompt=t3_prompt.to(torch.int64),
        prompt_tokens=prompt.to(torch.int64),
        prompt_mel=mel.float().contiguous(),
        speaker=embedding.float(),
    )


def save_voice(path: Path, voice: Voice, *, made_for: ModelConfig | None = None) -> None:
    """Write a file that `load_voice` reads, by models that hear clips as `made_for` does. Raises
    `OSError`.
    """
    named = {
        "t3.speaker_emb": voice.t3_speaker,
        "t3.cond_prompt_speech_tokens": voice.t3_prompt,
        "gen.prompt_token": voice.prompt_tokens,
        "gen.prompt_feat": voice.prompt_mel,
        "gen.embedding": voice.speaker,
    }
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
    try:
        _check_hearing(path, config)
        return load_file(path)
    except SafetensorError as error:
        raise VoiceError(f"{path}: not a whole safetensors file ({error})") from None


def _read_conds(path: Path) -> dict[str, Tensor]:
    """The only pickle that is ever read, and of it tensors in dictionaries only."""
    try:
        groups = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0]
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
