"""Teacher's mel and waveform in, a trained HiFT out: spectral losses at five resolutions, no
adversary.

An adversary would need several times the compute; with these losses copy synthesis reaches the
teacher's word error.
"""

import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional

from chatterbox.config import SAMPLES_PER_MEL_FRAME, VocoderConfig
from chatterbox.s3gen.stft import ShortTimeFourier
from chatterbox.s3gen.vocoder import HiFT
from chatterbox.training.dataset import SpeechData
from chatterbox.training.loop import Optimisation
from chatterbox.training.mel import filterbank

OPTIMISATION = Optimisation(peak=8e-4, warm_up_steps=200, clip=5.0, betas=(0.85, 0.98))
RESOLUTIONS = ((128, 32), (256, 64), (512, 128), (1024, 256), (2048, 512))
CROP_FRAMES = 36
EDGE_FRAMES = 2
"""Left out of the loss on each side of a crop: its neighbours are missing there."""


class VocoderLoss:
    """Distances between two waveforms [batch, samples]."""

    def __init__(self, device: torch.device) -> None:
        self._windows = {size: torch.hann_window(size, device=device) for size, _ in RESOLUTIONS}
        self._mel_window = torch.hann_window(1920, device=device)
        self._filters = torch.from_numpy(filterbank()).to(device)

    def _magnitude(self, wave: Tensor, size: int, hop: int) -> Tensor:
        spectrum = torch.stft(wave, size, hop, window=self._windows[size], return_complex=True)
        return (spectrum.real.square() + spectrum.imag.square() + 1e-7).sqrt()

    def _log_mel(self, wave: Tensor) -> Tensor:
        spectrum = torch.stft(wave, 1920, 240, window=self._mel_window, return_complex=True)
        magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()
        return (self._filters @ magnitude).clamp_min(1e-5).log()

    def __call__(self, made: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        spectral = made.new_zeros(())
        for size, hop in RESOLUTIONS:
            ours, theirs = self._magnitude(made, size, hop), self._magnitude(wanted, size, hop)
            convergence = (theirs - ours).norm(dim=(1, 2)) / theirs.norm(dim=(1, 2)).clamp_min(1e-3)
            spectral = spectral + convergence.mean() + (ours.log() - theirs.log()).abs().mean()
        return spectral / len(RESOLUTIONS), (
            self._log_mel(made) - self._log_mel(wanted)
        ).abs().mean()


class Fp32Fourier(ShortTimeFourier):
    """The transform kept out of autocast: bf16 phases would be noise at -40 dB."""

    def forward(self, signal: Tensor, num_samples: Tensor | None = None) -> Tensor:
        with torch.autocast(signal.device.type, enabled=False):
            return super().forward(signal.float(), num_samples)

    def inverse(self, spectrum: Tensor, columns: Tensor | None = None) -> Tensor:
        with torch.autocast(spectrum.device.type, enabled=False):
            return super().inverse(spectrum.float(), columns)


class Fp32Conv1d(nn.Conv1d):
    """A convolution kept out of autocast."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def initialise(model: HiFT) -> None:
    """Start the pitch near a voice's range, so that the first steps are not spent on its scale."""
    with torch.no_grad():
        model.f0_predictor.classifier.weight.mul_(50.0)
        model.f0_predictor.classifier.bias.fill_(100.0)
        model.m_source.l_linear.weight.fill_(0.3)
        model.m_source.l_linear.bias.zero_()
    # Free, these weights go to zero in the first hundred steps, before the generator knows how to
    # use the source, and never come back: the voice is then hoarse.
    model.m_source.l_linear.requires_grad_(False)


class VocoderStage:
    """One step's loss on random crops."""

    def __init__(
        self, data: SpeechData, config: VocoderConfig, *, batch: int = 12, device: str = "cpu"
    ) -> None:
        self._data, self._config, self._batch = data, config, batch
        self._device = torch.device(device)
        self.model = self.model_of(config).to(self._device)
        initialise(self.model)
        self._distance = VocoderLoss(self._device)

    @staticmethod
    def model_of(config: VocoderConfig) -> HiFT:
        """The vocoder with the parts that must stay in fp32 kept out of autocast."""
        model = HiFT(config)
        model.fourier = Fp32Fourier(config.n_fft, config.hop)
        last = model.conv_post
        model.conv_post = Fp32Conv1d(last.in_channels, last.out_channels, 7, padding=3)
        return model

    def crops(self, rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """mel [batch, 80, frames], f0 [batch, frames], wave [batch, samples]."""
        mels, pitches, waves = [], [], []
        for _ in range(self._batch):
            index = self._data.random_index(rng, at_least_frames=CROP_FRAMES)
            start = int(rng.integers(self._data.mel_frames[index] - CROP_FRAMES + 1))
            frames = slice(start, start + CROP_FRAMES)
            samples = slice(
                start * SAMPLES_PER_MEL_FRAME, (start + CROP_FRAMES) * SAMPLES_PER_MEL_FRAME
            )
            mels.append(
                torch.from_numpy(self._data.field("mel", index)[frames].astype("float32").T)
            )
            pitches.append(
                torch.from_numpy(self._data.field("f0", index)[frames].astype("float32"))
            )
            waves.append(
                torch.from_numpy(self._data.field("wave", index)[samples].astype("float32") / 32768)
            )
        return (
            torch.stack(mels).to(self._device),
            torch.stack(pitches).to(self._device),
            torch.stack(waves).to(self._device),
        )

    def __call__(self, rng: Generator, spent: float) -> tuple[Tensor, dict[str, float]]:
        mel, f0, wave = self.crops(rng)
        # Generated mels are not exact: a little noise keeps the vocoder from trusting every digit.
        noisy = mel + 0.05 * torch.randn_like(mel) * torch.rand(len(mel), 1, 1, device=self._device)
        predicted = self.model.predict_f0(noisy)
        pitch_loss = (predicted - f0).abs().mean() / 20.0
        source_f0 = predicted.detach() if spent > 0.1 and rng.random() < 0.5 else f0
        sines = self._config.sines
        phase = torch.zeros(len(mel), sines, 1, device=self._device)
        noise = torch.randn(len(mel), sines, wave.shape[1], device=self._device)
        cycles = torch.zeros(len(mel), dtype=torch.float64, device=self._device)
        source = self.model.m_source(source_f0, cycles, phase, self.model.m_source.mix(noise))
        with torch.autocast(self._device.type, torch.bfloat16):
            made = self.model.decode(noisy, source)
        inner = slice(EDGE_FRAMES * SAMPLES_PER_MEL_FRAME, -EDGE_FRAMES * SAMPLES_PER_MEL_FRAME)
        spectral, mel_distance = self._distance(made[:, inner], wave[:, inner])
        voicing = ((predicted > self._config.voiced_threshold_hz) == (f0 > 0)).float().mean()
        loss = spectral + mel_distance + 0.3 * pitch_loss
        return loss, {
            "spectral": spectral.item(),
            "mel": mel_distance.item(),
            "f0_hz": functional.l1_loss(predicted, f0).item(),
            "voicing": voicing.item(),
        }
