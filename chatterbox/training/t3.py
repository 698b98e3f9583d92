"""Phonemes and speech tokens of the teacher in, a trained T3 out.

Besides the next token, one attention head learns where in the text the voice is, from the teacher's
durations: without it a model this small needs many times the data to find the alignment.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from chatterbox.config import SPEECH_CODES, T3Config
from chatterbox.t3.model import T3, Block, causal_bias
from chatterbox.training.dataset import SpeechData
from chatterbox.training.flow import phones_at_tokens
from chatterbox.training.loop import Optimisation
from chatterbox.training.tokenizer import DIGITS, all_digits

OPTIMISATION = Optimisation(peak=1.5e-3, warm_up_steps=300, weight_decay=0.02)
GUIDED_LAYER, GUIDED_HEAD = 1, 0
GUIDE_WEIGHT = 0.2
DROPOUT = 0.05
RANDOM_INPUT = 0.05
BATCH_POSITIONS = 2600
NEIGHBOURS = 300
"""A batch is drawn from this many clips of similar length on each side."""
IGNORED = -100


class TokenTable(nn.Module):
    """[speech_vocab, channels]: a free vector per token plus a function of its code's digits."""

    def __init__(self, vocab: int, channels: int) -> None:
        super().__init__()
        self.free = nn.Parameter(torch.randn(vocab, channels) * 0.02)
        self.shared = nn.Sequential(
            nn.Linear(DIGITS, channels), nn.GELU(), nn.Linear(channels, channels)
        )
        last = self.shared[2]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.02 / math.sqrt(channels) * 8)
        nn.init.zeros_(last.bias)
        self.register_buffer("digits", all_digits(), persistent=False)

    def forward(self) -> Tensor:
        digits = self.digits
        assert isinstance(digits, Tensor)
        shared = self.shared(digits)
        return self.free + functional.pad(shared, (0, 0, 0, len(self.free) - SPEECH_CODES))


