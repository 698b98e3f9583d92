"""Random stretches of speech in, the losses of tokenizer and flow out, under the masks and windows
of inference.

A row is [voice prompt | stretch], the stretch starting where an utterance or the context of a
window starts. Blocks of attention follow the window schedule or random sizes, so that the flow
serves any schedule of 4 to 50 tokens.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional

from chatterbox.config import MEL_FRAMES_PER_TOKEN, SPEECH_CODES, FlowConfig
from chatterbox.s3gen.attention_blocks import PADDING_BLOCK, PROMPT_BLOCK
from chatterbox.s3gen.flow import Flow
from chatterbox.training.dataset import SpeechData
from chatterbox.training.loop import Optimisation
from chatterbox.training.tokenizer import DigitEmbedding, Tokenizer, tokens_of
from chatterbox.training.voice import VoicePrompt

JOINT = Optimisation(peak=1.2e-3, warm_up_steps=200)
DECODER = Optimisation(peak=1.0e-3, warm_up_steps=100)
STRETCH_TOKENS = 54
PHONE_WEIGHT = 0.1


@dataclass(frozen=True, slots=True)
class Stretch:
    """A batch of rows, prompt included."""

    mel: Tensor  # [batch, 80, frames]
    block: Tensor  # [batch, tokens]
    phones: Tensor  # [batch, stretch tokens], -100 where none
    tokens: Tensor | None  # [batch, stretch tokens] once the tokenizer is frozen


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


def phones_at_tokens(ends: np.ndarray, codes: np.ndarray, num_tokens: int) -> np.ndarray:
    """Index into the clip's phonemes of what sounds in the middle of each token."""
    centres = (np.arange(num_tokens) + 0.5) / 25.0
    return np.minimum(np.searchsorted(ends, centres, side="right"), len(codes) - 1)


class StretchMaker:
    """Draws batches of rows."""

    def __init__(
        self,
        data: SpeechData,
        config: FlowConfig,
        prompt: VoicePrompt,
        symbols: dict[str, int],
        *,
        batch: int,
        tokens: list[np.ndarray] | None = None,
    ) -> None:
        self._data, self._config, self._prompt, self._symbols = data, config, prompt, symbols
        self._batch, self._tokens = batch, tokens

    def __call__(self, rng: Generator) -> Stretch:
        prompt_frames = self._prompt.mel.shape[1]
        prompt_tokens = prompt_frames // MEL_FRAMES_PER_TOKEN
        width = prompt_tokens + STRETCH_TOKENS
        mel = torch.zeros(self._batch, 80, width * MEL_FRAMES_PER_TOKEN)
        mel[:, :, :prompt_frames] = self._prompt.mel
        block = torch.full((self._batch, width), PADDING_BLOCK)
        block[:, :prompt_tokens] = PROMPT_BLOCK
        phones = torch.full((self._batch, STRETCH_TOKENS), -100)
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
            codes = self._data.field("phonemes", index)
            spoken = phones_at_tokens(self._data.field("ends", index), codes, num_tokens)[
                start:stop
            ]
            phones[row, :length] = torch.tensor(
                [self._symbols.get(chr(codes[i]), 0) for i in spoken]
            )
            if self._tokens is not None:
                tokens[row, :length] = torch.from_numpy(
                    self._tokens[index][start:stop].astype(np.int64)
                )
        return Stretch(mel, block, phones, tokens if self._tokens is not None else None)


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


