"""Random stretches of speech and their tokens in, the losses of the flow out, under the masks and
windows of inference.

A row is [voice prompt | stretch], the stretch starting where an utterance or the context of a
window starts. Blocks of attention follow the window schedule or random sizes, so that the flow
serves any schedule of 4 to 50 tokens.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from chatterbox.config import MEL_FRAMES_PER_TOKEN, FlowConfig
from chatterbox.s3gen.attention_blocks import PADDING_BLOCK, PROMPT_BLOCK, valid_mask
from chatterbox.s3gen.flow import Flow
from chatterbox.training.dataset import SpeechData
from chatterbox.training.loop import Optimisation
from chatterbox.training.tokenizer import TokenTable
from chatterbox.training.voice import VoicePrompt

OPTIMISATION = Optimisation(peak=1.0e-3, warm_up_steps=100)
STRETCH_TOKENS = 54


@dataclass(frozen=True, slots=True)
class Stretch:
    """A batch of rows, prompt included."""

    mel: Tensor  # [batch, 80, frames]
    block: Tensor  # [batch, tokens]
    tokens: Tensor  # [batch, stretch tokens]


def schedule_starts(config: FlowConfig, num_tokens: int) -> list[int]:
    """First token of each window of an utterance."""
    starts, position, window = [], 0, 0
    while position < num_tokens:
        starts.append(position)
        position += (
            config.first_windows[window]
            if window < len(config.first_windows)
            else config.window_tokens
        )
        window += 1
    return starts


def choose_stretch(config: FlowConfig, num_tokens: int, rng: Generator) -> tuple[int, list[int]]:
    """First token of the stretch, and the tokens of the utterance at which a block starts."""
    boundaries = schedule_starts(config, num_tokens)
    if rng.random() < 0.6:
        start = max(0, boundaries[int(rng.integers(len(boundaries)))] - config.context_tokens)
        return min(start, max(0, num_tokens - config.context_tokens)), boundaries
    start = int(rng.integers(num_tokens)) if rng.random() < 0.6 else 0
    start = min(start, max(0, num_tokens - config.context_tokens))
    boundaries = [0]
    while boundaries[-1] < num_tokens:
        boundaries.append(boundaries[-1] + int(rng.integers(4, 51)))
    return start, boundaries


class StretchMaker:
    """Draws batches of rows."""

    def __init__(
        self,
        data: SpeechData,
        tokens: list[NDArray[np.int16]],
        config: FlowConfig,
        prompt: VoicePrompt,
        *,
        batch: int,
    ) -> None:
        self._data, self._config, self._prompt = data, config, prompt
        self._batch, self._tokens = batch, tokens

    def __call__(self, rng: Generator) -> Stretch:
        prompt_frames = self._prompt.mel.shape[1]
        prompt_tokens = prompt_frames // MEL_FRAMES_PER_TOKEN
        width = prompt_tokens + STRETCH_TOKENS
        mel = torch.zeros(self._batch, 80, width * MEL_FRAMES_PER_TOKEN)
        mel[:, :, :prompt_frames] = self._prompt.mel
        block = torch.full((self._batch, width), PADDING_BLOCK)
        block[:, :prompt_tokens] = PROMPT_BLOCK
        tokens = torch.zeros(self._batch, STRETCH_TOKENS, dtype=torch.long)
        for row in range(self._batch):
            index = self._data.random_index(rng, at_least_frames=12)
            num_tokens = int(self._data.mel_frames[index]) // MEL_FRAMES_PER_TOKEN
            start, boundaries = choose_stretch(self._config, num_tokens, rng)
            stop = min(num_tokens, start + STRETCH_TOKENS)
            length = stop - start
            frames = slice(start * MEL_FRAMES_PER_TOKEN, stop * MEL_FRAMES_PER_TOKEN)
            part = torch.from_numpy(self._data.field("mel", index)[frames].astype(np.float32).T)
            mel[row, :, prompt_frames : prompt_frames + part.shape[1]] = part
            ids = np.searchsorted(boundaries, np.arange(start, stop), side="right") - 1
            block[row, prompt_tokens : prompt_tokens + length] = torch.from_numpy(ids)
            part_tokens = self._tokens[index][start:stop].astype(np.int64)
            tokens[row, :length] = torch.from_numpy(part_tokens)
        return Stretch(mel, block, tokens)


class FlowLoss:
    """The two losses of a flow given mu: on mu itself, and flow matching (Lipman et al., 2023) on
    the velocity.
    """

    def __init__(self, flow: Flow, prompt: VoicePrompt, device: torch.device) -> None:
        self._flow, self._prompt, self._device = flow, prompt, device

    def __call__(self, mu: Tensor, stretch: Stretch) -> tuple[Tensor, Tensor]:
        mel = stretch.mel.to(self._device)
        block = stretch.block.to(self._device).repeat_interleave(MEL_FRAMES_PER_TOKEN, dim=1)
        wanted = ((block >= 0) & (block < PADDING_BLOCK))[:, None].float()
        batch = len(mel)
        prompt_frames = self._prompt.mel.shape[1]
        cond = torch.zeros_like(mel)
        cond[:, :, :prompt_frames] = self._prompt.mel.to(self._device)
        speaker = self._flow.project_speaker(self._prompt.speaker.to(self._device)[None]).expand(
            batch, -1
        )
        # The solver takes small steps first: training times crowd there too.
        time = 1 - torch.cos(torch.rand(batch, device=self._device) * 0.5 * math.pi)
        noise = torch.randn_like(mel)
        mixed = (1 - time[:, None, None]) * noise + time[:, None, None] * mel
        velocity = self._flow.estimator(mixed, block, mu=mu, speaker=speaker, cond=cond, time=time)
        elements = wanted.sum() * mel.shape[1]
        matching = ((velocity.float() - (mel - noise)).square() * wanted).sum() / elements
        direct = ((mu.float() - mel).abs() * wanted).sum() / elements
        return direct, matching


class DecoderTrainee(nn.Module):
    """The flow with a structured token table in place of its embedding; `folded` gives the ordinary
    model.
    """

    def __init__(self, config: FlowConfig, longest: int) -> None:
        super().__init__()
        self.flow = Flow(config, longest)
        self.flow.input_embedding.requires_grad_(False)
        self.table = TokenTable(config.encoder_channels)

    def mu(self, tokens: Tensor, block: Tensor) -> Tensor:
        """What `Flow.encode` does, with the structured table."""
        embedded = self.table(tokens) * valid_mask(block)[:, :, None]
        mu: Tensor = self.flow.encoder_proj(self.flow.encoder(embedded, block))
        return mu.transpose(1, 2)

    def matrices(self) -> list[nn.Parameter]:
        """The weights of the linear layers inside encoder and estimator, which Muon trains."""
        parts = (*self.flow.encoder.modules(), *self.flow.estimator.modules())
        linear = [part for part in parts if isinstance(part, nn.Linear)]
        return [p for part in linear for p in part.parameters() if p.ndim > 1]

    @torch.no_grad()
    def folded(self) -> Flow:
        self.flow.input_embedding.weight.copy_(self.table.folded())
        return self.flow

    def unfold(self, flow: Flow) -> None:
        """Start from an ordinary model."""
        self.flow.load_state_dict(flow.state_dict())
        self.table.unfold(flow.input_embedding.weight)


class DecoderStage:
    """One step's loss on a batch of stretches."""

    def __init__(
        self,
        maker: StretchMaker,
        trainee: DecoderTrainee,
        prompt: VoicePrompt,
        *,
        device: str = "cpu",
    ) -> None:
        self._trainee, self._maker = trainee.to(device), maker
        self._device = torch.device(device)
        self._prompt_tokens = prompt.tokens.to(device)
        self._loss = FlowLoss(trainee.flow, prompt, self._device)

    def __call__(self, rng: Generator, spent: float) -> tuple[Tensor, dict[str, float]]:
        stretch = self._maker(rng)
        tokens = stretch.tokens.to(self._device)
        row = torch.cat([self._prompt_tokens[None].expand(len(tokens), -1), tokens], dim=1)
        with torch.autocast(self._device.type, torch.bfloat16):
            mu = self._trainee.mu(row, stretch.block.to(self._device))
            direct, matching = self._loss(mu, stretch)
        return direct + matching, {"mu": direct.item(), "flow": matching.item()}
