"""The vocoder gives the waveform of the reference implementation, at full size."""

import re
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from chatterbox.api import SAMPLE_RATE
from chatterbox.checkpoint import fold_weight_norm
from chatterbox.config import SAMPLES_PER_MEL_FRAME, VocoderConfig
from chatterbox.s3gen.vocoder import HarmonicSource, HiFT, build_fade_in
from tests.model.every_array import assert_every_array
from tests.model.parity import Group, weights


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def vocoder() -> HiFT:
    return build_vocoder()


def build_vocoder() -> HiFT:
    """At full size, with the made-up weights."""
    vocoder = HiFT(VocoderConfig())
    vocoder.load_state_dict(fold_weight_norm(weights("s3gen", prefix="mel2wav.")))
    return vocoder.eval()


def summed_in_float32(source: HarmonicSource, f0: Tensor) -> Tensor:
    """The cycles of each sine as the reference adds them up, sample by sample; ours are exact."""
    per_sample = f0.repeat_interleave(SAMPLES_PER_MEL_FRAME, dim=1)[:, None]
    return (per_sample * source.harmonic.float() / SAMPLE_RATE).cumsum(dim=-1)


def drawn(seed: int, sines: int, samples: int) -> tuple[Tensor, Tensor]:
    """Phase and noise in the order in which the reference draws them; the fundamental starts at
    0.
    """
    generator = torch.Generator().manual_seed(seed)
    phase = (2 * torch.rand(1, sines, 1, generator=generator) - 1) * torch.pi
    phase[:, 0] = 0
    return phase, torch.randn(1, sines, samples, generator=generator)


class Given:
    """The stored mel and F0, and what comes of them."""

    def __init__(self, vocoder: HiFT, group: Group) -> None:
        self.vocoder, self.group = vocoder, group
        self.mel, self.f0 = group["in.mel"], group["f0"]
        self.zeros = torch.zeros_like(group["in.phase"]), torch.zeros_like(group["in.noise"])
        self.given = group["in.phase"], group["in.noise"]

    def source(self, phase: Tensor, noise: Tensor) -> Tensor:
        source = self.vocoder.m_source
        cycles = summed_in_float32(source, self.f0)
        return source.excite(cycles, self.f0, phase, noise)

    def exact_source(self, phase: Tensor, noise: Tensor) -> Tensor:
        start = torch.zeros(1, dtype=torch.float64)
        harmonic = self.vocoder.m_source
        source: Tensor = harmonic(self.f0, start, phase, harmonic.mix(noise))
        return source

    def cached(self) -> Tensor:
        """The given source, its start overwritten."""
        old = self.group["in.cache_source"]
        return torch.cat([old, self.group["source.given"][:, :, old.shape[2] :]], dim=2)

    def from_seed(self, match: re.Match[str]) -> Tensor:
        source = self.vocoder.m_source
        phase, noise = drawn(int(match[1]), source.config.sines, self.given[1].shape[2])
        return self.vocoder.decode(self.mel, self.source(phase, noise))

    def voiced(self) -> Tensor:
        found = (self.f0 > self.vocoder.config.voiced_threshold_hz).float()[:, :, None]
        assert int(found.sum()) == self.group.facts["voiced_frames"]
        return found

    def last_convolution(self, match: re.Match[str]) -> Tensor:
        outputs: list[Tensor] = []
        hook = self.vocoder.conv_post.register_forward_hook(
            lambda _module, _inputs, output: outputs.append(output)
        )
        self.vocoder.decode(self.mel, self.group["source.given"])
        hook.remove()
        return outputs[0][:, :, :: int(match[1])]


def test_vocoder(vocoder: HiFT) -> None:
    """F0, the source from stored F0, and the waveform from the stored source, each by itself."""
    group = Group("vocoder")
    given = Given(vocoder, group)
    assert_every_array(
        group,
        {
            r"f0": lambda _: vocoder.predict_f0(given.mel),
            r"uv_per_frame": lambda _: given.voiced(),
            r"source\.zero": lambda _: given.source(*given.zeros),
            r"source\.given": lambda _: given.source(*given.given),
            r"wav\.(zero|given)": lambda match: vocoder.decode(
                given.mel, group[f"source.{match[1]}"]
            ),
            r"wav\.cache_source": lambda _: vocoder.decode(given.mel, given.cached()),
            r"wav\.torch_manual_seed_(\d+)": given.from_seed,
            r"conv_post_out_every(\d+)": given.last_convolution,
            r"trim_fade": lambda _: build_fade_in()[:-1],
        },
    )


def test_exact_phase_is_the_reference_but_for_its_rounding(vocoder: HiFT) -> None:
    """The reference adds up the phase in float32; ours, exact, may differ by what that loses."""
    group = Group("vocoder")
    given = Given(vocoder, group)
    for name, randomness in (("zero", given.zeros), ("given", given.given)):
        exact = given.exact_source(*randomness)
        group.assert_close(f"source.{name}", exact, tolerance=1e-3)
        group.assert_close(f"wav.{name}", vocoder.decode(given.mel, exact), tolerance=3e-3)


def test_right_padding_is_neutral(vocoder: HiFT) -> None:
    """Twice as long with rubbish behind the end: the same waveform up to the end."""
    group = Group("vocoder")
    mel, source = group["in.mel"], group["source.given"]
    frames = mel.shape[2]
    padded = functional.pad(mel, (0, frames), value=2.0)
    longer = functional.pad(source, (0, source.shape[2]), value=0.3)
    wave = vocoder.decode(padded, longer, torch.tensor([frames]))
    group.assert_close("wav.given", wave[:, : source.shape[2]])
