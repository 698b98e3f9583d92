"""Speaker, prompt and emotion → the conditioning rows of T3 on Llama. Parameter names are those of
the official checkpoints.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from chatterbox.t3.config import T3Config


class ResamplerAttention(nn.Module):
    """One attention block with a shared norm for queries and keys, added to the un-normed query."""

    def __init__(self, config: T3Config) -> None:
        super().__init__()
        channels = config.channels
        self.heads = config.resampler_heads
        self.norm = nn.LayerNorm(channels, eps=1e-5)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x [rows, queries, channels] looks at seen [rows, keys, channels]."""
        query, seen = self.norm(x), self.norm(seen)
        mixed = functional.scaled_dot_product_attention(
            self._split(self.to_q(query)),
            self._split(self.to_k(seen)),
            self._split(self.to_v(seen)),
        )
        return x + self.proj_out(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        rows, time, _ = x.shape
        return x.view(rows, time, self.heads, -1).transpose(1, 2)


class Resampler(nn.Module):
    """A prompt of any length → a fixed number of rows: learned queries look at the prompt, then at
    each other, through the same weights.
    """

    def __init__(self, config: T3Config) -> None:
        super().__init__()
        self.pre_attention_query = nn.Parameter(
            torch.randn(1, config.prompt_rows, config.channels) * 0.02
        )
        self.attn = ResamplerAttention(config)

    def forward(self, prompt: Tensor) -> Tensor:
        """[rows, prompt_tokens, channels] → [rows, prompt_rows, channels]"""
        query = self.pre_attention_query.expand(prompt.shape[0], -1, -1)
        rows = self.attn(query, prompt)
        return self.attn(rows, rows)


class ConditionEncoder(nn.Module):
    """[speaker | prompt resampled | emotion]"""

    def __init__(self, config: T3Config) -> None:
        super().__init__()
        self.spkr_enc = nn.Linear(config.speaker_channels, config.channels)
        self.emotion_adv_fc = nn.Linear(1, config.channels, bias=False)
        self.perceiver = Resampler(config)

    def forward(self, speaker: Tensor, prompt: Tensor) -> Tensor:
        """All but the emotion: speaker [rows, speaker_channels] and embedded prompt."""
        return torch.cat([self.spkr_enc(speaker)[:, None], self.perceiver(prompt)], dim=1)

    def emotion(self, exaggeration: Tensor) -> Tensor:
        """exaggeration [rows] → its row, [rows, 1, channels]"""
        value = exaggeration[:, None, None].type_as(self.emotion_adv_fc.weight)
        return self.emotion_adv_fc(value)