class JointModel(nn.Module):
    """Tokenizer, flow, and a classifier that keeps phonemes apart in the codes."""

    def __init__(self, config: FlowConfig, num_symbols: int, longest: int) -> None:
        super().__init__()
        self.tokenizer = Tokenizer(mel_bins=config.mel_bins)
        self.embedding = DigitEmbedding(config.encoder_channels)
        self.flow = Flow(config, longest)
        self.phone = nn.Sequential(nn.Linear(8, 128), nn.GELU(), nn.Linear(128, num_symbols))

    def mu(self, embedded: Tensor, block: Tensor) -> Tensor:
        """What `Flow.encode` does, from embeddings instead of token ids."""
        valid = (block < PADDING_BLOCK)[:, :, None].to(embedded.dtype)
        mu: Tensor = self.flow.encoder_proj(self.flow.encoder(embedded * valid, block)).transpose(
            1, 2
        )
        return mu


class JointStage:
    """Tokenizer and flow together."""

    def __init__(
        self, maker: StretchMaker, model: JointModel, prompt: VoicePrompt, *, device: str = "cpu"
    ) -> None:
        self.model, self._maker = model.to(device), maker
        self._device = torch.device(device)
        self._prompt = prompt
        self._loss = FlowLoss(model.flow, prompt, self._device)
        self._used = torch.zeros(SPEECH_CODES)

    def __call__(self, rng: Generator, spent: float) -> tuple[Tensor, dict[str, float]]:
        stretch = self._maker(rng)
        block = stretch.block.to(self._device)
        prompt_tokens = self._prompt.mel.shape[1] // MEL_FRAMES_PER_TOKEN
        with torch.autocast(self._device.type, torch.bfloat16):
            # The prompt is tokenized by itself, as at export: its tokens must not depend on what
            # follows.
            voice = self.model.tokenizer(self._prompt.mel[None].to(self._device))
            rest = self.model.tokenizer(stretch.mel[:, :, 2 * prompt_tokens :].to(self._device))
            digits = torch.cat([voice.expand(len(rest), -1, -1), rest], dim=1)
            mu = self.model.mu(self.model.embedding(digits), block)
            direct, matching = self._loss(mu, stretch)
            guess = self.model.phone(rest)
        phones = stretch.phones.to(self._device)
        phone = functional.cross_entropy(
            guess.float().flatten(0, 1), phones.flatten(), ignore_index=-100
        )
        with torch.no_grad():
            ids = tokens_of(rest)[phones >= 0]
            self._used *= 0.99
            self._used[ids.cpu()] = 1.0
        return direct + matching + PHONE_WEIGHT * phone, {
            "mu": direct.item(),
            "flow": matching.item(),
            "phone": phone.item(),
            "codes": float((self._used > 0.1).sum()),
        }


def matrices(flow: Flow) -> list[nn.Parameter]:
    """The weights of the linear layers inside encoder and estimator, which Muon trains."""
    parts = (*flow.encoder.modules(), *flow.estimator.modules())
    linear = [part for part in parts if isinstance(part, nn.Linear)]
    return [parameter for part in linear for parameter in part.parameters() if parameter.ndim > 1]


class DecoderStage:
    """The flow alone, on the tokens of the frozen tokenizer."""

    def __init__(
        self,
        maker: StretchMaker,
        flow: Flow,
        prompt: VoicePrompt,
        prompt_tokens: Tensor,
        *,
        device: str = "cpu",
    ) -> None:
        self.flow, self._maker = flow.to(device), maker
        self._device = torch.device(device)
        self._prompt_tokens = prompt_tokens.to(device)
        self._loss = FlowLoss(flow, prompt, self._device)

    def __call__(self, rng: Generator, spent: float) -> tuple[Tensor, dict[str, float]]:
        stretch = self._maker(rng)
        assert stretch.tokens is not None, (
            "the decoder is trained on the tokens of the frozen tokenizer"
        )
        tokens = stretch.tokens.to(self._device)
        row = torch.cat([self._prompt_tokens[None].expand(len(tokens), -1), tokens], dim=1)
        with torch.autocast(self._device.type, torch.bfloat16):
            mu = self.flow.encode(row, stretch.block.to(self._device))
            direct, matching = self._loss(mu, stretch)
        return direct + matching, {"mu": direct.item(), "flow": matching.item()}