class T3Trainee(nn.Module):
    """T3 with structured token tables in place of its embedding and head; `folded` gives the
    ordinary model.
    """

    def __init__(self, config: T3Config) -> None:
        super().__init__()
        self.config = config
        self.model = T3(config)
        for module in self.model.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for block in self._blocks():
            for projection in (block.attn.c_proj, block.mlp.c_proj):
                nn.init.normal_(projection.weight, std=0.02 / math.sqrt(2 * config.layers))
        self.model.speech_emb.requires_grad_(False)
        self.model.speech_head.weight.requires_grad_(False)
        nn.init.zeros_(self.model.speech_head.bias)
        self.embedding = TokenTable(config.speech_vocab, config.channels)
        self.head = TokenTable(config.speech_vocab, config.channels)

    def _blocks(self) -> list[Block]:
        return [block for block in self.model.tfmr.h if isinstance(block, Block)]

    @torch.no_grad()
    def folded(self) -> T3:
        """The model as it is used: tables written into the official parameters."""
        self.model.speech_emb.weight.copy_(self.embedding())
        self.model.speech_head.weight.copy_(self.head())
        return self.model

    def hidden(self, ids: Tensor, speaker: Tensor) -> tuple[Tensor, Tensor]:
        """Combined ids [rows, time] (text ids, then speech ids) → hidden states, log attention of
        the guided head.
        """
        table = torch.cat([self.model.text_emb.weight, self.embedding()])
        first = self.model.cond_enc.spkr_enc(speaker)[:, None]
        x = torch.cat([first.to(table.dtype), functional.embedding(ids[:, 1:], table)], dim=1)
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        bias = causal_bias(positions, positions)
        transformer = self.model.tfmr
        x = functional.dropout(x + transformer.wpe(positions), DROPOUT, self.training)
        guide = x
        for layer, block in enumerate(self._blocks()):
            if layer == GUIDED_LAYER:
                guide = self._guide(
                    block.attn.c_attn.weight, block.attn.c_attn.bias, block.ln_1(x), bias
                )
            x = x + block.attn(block.ln_1(x), bias, layer, None)
            x = x + block.mlp(block.ln_2(x))
        return transformer.ln_f(x), guide

    def _guide(self, weight: Tensor, bias: Tensor, x: Tensor, mask: Tensor) -> Tensor:
        channels = self.config.channels
        width = channels // self.config.heads
        start = GUIDED_HEAD * width
        query = x @ weight[:, start : start + width] + bias[start : start + width]
        key = (
            x @ weight[:, channels + start : channels + start + width]
            + bias[channels + start :][:width]
        )
        scores = (query @ key.transpose(1, 2)).float() / math.sqrt(width) + mask[:, 0]
        return scores.log_softmax(-1)


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Rows padded on the right."""

    ids: Tensor  # [rows, time], speech ids offset by text_vocab
    targets: Tensor  # [rows, time] next speech token or IGNORED
    spoken: Tensor  # [rows, time] position of the phoneme that sounds in the next token, or IGNORED


class T3Stage:
    """One step's loss on a batch of clips of similar length."""

    def __init__(
        self,
        data: SpeechData,
        tokens: list[NDArray[np.int16]],
        trainee: T3Trainee,
        *,
        prompt_tokens: NDArray[np.int16],
        speaker: Tensor,
        symbols: dict[str, int],
        positions: int = BATCH_POSITIONS,
        device: str = "cpu",
    ) -> None:
        self.trainee = trainee.to(device)
        self._data, self._tokens, self._symbols = data, tokens, symbols
        self._device, self._positions = torch.device(device), positions
        config = trainee.config
        self._prompt = prompt_tokens[: config.prompt_tokens].astype(np.int64) + config.text_vocab
        self._speaker = speaker.to(self._device)
        lengths = (
            np.array([len(row) for row in tokens]) + data.num_phonemes + config.prefix_tokens + 1
        )
        usable = np.flatnonzero(
            (data.num_phonemes <= config.max_text_tokens)
            & (np.array([len(row) for row in tokens]) < config.max_speech_tokens)
            & (data.num_phonemes > 0)
        )
        self._order = usable[np.argsort(lengths[usable], kind="stable")]
        self._lengths = lengths
        # Batches of long clips hold fewer; and long texts are what a small model fails at: draw
        # them more often.
        weight = self._lengths[self._order].astype(np.float64) ** 1.5
        self._chance = np.cumsum(weight / weight.sum())

    def draw(self, rng: Generator) -> list[int]:
        """Clips of similar length that fill the batch."""
        pivot = min(int(np.searchsorted(self._chance, rng.random())), len(self._order) - 1)
        near = self._order[max(0, pivot - NEIGHBOURS) : pivot + NEIGHBOURS + 1]
        rows = max(1, int(self._positions // self._lengths[self._order[pivot]]))
        return [int(index) for index in rng.choice(near, size=min(rows, len(near)), replace=False)]

    def batch(self, indices: list[int], rng: Generator | None) -> TokenBatch:
        """Rows of these clips; with `rng`, some input tokens are swapped for others."""
        config = self.trainee.config
        width = max(int(self._lengths[index]) for index in indices)
        ids = np.zeros((len(indices), width), np.int64)
        targets = np.full((len(indices), width), IGNORED, np.int64)
        spoken = np.full((len(indices), width), IGNORED, np.int64)
        for row, index in enumerate(indices):
            codes = self._data.field("phonemes", index)
            speech = self._tokens[index].astype(np.int64)
            text = np.array([self._symbols[chr(code)] for code in codes])
            heard = speech.copy()
            if rng is not None:
                swapped = rng.random(len(heard)) < RANDOM_INPUT
                heard[swapped] = rng.choice(speech, size=int(swapped.sum()))
            parts = [[0], self._prompt, text, [config.start_speech_token + config.text_vocab]]
            joined = np.concatenate([*parts, heard + config.text_vocab])
            ids[row, : len(joined)] = joined
            start = config.prefix_tokens + len(text)
            targets[row, start : start + len(speech)] = speech
            targets[row, start + len(speech)] = config.stop_speech_token
            sounding = phones_at_tokens(self._data.field("ends", index), codes, len(speech))
            spoken[row, start : start + len(speech)] = sounding + config.prefix_tokens
        return TokenBatch(
            torch.from_numpy(ids), torch.from_numpy(targets), torch.from_numpy(spoken)
        )

    def losses(self, batch: TokenBatch) -> tuple[Tensor, Tensor, dict[str, float]]:
        """Cross-entropy of the next token, of the guided head, and what to show."""
        targets, spoken = batch.targets.to(self._device), batch.spoken.to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16):
            speaker = self._speaker[None].expand(len(targets), -1)
            hidden, guide = self.trainee.hidden(batch.ids.to(self._device), speaker)
            wanted = targets >= 0
            logits = functional.linear(
                hidden[wanted], self.trainee.head(), self.trainee.model.speech_head.bias
            )
        aim = targets[wanted]
        token_loss = functional.cross_entropy(logits.float(), aim)
        guided = spoken >= 0
        guide_loss = functional.nll_loss(guide[guided], spoken[guided])
        with torch.no_grad():
            # A sample of the rows is enough to show, and argmax over the vocabulary is slow.
            right = (logits[::16].argmax(-1) == aim[::16]).float().mean().item()
            follows = (guide[guided][::16].argmax(-1) == spoken[guided][::16]).float().mean().item()
        shown = {
            "ce": token_loss.item(),
            "right": right,
            "guide": guide_loss.item(),
            "follows": follows,
        }
        return token_loss, guide_loss, shown

    def __call__(self, rng: Generator, spent: float) -> tuple[Tensor, dict[str, float]]:
        token_loss, guide_loss, shown = self.losses(self.batch(self.draw(rng), rng))
        return token_loss + GUIDE_WEIGHT * guide_loss, shown
