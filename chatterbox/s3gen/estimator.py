"""Noisy mel and its conditions → velocity: the U-Net with transformer blocks of the flow
(`flow.decoder.estimator.`).

Source: Matcha-TTS (Mehta et al., 2023) with causal convolutions, as in CosyVoice2 and Chatterbox;
the meanflow variant (Geng et al., 2025) also sees the end of the solver step.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from chatterbox.config import FlowConfig
from chatterbox.s3gen.attention_blocks import attention_bias, valid_mask


class CausalConv(nn.Conv1d):
    """A convolution that sees only the past: left padding of kernel - 1."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, (self.kernel_size[0] - 1, 0)))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of [batch, channels, frames]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class ConvBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        # Index 1 and 3 of the official sequence are transpositions; `ChannelNorm` holds both.
        self.block = nn.ModuleDict({"0": CausalConv(inputs, outputs, 3), "2": ChannelNorm(outputs)})

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        return functional.mish(self.block["2"](self.block["0"](x * valid))) * valid


class ResNet(nn.Module):
    """Two causal convolutions with the time embedding added between them, around a residual."""

    def __init__(self, inputs: int, outputs: int, time_channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Mish(), nn.Linear(time_channels, outputs))
        self.block1 = ConvBlock(inputs, outputs)
        self.block2 = ConvBlock(outputs, outputs)
        self.res_conv = nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor, valid: Tensor, time: Tensor) -> Tensor:
        hidden = self.block1(x, valid) + self.mlp(time)[:, :, None]
        return self.block2(hidden, valid) + self.res_conv(x * valid)


class SelfAttention(nn.Module):
    def __init__(self, channels: int, heads: int, head_channels: int) -> None:
        super().__init__()
        inner = heads * head_channels
        self.heads = heads
        self.to_q = nn.Linear(channels, inner, bias=False)
        self.to_k = nn.Linear(channels, inner, bias=False)
        self.to_v = nn.Linear(channels, inner, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(inner, channels)])

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        batch, time, _ = x.shape
        query, key, value = (
            project(x).view(batch, time, self.heads, -1).transpose(1, 2)
            for project in (self.to_q, self.to_k, self.to_v)
        )
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.type_as(query)
        )
        return self.to_out[0](mixed.transpose(1, 2).reshape(batch, time, -1))


class GeluProjection(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.proj(x))


class FeedForward(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.ModuleDict(
            {"0": GeluProjection(channels, hidden), "2": nn.Linear(hidden, channels)}
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net["2"](self.net["0"](x))


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and feed-forward (`norm2`, for cross-attention, does not exist
    here).
    """

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        channels = config.estimator_channels
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = SelfAttention(channels, config.estimator_heads, config.estimator_head_channels)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, config.estimator_mlp_factor * channels)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x), bias)
        return x + self.ff(self.norm3(x))


class TimeEmbedding(nn.Module):
    """Sinusoids of a time in [0, 1] (scale 1000), then two linear layers."""

    rates: Tensor

    def __init__(self, sinusoids: int, channels: int) -> None:
        super().__init__()
        half = sinusoids // 2
        rates = 1000 * torch.exp(
            torch.arange(half, dtype=torch.float32) * -(math.log(10_000) / (half - 1))
        )
        self.register_buffer("rates", rates, persistent=False)
        self.linear_1 = nn.Linear(sinusoids, channels)
        self.linear_2 = nn.Linear(channels, channels)

    def forward(self, time: Tensor) -> Tensor:
        angle = time[:, None] * self.rates
        sinusoids = torch.cat([angle.sin(), angle.cos()], dim=-1)
        return self.linear_2(
            functional.silu(self.linear_1(sinusoids.type_as(self.linear_1.weight)))
        )


class Estimator(nn.Module):
    """The velocity field; see `forward`."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        channels, time_channels = config.estimator_channels, config.time_channels
        inputs = 4 * config.mel_bins

        def stage(stage_inputs: int, *tail: nn.Module) -> nn.ModuleList:
            blocks = nn.ModuleList(
                TransformerBlock(config) for _ in range(config.estimator_transformers)
            )
            return nn.ModuleList([ResNet(stage_inputs, channels, time_channels), blocks, *tail])

        self.time_mlp = TimeEmbedding(inputs, time_channels)
        if config.meanflow:
            self.time_embed_mixer = nn.Linear(2 * time_channels, time_channels, bias=False)
        self.down_blocks = nn.ModuleList([stage(inputs, CausalConv(channels, channels, 3))])
        self.mid_blocks = nn.ModuleList(stage(channels) for _ in range(config.estimator_mid_stages))
        self.up_blocks = nn.ModuleList([stage(2 * channels, CausalConv(channels, channels, 3))])
        self.final_block = ConvBlock(channels, channels)
        self.final_proj = nn.Conv1d(channels, config.mel_bins, 1)

    def forward(
        self,
        x: Tensor,
        block: Tensor,
        *,
        mu: Tensor,
        speaker: Tensor,
        cond: Tensor,
        time: Tensor,
        end_time: Tensor | None = None,
    ) -> Tensor:
        """Velocity [batch, mel_bins, frames] at `x` of the same shape.

        block [batch, frames] says who attends to whom and what is padding; mu, cond [batch,
        mel_bins, frames]; speaker [batch, mel_bins]; time, and end_time for meanflow, [batch] in
        [0, 1].
        """
        valid = valid_mask(block)[:, None].type_as(x)
        bias = attention_bias(block).type_as(x)
        embedded = self.time_mlp(time)
        if end_time is not None:
            embedded = self.time_embed_mixer(torch.cat([embedded, self.time_mlp(end_time)], dim=-1))
        x = torch.cat([x, mu, speaker[:, :, None].expand_as(mu), cond], dim=1)
        resnet, transformers, down = stage_of(self.down_blocks[0])
        skip = attended(resnet(x, valid, embedded), transformers, bias)
        x = down(skip * valid)
        for resnet, transformers in map(stage_of, self.mid_blocks):
            x = attended(resnet(x, valid, embedded), transformers, bias)
        resnet, transformers, up = stage_of(self.up_blocks[0])
        x = attended(resnet(torch.cat([x, skip], dim=1), valid, embedded), transformers, bias)
        x = self.final_block(up(x * valid), valid)
        return self.final_proj(x * valid) * valid


def stage_of(modules: nn.Module) -> list[Any]:
    """The parts of one stage: ResNet, transformer blocks and, at both ends, a convolution."""
    assert isinstance(modules, nn.ModuleList), "stages are lists of modules"
    return list(modules)


def attended(x: Tensor, transformers: nn.ModuleList, bias: Tensor) -> Tensor:
    """Run transformer blocks over [batch, channels, frames]."""
    x = x.transpose(1, 2).contiguous()  # else every norm and sum in the blocks reads across rows
    for block in transformers:
        x = block(x, bias)
    return x.transpose(1, 2)
