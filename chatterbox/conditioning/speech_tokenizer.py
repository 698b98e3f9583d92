"""Log mel of a clip → its speech tokens: S3TokenizerV2, 25 a second.

Parameter names are those of the official checkpoints under `tokenizer.`. Source: CosyVoice 2 (Du et
al., 2024): a transformer with a convolutional memory beside its attention (FSMN, Zhang et al.,
2015), then a finite scalar quantiser (Mentzer et al., 2023).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from chatterbox.conditioning.mel import TOKENIZER_MELS

MEL_FRAMES_PER_SPEECH_TOKEN = 4
"""Mel frames of the tokenizer, 10 ms each."""
_LEVELS = 3
_BELOW_ONE = 0.9990000128746033
"""Keeps the rounding of a saturated tanh off the next level; in float32 this is what was used."""


class Memory(nn.Conv1d):
    """A weighted sum of the neighbours of each value, channel by channel."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(
            channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, time, channels], and itself added."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2) + x


class Attention(nn.Module):
    """Self-attention with rotary positions, and the memory of its values."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.fsmn_block = Memory(channels, 31)

    def forward(self, x: Tensor, rotary: Tensor) -> Tensor:
        value = self.value(x)
        mixed = functional.scaled_dot_product_attention(
            rotated(self._by_head(self.query(x)), rotary),
            rotated(self._by_head(self.key(x)), rotary),
            self._by_head(value),
        )
        return self.out(mixed.transpose(1, 2).flatten(2)) + self.fsmn_block(value)

    def _by_head(self, x: Tensor) -> Tensor:
        batch, time, channels = x.shape
        return x.view(batch, time, self.heads, channels // self.heads).transpose(1, 2)


class Block(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(channels, heads)
        self.attn_ln = nn.LayerNorm(channels, eps=1e-5)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.mlp_ln = nn.LayerNorm(channels, eps=1e-5)

    def forward(self, x: Tensor, rotary: Tensor) -> Tensor:
        x = x + self.attn(self.attn_ln(x), rotary)
        return x + self.mlp(self.mlp_ln(x))


class Encoder(nn.Module):
    """Two convolutions of stride 2, then transformer blocks."""

    def __init__(self, channels: int, heads: int, blocks: int) -> None:
        super().__init__()
        self.head_channels = channels // heads
        self.conv1 = nn.Conv1d(TOKENIZER_MELS, channels, 3, stride=2, padding=1)
        self.conv2 = nn.Conv1d(channels, channels, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(channels, heads) for _ in range(blocks))

    def forward(self, mel: Tensor) -> Tensor:
        """[batch, 128, frames] → [batch, ⌈frames / 4⌉, channels]."""
        x = functional.gelu(self.conv2(functional.gelu(self.conv1(mel)))).transpose(1, 2)
        rotary = build_rotary(x.shape[1], self.head_channels, x.device)
        for block in self.blocks:
            x = block(x, rotary)
        return x


class Codebook(nn.Module):
    """Eight numbers of three levels each: 3^8 = 6,561 codes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project_down = nn.Linear(channels, 8)

    def forward(self, hidden: Tensor) -> Tensor:
        """[batch, time, channels] → [batch, time] int64; the first number is the lowest digit."""
        level = (self.project_down(hidden).float().tanh() * _BELOW_ONE).round().long() + 1
        place = _LEVELS ** torch.arange(level.shape[-1], device=level.device)
        return (level * place).sum(dim=-1)


class Quantizer(nn.Module):
    """Exists for the official name `quantizer._codebook`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._codebook = Codebook(channels)

    def forward(self, hidden: Tensor) -> Tensor:
        return self._codebook(hidden)


class SpeechTokenizer(nn.Module):
    """The defaults are the published sizes."""

    def __init__(self, *, channels: int = 1280, heads: int = 20, blocks: int = 6) -> None:
        super().__init__()
        self.encoder = Encoder(channels, heads, blocks)
        self.quantizer = Quantizer(channels)

    def forward(self, log_mel: Tensor, max_tokens: int | None = None) -> Tensor:
        """Tokens [batch, ⌈frames / 4⌉] int64 of [batch, 128, frames]; `max_tokens` cuts the mel."""
        if max_tokens is not None:
            log_mel = log_mel[:, :, : MEL_FRAMES_PER_SPEECH_TOKEN * max_tokens]
        return self.quantizer(self.encoder(log_mel))


def build_rotary(time: int, channels: int, device: torch.device) -> Tensor:
    """Cosines and sines [2, time, channels]: both halves of the channels turn at the same rates."""
    even = torch.arange(0, channels, 2, device=device, dtype=torch.float32)
    rate = 1.0 / 10_000.0 ** (even / channels)
    angle = torch.arange(time, device=device, dtype=torch.float32)[:, None] * rate
    angle = torch.cat([angle, angle], dim=1)
    return torch.stack([angle.cos(), angle.sin()])


def rotated(x: Tensor, rotary: Tensor) -> Tensor:
    """Turn each pair (channel, channel + half) of [batch, heads, time, channels] by its angle."""
    first, second = x.chunk(2, dim=-1)
    return x * rotary[0] + torch.cat([-second, first], dim=-1) * rotary[1]
