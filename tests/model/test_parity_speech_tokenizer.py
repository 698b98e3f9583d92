"""The speech tokenizer gives the tokens of the reference implementation."""

import re

import torch
from torch import Tensor

from chatterbox.conditioning.mel import tokenizer_log_mel
from chatterbox.conditioning.speech_tokenizer import SpeechTokenizer
from tests.model.every_array import assert_every_array
from tests.model.parity import Group, seed_module


def build_tokenizer() -> SpeechTokenizer:
    """At full size, with the made-up weights."""
    with torch.device("meta"):
        tokenizer = SpeechTokenizer()
    tokenizer.to_empty(device="cpu")
    seed_module(tokenizer, prefix="tokenizer.")
    return tokenizer.eval()


@torch.inference_mode()
def test_speech_tokenizer() -> None:
    """Log mel, rotary attention with its memory, the order of the digits, and the cut mel."""
    group, tokenizer = Group("speech_tokenizer"), build_tokenizer()
    mel = tokenizer_log_mel(group["in.wav16k"])
    hidden = tokenizer.encoder(mel)
    tokens = tokenizer(mel)

    def cut(match: re.Match[str]) -> Tensor:
        tokens: Tensor = tokenizer(mel, max_tokens=int(match[1]))
        return tokens

    assert_every_array(
        group,
        {
            r"log_mel": lambda _: mel,
            r"encoder_hidden_every(\d+)": lambda match: hidden[:, :: int(match[1])],
            r"project_down": lambda _: tokenizer.quantizer._codebook.project_down(hidden)[0],
            r"tokens": lambda _: tokens,
            r"token_len": lambda _: torch.tensor([tokens.shape[1]]),
            r"tokens_max_len_(\d+)": cut,
        },
    )
    assert tokens.dtype == torch.int64
