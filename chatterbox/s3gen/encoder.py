"""Speech-token embeddings → features at the mel frame rate: the conformer encoder with lookahead
and 2x upsampling.

Parameter names are those of the official checkpoints under `flow.encoder.`. The "conformer" has
neither convolution nor macaron modules: pre-norm self-attention with relative positions (Dai et
al., 2019, as in ESPnet) and a feed-forward.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from chatterbox.config import LOOKAHEAD_TOKENS, MEL_FRAMES_PER_TOKEN, FlowConfig
from chatterbox.s3gen.attention_blocks import attention_bias, valid_mask


def build_relative_positions(longest: int, channels: int) -> Tensor:
    """Sinusoids [2 * longest - 1, channels] for distances longest - 1 … -(longest - 1) (past
    first).
    """
    distance = torch.arange(longest - 1, -longest, -1, dtype=torch.float32)[:, None]
    rate = torch.exp(
        torch.arange(0, channels, 2, dtype=torch.float32) * -(math.log(10_000.0) / channels)
    )
    table = torch.zeros(2 * longest - 1, channels)
    table[:, 0::2] = torch.sin(distance * rate)
    table[:, 1::2] = torch.cos(distance * rate)
    return table


class RelativeAttention(nn.Module):
    """Self-attention whose scores add a term for the distance between query and key."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear_q = nn.Linear(channels, channels)
        self.linear_k = nn.Linear(channels, channels)
        self.linear_v = nn.Linear(channels, channels)
        self.linear_out = nn.Linear(channels, channels)
        self.linear_pos = nn.Linear(channels, channels, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(heads, channels // heads))
        self.pos_bias_v = nn.Parameter(torch.zeros(heads, channels // heads))

    def forward(self, x: Tensor, positions: Tensor, bias: Tensor) -> Tensor:
        """x [batch, time, channels]; positions [2 * time - 1, channels]; bias [batch, 1, time,
        time].
        """
        batch, time, channels = x.shape
        head_channels = channels // self.heads
        query = self.linear_q(x).view(batch, time, self.heads, head_channels)
        key = self.linear_k(x).view(batch, time, self.heads, head_channels).transpose(1, 2)
        value = self.linear_v(x).view(batch, time, self.heads, head_channels).transpose(1, 2)
        distance = self.linear_pos(positions).view(-1, self.heads, head_channels).permute(1, 2, 0)
        by_distance = (query + self.pos_bias_v).transpose(
            1, 2
        ) @ distance  # [batch, heads, time, 2 * time - 1]
        scores = shift_distances(by_distance) / math.sqrt(head_channels)
        mixed = functional.scaled_dot_product_attention(
            (query + self.pos_bias_u).transpose(1, 2),
            key,
            value,
            attn_mask=scores + bias.type_as(scores),
        )
        return self.linear_out(mixed.transpose(1, 2).reshape(batch, time, channels))


def shift_distances(scores: Tensor) -> Tensor:
    """[…, query, distance] → […, query, key]: row i takes the distances i - key, which start at
    column time - 1 - i.
    """
    batch, heads, time, width = scores.shape
    flat = functional.pad(scores, (1, 0)).view(batch, heads, width + 1, time)
    return flat[:, :, 1:].reshape(batch, heads, time, width)[..., :time]


class FeedForward(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.w_1 = nn.Linear(channels, hidden)
        self.w_2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(functional.silu(self.w_1(x)))


class ConformerBlock(nn.Module):
    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        channels = config.encoder_channels
        self.self_attn = RelativeAttention(channels, config.encoder_heads)
        self.feed_forward = FeedForward(channels, config.encoder_mlp_channels)
        self.norm_mha = nn.LayerNorm(channels, eps=1e-12)
        self.norm_ff = nn.LayerNorm(channels, eps=1e-12)

    def forward(self, x: Tensor, positions: Tensor, bias: Tensor) -> Tensor:
        x = x + self.self_attn(self.norm_mha(x), positions, bias)
        return x + self.feed_forward(self.norm_ff(x))


class InputProjection(nn.Module):
    """Linear, layer norm, and the scale that ESPnet's positional encoding applies."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Linear(channels, channels), nn.LayerNorm(channels, eps=1e-5))
        self.scale = math.sqrt(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x) * self.scale


class Lookahead(nn.Module):
    """The only view into the future under block-causal attention: each token sees three more."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(channels, channels, LOOKAHEAD_TOKENS + 1)
        self.conv2 = nn.Conv1d(channels, channels, 3)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x [batch, time, channels]; what is not valid counts as the zeros beyond the end."""
        inside = valid[:, None]
        ahead = functional.pad(x.transpose(1, 2) * inside, (0, LOOKAHEAD_TOKENS))
        hidden = functional.leaky_relu(self.conv1(ahead))
        return x + self.conv2(functional.pad(hidden, (2, 0))).transpose(1, 2)


class Upsample(nn.Module):
    """Nearest neighbour to the mel frame rate, then a causal convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 2 * MEL_FRAMES_PER_TOKEN + 1)

    def forward(self, x: Tensor) -> Tensor:
        repeated = x.transpose(1, 2).repeat_interleave(MEL_FRAMES_PER_TOKEN, dim=2)
        return self.conv(functional.pad(repeated, (2 * MEL_FRAMES_PER_TOKEN, 0))).transpose(1, 2)


class UpsampleConformer(nn.Module):
    """The encoder. Right padding (see `attention_blocks`) is numerically neutral."""

    positions: Tensor

    def __init__(self, config: FlowConfig, longest: int) -> None:
        """`longest` bounds the tokens of one call; it sizes the table of relative positions."""
        super().__init__()
        channels = config.encoder_channels
        self.embed = InputProjection(channels)
        self.pre_lookahead_layer = Lookahead(channels)
        self.encoders = nn.ModuleList(ConformerBlock(config) for _ in range(config.encoder_blocks))
        self.up_layer = Upsample(channels)
        self.up_embed = InputProjection(channels)
        self.up_encoders = nn.ModuleList(
            ConformerBlock(config) for _ in range(config.upsampled_blocks)
        )
        self.after_norm = nn.LayerNorm(channels, eps=1e-5)
        self.longest = longest * MEL_FRAMES_PER_TOKEN
        self.register_buffer(
            "positions", build_relative_positions(self.longest, channels), persistent=False
        )

    def forward(self, x: Tensor, block: Tensor) -> Tensor:
        """x [batch, tokens, channels], block [batch, tokens] → [batch, 2 * tokens, channels]."""
        x = self.pre_lookahead_layer(self.embed(x), valid_mask(block).type_as(x))
        x = self._attend(self.encoders, x, block)
        x = self.up_embed(self.up_layer(x))
        x = self._attend(self.up_encoders, x, block.repeat_interleave(MEL_FRAMES_PER_TOKEN, dim=1))
        return self.after_norm(x)

    def _attend(self, blocks: nn.ModuleList, x: Tensor, block: Tensor) -> Tensor:
        time = x.shape[1]
        positions = self.positions[self.longest - time : self.longest + time - 1].type_as(x)
        bias = attention_bias(block).type_as(x)
        for layer in blocks:
            x = layer(x, positions, bias)
        return x
