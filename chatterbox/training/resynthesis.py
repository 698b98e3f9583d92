"""Texts through the teacher, then through part of our model: what each stage alone costs."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from chatterbox.checkpoint import load_s3gen
from chatterbox.config import MEL_FRAMES_PER_TOKEN, SAMPLES_PER_MEL_FRAME, ModelConfig
from chatterbox.s3gen.attention_blocks import PROMPT_BLOCK
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.vocoder import HiFT
from chatterbox.s3gen.windows import TokenSchedule
from chatterbox.training.recogniser import Speaker
from chatterbox.training.teacher import Teacher
from chatterbox.training.tokenizer import Codebook
from chatterbox.training.voice import VoicePrompt, load_prompt

LONGEST_TOKENS = 700


def vocode(vocoder: HiFT, mel: torch.Tensor, seed: int) -> NDArray[np.float32]:
    """[1, 80, frames] → samples."""
    generator = torch.Generator().manual_seed(seed)
    sines = vocoder.config.sines
    phase = torch.zeros(1, sines, 1)

    noise = torch.randn(1, sines, mel.shape[-1] * SAMPLES_PER_MEL_FRAME, generator=generator)
    wave: NDArray[np.float32] = vocoder(mel, phase, noise)[0].numpy()
    return wave


def whole_mel(flow: Flow, tokens: torch.Tensor, prompt: VoicePrompt, seed: int) -> torch.Tensor:
    """tokens [num_tokens] → mel [1, 80, frames] in one call, under the blocks of the window
    schedule.
    """
    schedule = TokenSchedule(flow.config)
    ids = torch.cat([prompt.tokens, tokens])[None]
    blocks = [PROMPT_BLOCK] * len(prompt.tokens) + [
        schedule.window_of(t) for t in range(len(tokens))
    ]
    block = torch.tensor([blocks])
    mu = flow.encode(ids, block)
    cond = torch.zeros_like(mu)
    frames = prompt.mel.shape[1]
    cond[:, :, :frames] = prompt.mel
    noise = torch.randn(mu.shape, generator=torch.Generator().manual_seed(seed))
    noise *= flow.config.noise_temperature
    speaker = flow.project_speaker(prompt.speaker[None])
    stretched = block.repeat_interleave(MEL_FRAMES_PER_TOKEN, dim=1)
    return flow.solve(noise, stretched, mu=mu, speaker=speaker, cond=cond)[:, :, frames:]


def resynthesis_speaker(system: str, model: str | None, work: Path) -> Speaker:
    """`vocoder`: the teacher's mel → our vocoder. `tokens`: its true tokens → our flow → our
    vocoder.
    """
    folder = (
        Path(model) if model is not None else Path(__file__).parents[1] / "checkpoints" / "tiny"
    )
    config = ModelConfig.load(folder / "config.json")
    trained, vocoder = load_s3gen(folder, config)
    flow = Flow(config.flow, LONGEST_TOKENS)
    flow.load_state_dict(trained.state_dict())
    vocoder.f0_predictor.double()
    teacher = Teacher()
    prompt, codebook = load_prompt(work / "prompt.npz"), Codebook.load()

    @torch.inference_mode()
    def speak(text: str, seed: int) -> NDArray[np.float32]:
        clip = teacher.speak(text, seed=seed)
        mel = torch.from_numpy(clip.mel.astype(np.float32).T)[None]
        if system == "tokens":
            tokens = torch.from_numpy(codebook.encode(clip.timing).astype(np.int64))
            mel = whole_mel(flow, tokens, prompt, seed)
        return vocode(vocoder, mel, seed)

    return speak
