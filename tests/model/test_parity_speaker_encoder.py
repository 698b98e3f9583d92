"""CAM++ gives the embeddings of the reference implementation."""

import re

import torch
from torch import Tensor

from chatterbox.conditioning.speaker_encoder import SpeakerEncoder, fbank
from tests.model.every_array import assert_every_array
from tests.model.parity import Group, seed_module


@torch.inference_mode()
def test_speaker_encoder() -> None:
    """Kaldi's filter banks, the front end, and the masks' segments: one clip fills several, one
    less than one.
    """
    group, encoder = Group("speaker_encoder"), SpeakerEncoder()
    seed_module(encoder, prefix="speaker_encoder.")
    encoder.eval()

    def bands(match: re.Match[str]) -> Tensor:
        return fbank(group[f"{match[1]}.in.wav16k"])

    assert_every_array(
        group,
        {
            r"(\w+)\.fbank_mean_subtracted": bands,
            r"(\w+)\.head_every(\d+)": lambda match: encoder.head(bands(match).transpose(1, 2))[
                :, :, :: int(match[2])
            ],
            r"(\w+)\.embedding": lambda match: encoder(bands(match)),
        },
    )
