"""The teacher in, the one voice prompt of the bundled checkpoint out. Training and speaking use the
same prompt.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from chatterbox.config import MEL_FRAMES_PER_TOKEN
from chatterbox.training.mel import HOP, log_mel
from chatterbox.training.teacher import TOKEN_SAMPLES

PROMPT_TEXT = "Hello there."
"""Short, neutral, and over before the prompt ends: a prompt cut in mid-word would leak its end into
every text.
"""
PROMPT_TOKENS = 20
SPEAKER_CHANNELS = 16


@dataclass(frozen=True, slots=True)
class VoicePrompt:
    """What every training row starts with."""

    mel: Tensor  # [80, 2 * PROMPT_TOKENS]
    speaker: Tensor  # [SPEAKER_CHANNELS], constant: there is one speaker


def make_prompt(path: Path) -> None:
    """Speak the prompt, cut or pad it to its tokens, and keep it as int16 samples."""
    from chatterbox.training.teacher import Teacher

    spoken = Teacher().speak(PROMPT_TEXT, seed=0).wave
    wave = np.zeros(PROMPT_TOKENS * TOKEN_SAMPLES, np.int16)
    kept = min(len(spoken), len(wave))
    wave[:kept] = spoken[:kept]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, wave)


def load_prompt(path: Path) -> VoicePrompt:
    """The prompt that `make_prompt` saved."""
    wave = np.load(path).astype(np.float32) / 32768
    mel = torch.from_numpy(log_mel(wave).T.copy())
    assert mel.shape[1] == PROMPT_TOKENS * MEL_FRAMES_PER_TOKEN == len(wave) // HOP
    speaker = torch.zeros(SPEAKER_CHANNELS)
    speaker[0] = 1.0
    return VoicePrompt(mel, speaker)
