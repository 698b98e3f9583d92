"""Speech tokens → mel frames by flow matching: encoder, conditions and the solver. One call = one
window.

Parameter names are those of the official checkpoints under `flow.`. Knows nothing of slots or of
which tokens make a window: `flow_step.py` and `windows.py` do.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from chatterbox.config import SPEECH_CODES, FlowConfig
from chatterbox.s3gen.attention_blocks import valid_mask
from chatterbox.s3gen.encoder import UpsampleConformer
from chatterbox.s3gen.estimator import Estimator


def build_solver_times(steps: int, *, meanflow: bool) -> Tensor:
    """Times [steps + 1] from 0 to 1: linear for meanflow, else cosine, which takes small steps
    first.
    """
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float32)
    return times if meanflow else 1 - torch.cos(times * 0.5 * math.pi)


class Decoder(nn.Module):
    """Exists for the official name `decoder.estimator`."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.estimator = Estimator(config)


class Flow(nn.Module):
    """Tokens, voice and noise in, mel out. Every tensor that it reads lives on its device from the
    start.
    """

    times: Tensor

    def __init__(self, config: FlowConfig, longest: int | None = None) -> None:
        """`longest` bounds the tokens of one call; default: the longest window."""
        super().__init__()
        self.config = config
        self.input_embedding = nn.Embedding(SPEECH_CODES, config.encoder_channels)
        self.spk_embed_affine_layer = nn.Linear(config.speaker_channels, config.mel_bins)
        self.encoder = UpsampleConformer(config, longest or config.max_window_tokens)
        self.encoder_proj = nn.Linear(config.encoder_channels, config.mel_bins)
        self.decoder = Decoder(config)
        self.register_buffer(
            "times", build_solver_times(config.steps, meanflow=config.meanflow), persistent=False
        )

    @property
    def estimator(self) -> Estimator:
        return self.decoder.estimator

    def encode(self, tokens: Tensor, block: Tensor) -> Tensor:
        """tokens, block [batch, tokens] → mu [batch, mel_bins, 2 * tokens]."""
        embedded = self.input_embedding(tokens)
        embedded = embedded * valid_mask(block)[:, :, None].type_as(embedded)
        return self.encoder_proj(self.encoder(embedded, block)).transpose(1, 2)

    def project_speaker(self, embedding: Tensor) -> Tensor:
        """Speaker embedding [batch, speaker_channels] → condition [batch, mel_bins]."""
        return self.spk_embed_affine_layer(functional.normalize(embedding, dim=1))

    def solve(
        self, noise: Tensor, block: Tensor, *, mu: Tensor, speaker: Tensor, cond: Tensor
    ) -> Tensor:
        """Integrate the flow from `noise` to mel [batch, mel_bins, frames]; arguments as in
        `Estimator.forward`. The estimator works in the precision of its weights, the sum in that of
        the noise.
        """
        x = noise
        speaker, cond = speaker.type_as(mu), cond.type_as(mu)
        for step in range(self.config.steps):
            start, end = self.times[step], self.times[step + 1]
            velocity = self._velocity(
                x, block, mu=mu, speaker=speaker, cond=cond, start=start, end=end
            )
            x = x + (end - start) * velocity
        return x

    def _velocity(
        self,
        x: Tensor,
        block: Tensor,
        *,
        mu: Tensor,
        speaker: Tensor,
        cond: Tensor,
        start: Tensor,
        end: Tensor,
    ) -> Tensor:
        batch = x.shape[0]
        rate = self.config.guidance
        if not rate:
            velocity: Tensor = self.estimator(
                x.type_as(mu),
                block,
                mu=mu,
                speaker=speaker,
                cond=cond,
                time=start.expand(batch),
                end_time=end.expand(batch) if self.config.meanflow else None,
            )
            return velocity.type_as(x)
        # Guided (Ho & Salimans, 2022): the second half of the batch sees no conditions.
        velocity = self.estimator(
            x.type_as(mu).repeat(2, 1, 1),
            block.repeat(2, 1),
            mu=torch.cat([mu, torch.zeros_like(mu)]),
            speaker=torch.cat([speaker, torch.zeros_like(speaker)]),
            cond=torch.cat([cond, torch.zeros_like(cond)]),
            time=start.expand(2 * batch),
        )
        conditional, unconditional = velocity.type_as(x).chunk(2)
        return (1 + rate) * conditional - rate * unconditional
