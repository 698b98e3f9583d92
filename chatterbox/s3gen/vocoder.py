"""Mel frames → waveform: the HiFT generator (F0 predictor, harmonic source, inverse STFT).

Parameter names are those of the official checkpoints under `mel2wav.`, with the weight norm
folded. Source: HiFTNet (Li et al., 2023) as CosyVoice2 and Chatterbox use it. Knows nothing of
windows or slots: `vocoder_step.py` does.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from chatterbox.api import SAMPLE_RATE
from chatterbox.config import SAMPLES_PER_MEL_FRAME, VocoderConfig
from chatterbox.s3gen.stft import ShortTimeFourier


class Snake(nn.Module):
    """x + sin²(αx)/α with one α per channel (Ziyin et al., 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        # In place, here and below: these are a fifth of the vocoder's time on a CPU.
        alpha = self.alpha[:, None]
        return (x * alpha).sin_().square_().div_(alpha + 1e-9).add_(x)


class ResBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each after a Snake, around a residual."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        pad = (kernel - 1) // 2
        self.convs1 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=pad * dilation)
            for dilation in dilations
        )
        self.convs2 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, padding=pad) for _ in dilations
        )
        self.activations1 = nn.ModuleList(Snake(channels) for _ in dilations)
        self.activations2 = nn.ModuleList(Snake(channels) for _ in dilations)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        for act1, conv1, act2, conv2 in zip(
            self.activations1, self.convs1, self.activations2, self.convs2, strict=True
        ):
            x = masked(conv2(act2(masked(conv1(act1(x)), valid))), valid).add_(x)
        return x


class F0Predictor(nn.Module):
    """Mel [batch, mel_bins, frames] → F0 [batch, frames] in Hz; sees 5 frames to each side."""

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = config.mel_bins
        for _ in range(5):
            layers += [nn.Conv1d(channels, config.f0_channels, 3, padding=1), nn.ELU()]
            channels = config.f0_channels
        self.condnet = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, 1)

    def forward(self, mel: Tensor, valid: Tensor | None = None) -> Tensor:
        x = masked(mel.type_as(self.classifier.weight), valid)
        for layer in self.condnet:
            x = masked(layer(x), valid) if isinstance(layer, nn.ELU) else layer(x)
        return self.classifier(x.transpose(1, 2)).squeeze(-1).abs()


class HarmonicSource(nn.Module):
    """F0 → excitation: the fundamental and its overtones, mixed to one signal (`m_source`)."""

    harmonic: Tensor
    sample_in_frame: Tensor

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        self.l_linear = nn.Linear(config.sines, 1)
        self.register_buffer(
            "harmonic",
            torch.arange(1, config.sines + 1, dtype=torch.float32)[None, :, None],
            persistent=False,
        )
        self.register_buffer(
            "sample_in_frame",
            torch.arange(1, SAMPLES_PER_MEL_FRAME + 1, dtype=torch.float64),
            persistent=False,
        )

    def forward(self, f0: Tensor, cycles: Tensor, phase: Tensor, noise: Tensor) -> Tensor:
        """Excitation [batch, 1, samples].

        f0 [batch, frames] in Hz; cycles [batch] float64, fundamental cycles elapsed before the
        first frame (modulo 1); phase [batch, sines, 1], each sine's offset in radians; noise
        [batch, 1, samples], as `mix` gives it. The phase is summed in float64 per frame: in
        float32 another window shape would round it differently. An overtone's is a multiple of it.
        """
        step = f0.double() / SAMPLE_RATE  # cycles a sample, [batch, frames]
        before = cycles[:, None] + cycles_before(f0)
        elapsed = (before[..., None] + step[..., None] * self.sample_in_frame).flatten(
            1
        )  # [batch, samples]
        return self._shaped(elapsed.frac().float()[:, None] * self.harmonic, f0, phase, noise)

    def mix(self, signals: Tensor) -> Tensor:
        """One signal for each sine [batch, sines, samples] → their mixture [batch, 1, samples].
        Whatever is the same for all sines may be applied after it.
        """
        return self.l_linear.weight @ signals

    def excite(self, cycles: Tensor, f0: Tensor, phase: Tensor, noise: Tensor) -> Tensor:
        """The same, for given cycles and noise [batch, sines, samples] of each sine."""
        return self._shaped(cycles.frac().float(), f0, phase, self.mix(noise))

    def _shaped(self, cycles: Tensor, f0: Tensor, phase: Tensor, noise: Tensor) -> Tensor:
        angle = torch.add(phase, cycles, alpha=2 * math.pi)
        sines = self.config.sine_amplitude * self.mix(angle.sin())
        voiced = (
            (f0 > self.config.voiced_threshold_hz)
            .float()
            .repeat_interleave(SAMPLES_PER_MEL_FRAME, dim=1)[:, None]
        )
        scale = voiced * self.config.voiced_noise + (1 - voiced) * (self.config.sine_amplitude / 3)
        return torch.tanh(sines * voiced + noise * scale + self.l_linear.bias)


