"""Mel of the training speech in, speech tokens out: a small FSQ tokenizer. Needed to train, never
to speak.

The codes are numbered as S3TokenizerV2 numbers them: eight digits of base 3, digit 0 the least.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from chatterbox.config import SPEECH_CODES

DIGITS = 8
BASE = 3


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, then a feed-forward, around a residual (Liu et al., 2022)."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.up = nn.Linear(channels, 3 * channels)
        self.down = nn.Linear(3 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.mix(x).transpose(1, 2))
        return x + self.down(functional.gelu(self.up(hidden))).transpose(1, 2)


def quantise(projected: Tensor) -> Tensor:
    """[…, 8] real → […, 8] digits in {-1, 0, 1}; the gradient passes straight through."""
    bounded = projected.tanh() * 0.999
    return bounded + (bounded.round() - bounded).detach()


def tokens_of(digits: Tensor) -> Tensor:
    """[…, 8] digits in {-1, 0, 1} → […] token ids."""
    powers = BASE ** torch.arange(DIGITS, device=digits.device)
    return ((digits.round().long() + 1) * powers).sum(-1)


def digits_of(tokens: Tensor) -> Tensor:
    """[…] token ids → […, 8] digits in {-1, 0, 1}."""
    powers = BASE ** torch.arange(DIGITS, device=tokens.device)
    return ((tokens[..., None] // powers) % BASE - 1).float()


def all_digits() -> Tensor:
    """[6561, 8]: the digits of every token."""
    return digits_of(torch.arange(SPEECH_CODES))


class Tokenizer(nn.Module):
    """Mel [batch, 80, frames] → digits [batch, frames / 2, 8]; sees about half a second around each
    token.
    """

    def __init__(self, *, mel_bins: int = 80, channels: int = 256, blocks: int = 4) -> None:
        super().__init__()
        self.conv_in = nn.Conv1d(mel_bins, channels, 3, padding=1)
        self.conv_down = nn.Conv1d(channels, channels, 4, stride=2, padding=1)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(channels, 5) for _ in range(blocks)))
        self.norm = nn.LayerNorm(channels)
        self.project = nn.Linear(channels, DIGITS)

    def forward(self, mel: Tensor) -> Tensor:
        x = functional.gelu(self.conv_in((mel + 5.0) / 3.0))
        x = self.blocks(functional.gelu(self.conv_down(x)))
        projected: Tensor = self.project(self.norm(x.transpose(1, 2)))
        return quantise(projected.float())


class DigitEmbedding(nn.Module):
    """A free vector per token plus a function of its digits, so that rare tokens borrow from their
    neighbours.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.free = nn.Embedding(SPEECH_CODES, channels)
        nn.init.normal_(self.free.weight, std=0.02)
        self.shared = nn.Sequential(
            nn.Linear(DIGITS, channels), nn.GELU(), nn.Linear(channels, channels)
        )

    def forward(self, digits: Tensor) -> Tensor:
        shared: Tensor = self.shared(digits) + self.free(tokens_of(digits))
        return shared

    @torch.no_grad()
    def table(self) -> Tensor:
        """[6561, channels]: the ordinary embedding that this one is equal to."""
        digits = all_digits().to(self.free.weight.device)
        folded: Tensor = self(digits)
        return folded
