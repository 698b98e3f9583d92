"""Clip → 192 numbers of its speaker: CAM++, what the flow is conditioned on.

Parameter names are those of the official checkpoints under `speaker_encoder.`. Source: CAM++ (Wang
et al., 2023, 3D-Speaker): a 2-D front end, then densely connected time-delay layers, each gated by
a mask that sees the whole clip and its surroundings.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.compliance import kaldi

from chatterbox.conditioning.mel import LOW_RATE

NUM_BANDS = 80
_SEGMENT_FRAMES = 100
_GROWTH = 32
_BOTTLENECK = 128
_BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Layers and dilation of each dense block."""


def fbank(wave: Tensor) -> Tensor:
    """Kaldi's log filter banks less their mean over time: 16 kHz wave [batch, samples] → [batch,
    frames, 80].
    """
    rows = [
        kaldi.fbank(row[None], num_mel_bins=NUM_BANDS, sample_frequency=LOW_RATE) for row in wave
    ]
    bands = torch.stack(rows)
    return bands - bands.mean(dim=1, keepdim=True)


def norm_relu(channels: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(channels), relu=nn.ReLU()))


class ResBlock(nn.Module):
    """Two 3×3 convolutions around a residual; the stride is over frequency only."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, (stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut.append(nn.Conv2d(channels, channels, 1, (stride, 1), bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


class FrontEnd(nn.Module):
    """Filter banks [batch, 80, frames] → [batch, 320, frames]: frequency shrinks eightfold."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = nn.Sequential(ResBlock(channels, 2), ResBlock(channels, 1))
        self.layer2 = nn.Sequential(ResBlock(channels, 2), ResBlock(channels, 1))
        self.conv2 = nn.Conv2d(channels, channels, 3, (2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.out_channels = channels * NUM_BANDS // 8

    def forward(self, bands: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(bands[:, None])))
        x = self.layer2(self.layer1(x))
        return functional.relu(self.bn2(self.conv2(x))).flatten(1, 2)


class ContextMask(nn.Module):
    """A convolution over time, gated per channel by the mean of the clip and of the segment."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(
            _BOTTLENECK, _GROWTH, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(_BOTTLENECK, _BOTTLENECK // 2, 1)
        self.linear2 = nn.Conv1d(_BOTTLENECK // 2, _GROWTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        context = x.mean(dim=-1, keepdim=True) + segment_means(x)
        gate = self.linear2(functional.relu(self.linear1(context))).sigmoid()
        return self.linear_local(x) * gate


class DenseLayer(nn.Module):
    def __init__(self, inputs: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = norm_relu(inputs)
        self.linear1 = nn.Conv1d(inputs, _BOTTLENECK, 1, bias=False)
        self.nonlinear2 = norm_relu(_BOTTLENECK)
        self.cam_layer = ContextMask(dilation)

    def forward(self, x: Tensor) -> Tensor:
        return self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))


class DenseBlock(nn.ModuleDict):
    """Each layer sees what all layers before it made."""

    def __init__(self, inputs: int, *, layers: int, dilation: int) -> None:
        super().__init__(
            {
                f"tdnnd{index + 1}": DenseLayer(inputs + index * _GROWTH, dilation)
                for index in range(layers)
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.values():
            x = torch.cat([x, layer(x)], dim=1)
        return x


class Affine(nn.Module):
    """A convolution and the norm beside it, under the official names."""

    def __init__(self, linear: nn.Conv1d, nonlinear: nn.Sequential, *, norm_first: bool) -> None:
        super().__init__()
        self.linear = linear
        self.nonlinear = nonlinear
        self.norm_first = norm_first

    def forward(self, x: Tensor) -> Tensor:
        if self.norm_first:
            return self.linear(self.nonlinear(x))
        return self.nonlinear(self.linear(x))


class StatisticsPool(nn.Module):
    """[batch, channels, frames] → mean and standard deviation over time, [batch, 2 * channels,
    1].
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=-1), x.std(dim=-1)], dim=1)[:, :, None]


def build_time_delay_network(inputs: int, embedding: int) -> nn.Sequential:
    """[batch, inputs, frames] → [batch, embedding, 1]."""
    channels = 128
    first = nn.Conv1d(inputs, channels, 5, stride=2, padding=2, bias=False)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        tdnn=Affine(first, norm_relu(channels), norm_first=False)
    )
    for index, (depth, dilation) in enumerate(_BLOCKS, start=1):
        layers[f"block{index}"] = DenseBlock(channels, layers=depth, dilation=dilation)
        channels += depth * _GROWTH
        halving = nn.Conv1d(channels, channels // 2, 1, bias=False)
        layers[f"transit{index}"] = Affine(halving, norm_relu(channels), norm_first=True)
        channels //= 2
    layers["out_nonlinear"] = norm_relu(channels)
    layers["stats"] = StatisticsPool()
    last = nn.Conv1d(2 * channels, embedding, 1, bias=False)
    plain = nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(embedding, affine=False)))
    layers["dense"] = Affine(last, plain, norm_first=False)
    return nn.Sequential(layers)


class SpeakerEncoder(nn.Module):
    """CAM++ in its published size."""

    def __init__(self, embedding: int = 192) -> None:
        super().__init__()
        self.head = FrontEnd()
        self.xvector = build_time_delay_network(self.head.out_channels, embedding)

    def forward(self, bands: Tensor) -> Tensor:
        """Filter banks [batch, frames, 80], see `fbank` → embedding [batch, 192], not
        normalised.
        """
        return self.xvector(self.head(bands.transpose(1, 2))).squeeze(-1)


def segment_means(x: Tensor) -> Tensor:
    """The mean of each stretch of 100 frames, at each of its frames; the last may be shorter."""
    means = functional.avg_pool1d(x, _SEGMENT_FRAMES, _SEGMENT_FRAMES, ceil_mode=True)
    return means.repeat_interleave(_SEGMENT_FRAMES, dim=-1)[..., : x.shape[-1]]
