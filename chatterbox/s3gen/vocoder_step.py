"""Committed mel frames of many slots → waveform windows: one captured step, with F0 and phase
carried between windows.

A window sees context on both sides, so that joined windows are the waveform of the whole
utterance. F0 is stored as soon as enough mel to its right is known, and never recomputed: at
another window edge it would come out different, and the phase, its integral, would drift for good.
Measured in EXPERIMENTS.md.
"""

import math

import torch
from torch import Tensor, nn

from chatterbox.config import MEL_FRAMES_PER_TOKEN, SAMPLES_PER_MEL_FRAME, SPEED, ModelConfig
from chatterbox.s3gen.noise import NoiseBuffers, source_offset
from chatterbox.s3gen.vocoder import HiFT, build_fade_in, cycles_before
from chatterbox.s3gen.windows import FrameWindow
from chatterbox.uniforms import uniforms

F0_CONTEXT_FRAMES = 5
"""Frames to each side that the F0 predictor sees: five convolutions of width 3."""


class VocoderState(nn.Module):
    """F0, phase and noise of each slot; written in place only."""

    f0: Tensor
    cycles: Tensor
    phase: Tensor
    noise_offset: Tensor
    speed: Tensor
    sine: Tensor

    def __init__(self, config: ModelConfig, num_slots: int) -> None:
        super().__init__()
        most = config.t3.max_speech_tokens * MEL_FRAMES_PER_TOKEN
        frames = math.ceil(most / SPEED.minimum) + 1  # the last one is scratch
        self.register_buffer(
            "f0", torch.zeros(num_slots, frames, dtype=torch.float64), persistent=False
        )
        self.register_buffer(
            "cycles", torch.zeros(num_slots, frames, dtype=torch.float64), persistent=False
        )
        self.register_buffer(
            "phase", torch.zeros(num_slots, config.vocoder.sines, 1), persistent=False
        )
        self.register_buffer(
            "noise_offset", torch.zeros(num_slots, dtype=torch.int64), persistent=False
        )
        self.register_buffer("speed", torch.ones(num_slots, dtype=torch.float64), persistent=False)
        self._aligned = config.vocoder.aligned_harmonics
        self.register_buffer("sine", torch.arange(config.vocoder.sines), persistent=False)

    def begin(self, slot: int, *, seed: int, speed: float = 1.0) -> None:
        """A new segment in `slot`: each overtone starts at a phase that the seed gives, the
        fundamental at 0; aligned harmonics all start at 0.
        """
        self.speed[slot].fill_(speed)
        self.cycles[slot, 0].zero_()
        self.noise_offset[slot].fill_(source_offset(seed))
        uniform = uniforms(torch.full_like(self.sine, seed), self.sine)
        shifted = (self.sine > 0) & (not self._aligned)
        offsets = (2 * uniform - 1) * math.pi * shifted
        self.phase[slot].copy_(offsets[:, None])


class VocoderStep(nn.Module):
    """HiFT over planned windows."""

    fade_in: Tensor | None
    noise: Tensor

    def __init__(
        self, vocoder: HiFT, noise: NoiseBuffers, config: ModelConfig, num_slots: int
    ) -> None:
        super().__init__()
        self.vocoder = vocoder
        with torch.no_grad():
            mixed = vocoder.m_source.mix(noise.source[None])[0, 0]
        self.register_buffer("noise", mixed, persistent=False)
        self.state = VocoderState(config, num_slots)
        fade_in = build_fade_in() if config.vocoder.fade_in else None
        self.register_buffer("fade_in", fade_in, persistent=False)

    @staticmethod
    def plan_row(
        slot: int, window: FrameWindow, *, known_f0: int, finished: bool
    ) -> tuple[int, ...]:
        """The integers that describe one window; `known_f0` frames of F0 are stored already."""
        end = window.first + window.frames
        return (
            slot,
            window.first,
            window.frames,
            known_f0,
            VocoderStep.f0_known_after(end, finished=finished),
        )

    @staticmethod
    def f0_known_after(end: int, *, finished: bool) -> int:
        """Frames whose F0 is settled once mel is known up to frame `end`."""
        return end if finished else max(0, end - F0_CONTEXT_FRAMES)

    def forward(self, plan: Tensor, mel: Tensor, capacity: int) -> Tensor:
        """Samples [rows, 480 * capacity] of the windows of `plan` [rows, 5]; what lies beyond a
        window is undefined.

        mel [slots, frames, mel_bins] is the committed mel of every slot; `capacity` frames hold
        every window. The frames of a window are those at the slot's speed.
        """
        state = self.state
        slot, first, frames, known, settled = plan.unbind(dim=1)
        index = torch.arange(capacity, device=plan.device)[None, :]
        scratch = state.f0.shape[1] - 1
        absolute = (first[:, None] + index).clamp_max(scratch)
        row = slot[:, None]
        window = self._at_speed(mel, slot, absolute).transpose(1, 2)
        predicted = self.vocoder.predict_f0(window, frames).double()
        f0 = torch.where(absolute < known[:, None], state.f0[row, absolute], predicted)
        start = state.cycles[slot, first]
        cycles = start[:, None] + cycles_before(f0)
        kept = absolute.masked_fill(absolute >= settled[:, None], scratch)
        state.f0.index_put_((row, kept), f0)
        state.cycles.index_put_((row, kept), cycles.frac())
        source = self.vocoder.m_source(
            f0, start, state.phase[slot], self._noise(slot, first, capacity)
        )
        return self._faded(self.vocoder.decode(window, source, frames), first)

    def _at_speed(self, mel: Tensor, slot: Tensor, frame: Tensor) -> Tensor:
        """[rows, frames, mel_bins]: the mel, faster or slower, by leaving frames out or saying them
        twice. Pitch stays, because F0 is found in what comes out of here. Frames in between, mixed
        of their neighbours, sounded less clear (EXPERIMENTS.md).
        """
        place = (frame * self.state.speed[slot][:, None]).long()
        return mel[slot[:, None], place.clamp_max(mel.shape[1] - 1)]

    def _faded(self, wave: Tensor, first: Tensor) -> Tensor:
        if self.fade_in is None:
            return wave
        position = first[:, None] * SAMPLES_PER_MEL_FRAME
        position = position + torch.arange(wave.shape[1], device=wave.device)[None, :]
        return wave * self.fade_in[position.clamp_max(self.fade_in.shape[0] - 1)]

    def _noise(self, slot: Tensor, first: Tensor, capacity: int) -> Tensor:
        samples = capacity * SAMPLES_PER_MEL_FRAME
        start = first * SAMPLES_PER_MEL_FRAME + self.state.noise_offset[slot]
        position = start[:, None] + torch.arange(samples, device=slot.device)[None, :]
        return self.noise[position % self.noise.shape[0]][:, None]
