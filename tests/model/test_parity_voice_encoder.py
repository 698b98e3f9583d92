"""The voice encoder gives the embeddings of the reference implementation."""

import re

import torch
from torch import Tensor

from chatterbox.conditioning.clip import sound_span
from chatterbox.conditioning.mel import voice_encoder_mel
from chatterbox.conditioning.voice_encoder import (
    STEP_FRAMES,
    WINDOW_FRAMES,
    VoiceEncoder,
    windows_of,
)
from tests.model.every_array import assert_every_array
from tests.model.parity import Group, seed_module


@torch.inference_mode()
def test_voice_encoder() -> None:
    """Trimmed silence, the mel, which windows a clip has, and how they are averaged."""
    group, encoder = Group("voice_encoder"), VoiceEncoder()
    seed_module(encoder)
    encoder.eval()

    def clip(match: re.Match[str]) -> Tensor:
        return group[f"{match[1]}.in.wav16k"]

    def mel(match: re.Match[str]) -> Tensor:
        first, last = sound_span(clip(match))
        return voice_encoder_mel(clip(match)[None, first:last])[0]

    def windows(match: re.Match[str]) -> Tensor:
        found = windows_of(mel(match), STEP_FRAMES)
        assert len(found) == group.facts[f"{match[1]}.partials"]
        return found

    def untrimmed(match: re.Match[str]) -> Tensor:
        step = round(WINDOW_FRAMES * (1 - float(match[2])))
        embedding: Tensor = encoder(voice_encoder_mel(clip(match)[None])[0], step)
        return embedding

    assert_every_array(
        group,
        {
            r"(\w+)\.trim_span": lambda match: torch.tensor(sound_span(clip(match))),
            r"(\w+)\.mel": lambda match: mel(match).T,
            r"(\w+)\.partial_embeds": lambda match: encoder.embed(windows(match)),
            r"(\w+)\.embed_utterance": lambda match: encoder(mel(match)),
            r"(\w+)\.embed_no_trim_overlap([\d.]+)": untrimmed,
        },
    )
