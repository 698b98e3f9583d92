"""Seeds → noise that belongs to a position: made once, kept on the device, read at an offset that
the seed gives.

The same frame of the same segment always meets the same noise, however the windows fall. Source:
CosyVoice2's fixed noise buffer; here modulo its length and with a region of its own for the voice
prompt.
"""

import torch
from torch import Tensor, nn

from chatterbox.api import SAMPLE_RATE
from chatterbox.config import MEL_FRAMES_PER_TOKEN, FlowConfig, ModelConfig

_SEED_OF_BUFFERS = 20_260
SOURCE_NOISE_SAMPLES = 8 * SAMPLE_RATE


def _golden(seed: int, salt: int) -> int:
    """Spread consecutive seeds over 32 bits (Knuth's multiplicative hash)."""
    return ((seed + salt) * 2_654_435_761) & 0xFFFFFFFF


def flow_offset(seed: int, noise_frames: int) -> int:
    """Where a segment's noise starts in the flow buffer. Seed 0 starts at 0, so that tests can
    read it off.
    """
    return _golden(seed, 0) % noise_frames


def source_offset(seed: int) -> int:
    """Where a segment's noise starts in the source buffer, in samples."""
    return _golden(seed, 0) % SOURCE_NOISE_SAMPLES


class NoiseBuffers(nn.Module):
    """Normal noise: of the checkpoint's temperature for the flow, standard for the vocoder's
    source.
    """

    prompt: Tensor
    flow: Tensor
    source: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(_SEED_OF_BUFFERS)
        frames = config.flow.max_prompt_tokens * MEL_FRAMES_PER_TOKEN
        self.register_buffer(
            "prompt", _build_normal(config.flow, frames, generator), persistent=False
        )
        self.register_buffer(
            "flow", _build_normal(config.flow, config.noise_frames, generator), persistent=False
        )
        shape = (config.vocoder.sines, SOURCE_NOISE_SAMPLES)
        self.register_buffer("source", torch.randn(shape, generator=generator), persistent=False)


def _build_normal(config: FlowConfig, frames: int, generator: torch.Generator) -> Tensor:
    noise = torch.randn((config.mel_bins, frames), generator=generator)
    return noise * config.noise_temperature
