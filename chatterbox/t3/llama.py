"""Embeddings of [speaker | resampled prompt | emotion | text | start, start | speech] → logits of
the next speech token: T3 on a Llama backbone, two rows a slot for guidance.

Parameter names are those of the official English and Multilingual checkpoints. The transformer; no
loop, no sampling, no cache policy.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from chatterbox.t3.config import T3Config
from chatterbox.t3.predictor import KeyValueCache, TokenPredictor
from chatterbox.t3.resampler import ConditionEncoder

ROTARY_THETA = 500_000.0
ROTARY_FACTOR = 8.0
ROTARY_LOW, ROTARY_HIGH = 1.0, 4.0
ROTARY_TRAINED_POSITIONS = 8192


def build_rotary_frequencies(head_channels: int) -> Tensor:
    """Radians per position of each pair of channels [head_channels / 2], stretched as Llama 3 does:
    slow ones by the factor, fast ones not at all, those between in proportion.
    """
    index = torch.arange(0, head_channels, 2, dtype=torch.int64, device="cpu").float()
    frequency = 1.0 / (ROTARY_THETA ** (index / head_channels))
    wavelength = 2 * math.pi / frequency
    kept = (ROTARY_TRAINED_POSITIONS / wavelength - ROTARY_LOW) / (ROTARY_HIGH - ROTARY_LOW)
    between = (1 - kept) * frequency / ROTARY_FACTOR + kept * frequency
    slow = wavelength > ROTARY_TRAINED_POSITIONS / ROTARY_LOW
    fast = wavelength < ROTARY_TRAINED_POSITIONS / ROTARY_HIGH
    return torch.where(slow, frequency / ROTARY_FACTOR, torch.where(fast, frequency, between))


def build_rotary_table(positions: int, head_channels: int) -> Tensor:
    """[positions, 2, head_channels]: cosine and sine, each for both halves of a head."""
    # The device is named so that a model laid out on `meta` has its tables nevertheless.
    position = torch.arange(positions, device="cpu").float()
    angle = position[:, None] * build_rotary_frequencies(head_channels)
    angle = torch.cat([angle, angle], dim=1)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def rotated(x: Tensor, rotary: Tensor) -> Tensor:
    """x [rows, heads, time, head_channels] turned by rotary [rows or 1, time, 2, head_channels]."""
    cosine, sine = rotary[:, None, :, 0], rotary[:, None, :, 1]
    first, second = x.chunk(2, dim=-1)
    turned = x * cosine + torch.cat([-second, first], dim=-1) * sine
    return turned.type_as(x)  # the table keeps full precision


class Attention(nn.Module):
    def __init__(self, config: T3Config) -> None:
        super().__init__()
        channels = config.channels
        self.heads = config.heads
        self.q_proj = nn.Linear(channels, channels, bias=False)
        self.k_proj = nn.Linear(channels, channels, bias=False)
        self.v_proj = nn.Linear(channels, channels, bias=False)
        self.o_proj = nn.Linear(channels, channels, bias=False)

    def forward(
        self, x: Tensor, rotary: Tensor, bias: Tensor, layer: int, cache: KeyValueCache | None
    ) -> Tensor:
        query = self.query(x, rotary)
        key, value = rotated(self._split(self.k_proj(x)), rotary), self._split(self.v_proj(x))
        if cache is not None:
            key, value = cache.extend(layer, key, value)
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.type_as(query)
        )
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def query(self, x: Tensor, rotary: Tensor) -> Tensor:
        """[rows, heads, time, head_channels]"""
        return rotated(self._split(self.q_proj(x)), rotary)

    def _split(self, x: Tensor) -> Tensor:
        rows, time, _ = x.shape
        return x.view(rows, time, self.heads, -1).transpose(1, 2)


class FeedForward(nn.Module):
    def __init__(self, config: T3Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.channels, config.mlp_channels, bias=False)
        self.up_proj = nn.Linear(config.channels, config.mlp_channels, bias=False)
        self.down_proj = nn.Linear(config.mlp_channels, config.channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, config: T3Config) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.channels, eps=1e-5)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.channels, eps=1e-5)
        self.mlp = FeedForward(config)

    def forward(
        self, x: Tensor, rotary: Tensor, bias: Tensor, layer: int, cache: KeyValueCache | None
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rotary, bias, layer, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Transformer(nn.Module):
    """Llama without its token table: rows of embeddings in, normalised hidden states out."""

    rotary: Tensor

    def __init__(self, config: T3Config) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.channels, eps=1e-5)
        table = build_rotary_table(config.max_sequence, config.channels // config.heads)
        self.register_buffer("rotary", table, persistent=False)

    def forward(
        self, x: Tensor, positions: Tensor, bias: Tensor, cache: KeyValueCache | None = None
    ) -> Tensor:
        """See `TokenPredictor.transform`."""
        rotary = self.rotary[positions]
        for layer, block in enumerate(self.layers):
            x = block(x, rotary, bias, layer, cache)
        return self.norm(x)


class PositionTable(nn.Module):
    """Learned positions, under the official name."""

    def __init__(self, positions: int, channels: int) -> None:
        super().__init__()
        self.emb = nn.Embedding(positions, channels)

    def forward(self, positions: Tensor) -> Tensor:
        return self.emb(positions)


class LlamaT3(TokenPredictor):
    """The token predictor of English and Multilingual. Learned positions restart with the text and
    with the speech, beside the rotary ones over the whole sequence.
    """

    def __init__(self, config: T3Config) -> None:
        super().__init__(config)
        self.tfmr = Transformer(config)
        self.cond_enc = ConditionEncoder(config)
        self.text_pos_emb = PositionTable(config.text_positions, config.channels)
        self.speech_pos_emb = PositionTable(config.speech_positions, config.channels)

    def lay_out_for_few_rows(self) -> None:
        """The columns of each matrix lie side by side in memory: the product of two rows with it
        then takes four fifths of the time.
        """
        for module in (*self.tfmr.modules(), self.speech_head):
            if isinstance(module, nn.Linear) and not module.weight.t().is_contiguous():
                columns = module.weight.detach().t().contiguous().t()
                module.weight = nn.Parameter(columns, requires_grad=False)

    def embed_condition(self, speaker: Tensor, prompt: Tensor) -> Tensor:
        """See `TokenPredictor`: 1 + prompt_rows rows; the emotion is a matter of the text."""
        return self.cond_enc(speaker, self.embed_sequence(prompt))

    def embed_sequence(self, speech: Tensor) -> Tensor:
        """Consecutive speech tokens [rows, time], counted from 0."""
        positions = torch.arange(speech.shape[1], device=speech.device)[None]
        return self.speech_emb(speech) + self.speech_pos_emb(positions)

    def embed_text(self, text: Tensor) -> Tensor:
        """[rows, time] text tokens, counted from 0."""
        positions = torch.arange(text.shape[1], device=text.device)[None]
        return self.text_emb(text) + self.text_pos_emb(positions)

    def prefix_length(self, condition: int, num_text: int) -> int:
        """See `TokenPredictor`: the emotion and the first of the two start tokens count."""
        return condition + 1 + num_text + 1

    def embed_prefix(
        self, condition: Tensor, text: Tensor, *, num_text: Tensor, exaggeration: Tensor
    ) -> Tensor:
        """See `TokenPredictor`: a row that sees the text, and one that sees its positions only."""
        index = torch.arange(text.shape[1] + 1, device=text.device)[None]
        embedded = functional.pad(self.text_emb(text), (0, 0, 0, 1))
        pair = torch.cat([embedded, torch.zeros_like(embedded)]) + self.text_pos_emb(index)
        zero = torch.zeros_like(num_text)
        start = self.embed_speech(zero + self.config.start_speech_token, zero)
        pair = torch.where((index == num_text[:, None])[:, :, None], start[:, None], pair)
        emotion = self.cond_enc.emotion(exaggeration)
        shared = torch.cat([condition, emotion], dim=1)
        return torch.cat([shared.expand(2, -1, -1), pair], dim=1)

    def embed_speech(self, token: Tensor, step: Tensor) -> Tensor:
        """See `TokenPredictor`."""
        return self.speech_emb(token) + self.speech_pos_emb(step)

    def positions(self, length: Tensor, step: Tensor) -> Tensor:
        """Rotary positions."""
        return length

    def transform(
        self, x: Tensor, positions: Tensor, bias: Tensor, cache: KeyValueCache | None = None
    ) -> Tensor:
        """See `TokenPredictor`."""
        return self.tfmr(x, positions, bias, cache)
