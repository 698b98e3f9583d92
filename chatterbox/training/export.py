"""Trained stages in, the checkpoint folder out: half-precision safetensors, the voice, config.json
with its symbols, the names of the speech tokens.
"""

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from chatterbox.config import T3Config
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.vocoder import HiFT
from chatterbox.t3.model import T3
from chatterbox.training.symbols import symbol_table
from chatterbox.training.t3 import t3_speaker
from chatterbox.training.tokenizer import STATES_FILE
from chatterbox.training.voice import VoicePrompt

VOICE_NAME = "heart"


def _half(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    tensors = {
        f"{prefix}{name}": tensor.detach().cpu() for name, tensor in module.state_dict().items()
    }
    halves = {name: tensor.to(torch.float16).contiguous() for name, tensor in tensors.items()}
    broken = [name for name, tensor in halves.items() if not tensor.isfinite().all()]
    assert not broken, f"not finite in half precision: {broken}"
    return halves


def write_checkpoint(folder: Path, *, t3: T3, flow: Flow, vocoder: HiFT) -> None:
    """`t3.safetensors` and `s3gen.safetensors` under the official names."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_half(t3, ""), folder / "t3.safetensors")
    save_file({**_half(flow, "flow."), **_half(vocoder, "mel2wav.")}, folder / "s3gen.safetensors")


def write_voice(folder: Path, prompt: VoicePrompt, config: T3Config) -> None:
    """The one voice, under the names of the official `conds.pt`."""
    path = folder / "voices" / f"{VOICE_NAME}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    tokens = prompt.tokens[None].to(torch.int32)
    tensors = {
        "t3.speaker_emb": t3_speaker(config)[None],
        "t3.cond_prompt_speech_tokens": tokens[:, : config.prompt_tokens],
        "gen.prompt_token": tokens,
        "gen.prompt_feat": prompt.mel.T[None],
        "gen.embedding": prompt.speaker[None],
    }
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)


def write_config(source: Path, folder: Path) -> None:
    """The sizes that were trained, with symbols filled in; and the names of the speech tokens."""
    raw = json.loads(source.read_text(encoding="utf-8"))
    raw["text"]["symbols"] = list(symbol_table())
    raw["text"]["token_states"] = STATES_FILE.name
    if not (folder / STATES_FILE.name).exists():
        shutil.copyfile(STATES_FILE, folder / STATES_FILE.name)
    raw["default_voice"] = VOICE_NAME
    target = folder / "config.json"
    text = json.dumps(raw, ensure_ascii=False, indent=2)
    # Lists on one line: a hundred symbols are easier to read that way.
    text = re.sub(r"\[[^\[\]{}]*\]", lambda match: re.sub(r"\n\s+", " ", match[0]), text)
    target.write_text(text + "\n", encoding="utf-8")