class HiFT(nn.Module):
    """The whole vocoder. Row masks (`num_frames`) make right padding neutral; left edges are
    utterance starts.
    """

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        base = config.base_channels
        self.m_source = HarmonicSource(config)
        self.f0_predictor = F0Predictor(config)
        self.fourier = ShortTimeFourier(config.n_fft, config.hop)
        self.conv_pre = nn.Conv1d(config.mel_bins, base, 7, padding=3)
        self.ups = nn.ModuleList()
        self.source_downs = nn.ModuleList()
        self.source_resblocks = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for stage, (rate, kernel) in enumerate(
            zip(config.upsample_rates, config.upsample_kernels, strict=True)
        ):
            channels = base >> (stage + 1)
            pad = (kernel - rate) // 2
            self.ups.append(nn.ConvTranspose1d(base >> stage, channels, kernel, rate, padding=pad))
            down = math.prod(config.upsample_rates[stage + 1 :])
            spectrum = config.n_fft + 2
            self.source_downs.append(
                nn.Conv1d(spectrum, channels, 1)
                if down == 1
                else nn.Conv1d(spectrum, channels, 2 * down, down, padding=down // 2)
            )
            self.source_resblocks.append(
                ResBlock(
                    channels,
                    config.source_resblock_kernels[stage],
                    config.source_resblock_dilations[stage],
                )
            )
            self.resblocks.extend(
                ResBlock(channels, width, dilations)
                for width, dilations in zip(
                    config.resblock_kernels, config.resblock_dilations, strict=True
                )
            )
        self.bins = config.n_fft // 2 + 1
        outputs = 3 if config.directed_phase else 2
        self.conv_post = nn.Conv1d(channels, outputs * self.bins, 7, padding=3)

    def predict_f0(self, mel: Tensor, num_frames: Tensor | None = None) -> Tensor:
        """F0 in Hz [batch, frames] of mel [batch, mel_bins, frames], in the precision of the
        predictor's weights.
        """
        f0: Tensor = self.f0_predictor(mel, row_mask(num_frames, mel.shape[-1], mel.device))
        return f0

    def decode(self, mel: Tensor, source: Tensor, num_frames: Tensor | None = None) -> Tensor:
        """Waveform [batch, samples] from mel [batch, mel_bins, frames] and source [batch, 1,
        samples].
        """
        config = self.config
        frames = mel.shape[-1]
        valid = row_mask(num_frames, frames, mel.device)
        samples = None if num_frames is None else num_frames * SAMPLES_PER_MEL_FRAME
        columns = columns_mask(valid, SAMPLES_PER_MEL_FRAME // config.hop)
        spectrum = masked(self.fourier(source, samples), columns)
        # The generator works in the precision of its weights, both Fourier transforms in their own.
        x = masked(self.conv_pre(masked(mel.type_as(self.conv_pre.weight), valid)), valid)
        excited = spectrum.type_as(x)
        rate = 1
        last = len(self.ups) - 1
        for stage, up in enumerate(self.ups):
            rate *= config.upsample_rates[stage]
            x = up(functional.leaky_relu(x, 0.1, inplace=True))
            if stage == last:
                # The inverse STFT wants one column more than there are hops: reflect the first.
                x = torch.cat([x[:, :, 1:2], x], dim=-1)
            stage_valid = columns if stage == last else stretched(valid, rate)
            x = masked(x, stage_valid)
            excitation = masked(self.source_downs[stage](excited), stage_valid)
            x = self.source_resblocks[stage](excitation, stage_valid).add_(x)
            x = self._fuse(stage, x, stage_valid)
        return self._synthesise(x, spectrum, columns)

    def forward(self, mel: Tensor, phase: Tensor, noise: Tensor) -> Tensor:
        """Whole utterances at once: waveform [batch, samples] with the predicted F0."""
        f0 = self.predict_f0(mel)
        cycles = torch.zeros(mel.shape[0], dtype=torch.float64, device=mel.device)
        return self.decode(mel, self.m_source(f0, cycles, phase, self.m_source.mix(noise)))

    def _fuse(self, stage: int, x: Tensor, valid: Tensor | None) -> Tensor:
        width = len(self.config.resblock_kernels)
        branches = self.resblocks[stage * width : (stage + 1) * width]
        total = branches[0](x, valid)
        for branch in branches[1:]:
            total = total.add_(branch(x, valid))
        return total.div_(width)

    def _synthesise(self, x: Tensor, source: Tensor, columns: Tensor | None) -> Tensor:
        outputs = self.conv_post(functional.leaky_relu(x)).type_as(source)
        if self.config.directed_phase:
            log_magnitude, turn = outputs[:, : self.bins], outputs[:, self.bins :]
            direction = unit(unit(source) + turn)
        else:
            log_magnitude, phase = outputs.chunk(2, dim=1)
            if self.config.bounded_phase:
                phase = phase.sin()
            direction = torch.cat([phase.cos(), phase.sin()], dim=1)
        magnitude = log_magnitude.exp().clamp_max(1e2)
        spectrum = torch.cat([magnitude, magnitude], dim=1) * direction
        return self.fourier.inverse(spectrum, columns).clamp(-0.99, 0.99)


def build_fade_in() -> Tensor:
    """Gain of the first two mel frames of an utterance, then 1 for ever [961]: silence, then a
    raised cosine. It hides what spills over from the voice prompt.
    """
    rise = (torch.cos(torch.linspace(math.pi, 0, SAMPLES_PER_MEL_FRAME)) + 1) / 2
    return torch.cat([torch.zeros(SAMPLES_PER_MEL_FRAME), rise, torch.ones(1)])


def unit(spectrum: Tensor) -> Tensor:
    """Complex numbers [batch, 2 * bins, columns], real parts first, scaled to length 1."""
    real, imaginary = spectrum.chunk(2, dim=1)
    scale = (real.square() + imaginary.square() + 1e-8).rsqrt()
    return torch.cat([real * scale, imaginary * scale], dim=1)


def cycles_before(f0: Tensor) -> Tensor:
    """Cycles of the fundamental elapsed before each frame: f0 [batch, frames] in Hz → [batch,
    frames] float64.
    """
    per_frame = f0.double() * (SAMPLES_PER_MEL_FRAME / SAMPLE_RATE)
    return per_frame.cumsum(dim=1) - per_frame


def row_mask(num_frames: Tensor | None, frames: int, device: torch.device) -> Tensor | None:
    """[batch, 1, frames] float: 1 for the first `num_frames[row]` frames; None when all are
    valid.
    """
    if num_frames is None:
        return None
    return (torch.arange(frames, device=device)[None, None, :] < num_frames[:, None, None]).float()


def stretched(valid: Tensor | None, rate: int) -> Tensor | None:
    """The mask at `rate` times the frame rate."""
    return None if valid is None else valid.repeat_interleave(rate, dim=-1)


def columns_mask(valid: Tensor | None, rate: int) -> Tensor | None:
    """The mask of STFT columns: one more than `rate` times the frames, because the columns are
    centred.
    """
    if valid is None:
        return None
    return functional.pad(valid.repeat_interleave(rate, dim=-1), (1, 0), value=1.0)


def masked(x: Tensor, valid: Tensor | None) -> Tensor:
    return x if valid is None else x * valid.type_as(x)
