"""A folder out: a checkpoint that can clone, with the layout of the official ones, at sizes that
load in a tenth of a second. Its weights are random, so its voices are nobody's.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from chatterbox.api import SAMPLE_RATE
from chatterbox.conditioning.speaker_encoder import SpeakerEncoder
from chatterbox.conditioning.speech_tokenizer import SpeechTokenizer
from chatterbox.conditioning.voice_encoder import VoiceEncoder
from chatterbox.config import ListeningConfig, ModelConfig
from tests.model.random_engine import CONFIG

SMALL = ListeningConfig(channels=32, heads=2, blocks=1)
LISTENING = replace(
    CONFIG,
    name="small",
    t3=replace(CONFIG.t3, prompt_tokens=40, speaker_channels=16),
    flow=replace(CONFIG.flow, max_prompt_tokens=60, speaker_channels=192),
    listening=SMALL,
)


def write_listeners(folder: Path, config: ModelConfig = LISTENING) -> None:
    """`config.json`, and the files that hold the models that listen; nothing that speaks."""
    torch.manual_seed(7)
    sizes = config.listening
    tokenizer = SpeechTokenizer(channels=sizes.channels, heads=sizes.heads, blocks=sizes.blocks)
    named = {f"tokenizer.{name}": tensor for name, tensor in tokenizer.state_dict().items()}
    named |= {
        f"speaker_encoder.{name}": tensor for name, tensor in SpeakerEncoder().state_dict().items()
    }
    save_file(named, folder / config.files.s3gen)
    encoder = VoiceEncoder(config.t3.speaker_channels)
    save_file(encoder.state_dict(), folder / config.files.voice_encoder)
    (folder / "config.json").write_text(json.dumps(asdict(config)), encoding="utf-8")


def voice_like(num_samples: int, rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """Harmonics of a moving pitch that swell and fade."""
    time = np.arange(num_samples) / rate
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * time)) / rate
    wave = sum(np.sin(k * phase) / k for k in range(1, 12))
    swell = 0.55 + 0.45 * np.sin(2 * np.pi * 2.3 * time)
    return np.asarray(0.05 * wave * swell, np.float32)


def write_clip(path: Path, seconds: float = 3.0, rate: int = SAMPLE_RATE) -> Path:
    """A file of `voice_like` sound, in the format that the path's ending names."""
    soundfile.write(path, voice_like(int(seconds * rate), rate), rate)
    return path
