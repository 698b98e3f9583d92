"""Embeddings of [speaker | prompt | text | start | speech] → logits of the next speech token: T3
on a GPT-2 backbone.

Parameter names are those of the official Turbo and Nano checkpoints. The transformer; no loop, no
sampling, no cache policy.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from chatterbox.t3.config import T3Config
from chatterbox.t3.predictor import KeyValueCache, TokenPredictor
from chatterbox.t3.predictor import causal_bias as causal_bias


class Conv1D(nn.Module):
    """A linear layer whose weight is stored [inputs, outputs], as GPT-2 does."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.normal_(torch.empty(inputs, outputs), std=0.02))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        flat = torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight)
        return flat.view(*x.shape[:-1], -1)


class Attention(nn.Module):
    def __init__(self, config: T3Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.c_attn = Conv1D(config.channels, 3 * config.channels)
        self.c_proj = Conv1D(config.channels, config.channels)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [rows, heads, time, head_channels]."""
        rows, time, _ = x.shape
        query, key, value = (
            self.c_attn(x).view(rows, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        )
        return query, key, value

    def forward(self, x: Tensor, bias: Tensor, layer: int, cache: KeyValueCache | None) -> Tensor:
        query, key, value = self.project(x)
        if cache is not None:
            key, value = cache.extend(layer, key, value)
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.type_as(query)
        )
        return self.c_proj(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, config: T3Config) -> None:
        super().__init__()
        self.c_fc = Conv1D(config.channels, config.mlp_channels)
        self.c_proj = Conv1D(config.mlp_channels, config.channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(functional.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, config: T3Config) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.channels, eps=1e-5)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.channels, eps=1e-5)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, bias: Tensor, layer: int, cache: KeyValueCache | None) -> Tensor:
        x = x + self.attn(self.ln_1(x), bias, layer, cache)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """GPT-2 without its token table: rows of embeddings in, normalised hidden states out."""

    def __init__(self, config: T3Config) -> None:
        super().__init__()
        self.wpe = nn.Embedding(config.positions, config.channels)
        self.h = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.ln_f = nn.LayerNorm(config.channels, eps=1e-5)

    def forward(
        self, x: Tensor, positions: Tensor, bias: Tensor, cache: KeyValueCache | None = None
    ) -> Tensor:
        """x [rows, time, channels]; positions [rows or 1, time]; bias, additive, [rows or 1, 1,
        time, keys].
        """
        x = x + self.wpe(positions)
        for layer, block in enumerate(self.h):
            x = block(x, bias, layer, cache)
        return self.ln_f(x)


class ConditionEncoder(nn.Module):
    """The speaker vector as the first row of the sequence."""

    def __init__(self, config: T3Config) -> None:
        super().__init__()
        self.spkr_enc = nn.Linear(config.speaker_channels, config.channels)


class T3(TokenPredictor):
    """The token predictor. One learned position table runs over the whole sequence, conditioning
    included.
    """

    def __init__(self, config: T3Config) -> None:
        super().__init__(config)
        self.tfmr = Transformer(config)
        self.cond_enc = ConditionEncoder(config)

    def embed_condition(self, speaker: Tensor, prompt: Tensor) -> Tensor:
        """See `TokenPredictor`: 1 + prompt_tokens rows."""
        return torch.cat([self.cond_enc.spkr_enc(speaker)[:, None], self.speech_emb(prompt)], dim=1)

    def prefix_length(self, condition: int, num_text: int) -> int:
        """See `TokenPredictor`."""
        return condition + num_text

    def embed_prefix(
        self, condition: Tensor, text: Tensor, *, num_text: Tensor, exaggeration: Tensor
    ) -> Tensor:
        """See `TokenPredictor`."""
        return torch.cat([condition, self.text_emb(text)], dim=1)

    def embed_speech(self, token: Tensor, step: Tensor) -> Tensor:
        """See `TokenPredictor`."""
        return self.speech_emb(token)

    def positions(self, length: Tensor, step: Tensor) -> Tensor:
        """Rows of the table of learned positions."""
        fixed = self.config.speech_positions_from
        return step + fixed if fixed else length

    def transform(
        self, x: Tensor, positions: Tensor, bias: Tensor, cache: KeyValueCache | None = None
    ) -> Tensor:
        """See `TokenPredictor`."""
        return self.tfmr(x, positions, bias, cache)
