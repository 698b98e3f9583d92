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
from chatterbox.training.tokenizer import Codebook, Timing

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
    tokens: Tensor  # [PROMPT_TOKENS]
    speaker: Tensor  # [SPEAKER_CHANNELS], constant: there is one speaker


def make_prompt(path: Path) -> None:
    """Speak the prompt, cut or pad it to its tokens, and keep its samples and timing."""
    from chatterbox.training.teacher import Teacher

    clip = Teacher().speak(PROMPT_TEXT, seed=0)
    wave = np.zeros(PROMPT_TOKENS * TOKEN_SAMPLES, np.int16)
    f0 = np.zeros(PROMPT_TOKENS * MEL_FRAMES_PER_TOKEN, np.float32)
    wave[: len(clip.wave)] = clip.wave[: len(wave)]
    f0[: len(clip.f0)] = clip.f0[: len(f0)]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, wave=wave, f0=f0, ends=clip.ends, phonemes=np.array(clip.phonemes))


def load_prompt(path: Path) -> VoicePrompt:
    """The prompt that `make_prompt` saved."""
    saved = np.load(path)
    wave = saved["wave"].astype(np.float32) / 32768
    mel = torch.from_numpy(log_mel(wave).T.copy())
    assert mel.shape[1] == PROMPT_TOKENS * MEL_FRAMES_PER_TOKEN == len(wave) // HOP
    timing = Timing(
        phonemes=str(saved["phonemes"]), ends=saved["ends"], f0=saved["f0"], wave=saved["wave"]
    )
    speaker = torch.zeros(SPEAKER_CHANNELS)
    speaker[0] = 1.0
    return VoicePrompt(
        mel, torch.from_numpy(Codebook.load().encode(timing).astype(np.int64)), speaker
    )
