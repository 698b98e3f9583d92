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
from chatterbox.training.loop import Optimisation
from chatterbox.training.tokenizer import TokenTable, phones_at
from chatterbox.training.voice import VoicePrompt

OPTIMISATION = Optimisation(peak=1.5e-3, warm_up_steps=300, weight_decay=0.02)
GUIDED = ((1, 0, 0), (2, 0, 0), (2, 1, 1), (2, 2, -1))
"""(layer, head, which phoneme after the one that sounds next): the second layer corrects what the
first one found, and looks at the neighbours, which colour the sound.
"""
GUIDE_WEIGHT = 0.3
SHORT_POSITIONS = 160
SHORT_UNTIL, GROWN_AT = 0.25, 0.55
"""Shares of the budget: only short clips until the first, then longer and longer ones."""
DROPOUT = 0.05
RANDOM_INPUT = 0.05
BATCH_POSITIONS = 2600
NEIGHBOURS = 300
"""A batch is drawn from this many clips of similar length on each side."""
IGNORED = -100
UNUSED_BIAS = -1e4


class SpeechTable(nn.Module):
    """The structured table of the codes, then the other tokens: [speech_vocab, channels]."""

    def __init__(self, vocab: int, channels: int) -> None:
        super().__init__()
        self.codes = TokenTable(channels)
        self.others = nn.Parameter(torch.randn(vocab - SPEECH_CODES, channels) * 0.02)

    def forward(self, codes: Tensor) -> Tensor:
        """The rows of these codes, then those of the tokens that are no codes."""
        return torch.cat([self.codes(codes), self.others])

    @torch.no_grad()
    def unfold(self, table: Tensor) -> None:
        """Take an ordinary table over."""
        self.codes.unfold(table[:SPEECH_CODES])
        self.others.copy_(table[SPEECH_CODES:])


class T3Trainee(nn.Module):
    """T3 with structured token tables in place of its embedding and head; `folded` gives the
    ordinary model.
    """

    codes: Tensor
    compact: Tensor

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
        self.embedding = SpeechTable(config.speech_vocab, config.channels)
        self.head = SpeechTable(config.speech_vocab, config.channels)
        self.restrict(np.arange(SPEECH_CODES))

    def matrices(self) -> list[nn.Parameter]:
        """The weights between hidden states, which Muon trains in far fewer steps than AdamW."""
        blocks = self._blocks()
        layers = [part for b in blocks for part in (b.attn.c_attn, b.attn.c_proj)]
        layers += [part for b in blocks for part in (b.mlp.c_fc, b.mlp.c_proj)]
        return [layer.weight for layer in layers]

    def restrict(self, codes: NDArray[np.int64]) -> None:
        """Train on these codes alone: those that never occur only cost time. At export they get
        no chance.
        """
        device = self.head.others.device
        self.codes = torch.from_numpy(codes).to(device)
        compact = torch.zeros(self.config.speech_vocab, dtype=torch.long, device=device)
        compact[self.codes] = torch.arange(len(codes), device=device)
        others = self.config.speech_vocab - SPEECH_CODES
        compact[SPEECH_CODES:] = len(codes) + torch.arange(others, device=device)
        self.compact = compact

    def logits(self, hidden: Tensor) -> Tensor:
        """Over the compact tokens."""
        bias = self.model.speech_head.bias
        compact = torch.cat([bias[self.codes], bias[SPEECH_CODES:]])
        return functional.linear(hidden, self.head(self.codes), compact)

    def _blocks(self) -> list[Block]:
        return [block for block in self.model.tfmr.h if isinstance(block, Block)]

    @torch.no_grad()
    def folded(self) -> T3:
        """The model as it is used: tables written into the official parameters."""
        every = torch.arange(SPEECH_CODES, device=self.codes.device)
        self.model.speech_emb.weight.copy_(self.embedding(every))
        self.model.speech_head.weight.copy_(self.head(every))
        unused = torch.ones(SPEECH_CODES, dtype=torch.bool)
        unused[self.codes] = False
        self.model.speech_head.bias[:SPEECH_CODES][unused] = UNUSED_BIAS
        return self.model

    def unfold(self, model: T3) -> None:
        """Start from an ordinary model."""
        self.model.load_state_dict(model.state_dict())
        self.embedding.unfold(model.speech_emb.weight)
        self.head.unfold(model.speech_head.weight)
        with torch.no_grad():
            self.model.speech_head.bias.clamp_(min=-10.0)

    def hidden(self, ids: Tensor, speaker: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Combined ids [rows, time] (text ids, then offset speech ids) → hidden states, and the
        log attention of each guided head.
        """
        table = torch.cat([self.model.text_emb.weight, self.embedding(self.codes)])
        vocab = self.config.text_vocab
        speech = self.compact[(ids - vocab).clamp_min(0)] + vocab
        rows = torch.where(ids < vocab, ids, speech)[:, 1:]
        first = self.model.cond_enc.spkr_enc(speaker)[:, None]
        x = torch.cat([first.to(table.dtype), functional.embedding(rows, table)], dim=1)
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        bias = causal_bias(positions, positions)
        transformer = self.model.tfmr
        learned = self._learned_positions(ids, positions)
        x = functional.dropout(x + transformer.wpe(learned), DROPOUT, self.training)
        guides = []
        for layer, block in enumerate(self._blocks()):
            normalised = block.ln_1(x)
            projection = block.attn.c_attn
            for guided_layer, head, _ in GUIDED:
                if guided_layer == layer:
                    scores = self._guide(projection.weight, projection.bias, normalised, head)
                    guides.append((scores + bias[:, 0]).log_softmax(-1))
            x = x + block.attn(normalised, bias, layer, None)
            x = x + block.mlp(block.ln_2(x))
        return transformer.ln_f(x), guides

    def _learned_positions(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Positions of the table: the speech part may start at a fixed one (see `T3Config`)."""
        fixed = self.config.speech_positions_from
        if not fixed:
            return positions
        start = (ids == self.config.start_speech_token + self.config.text_vocab).int().argmax(1)
        shift = positions - start[:, None]
        return torch.where(shift >= 0, shift + fixed, positions)

    def _guide(self, weight: Tensor, bias: Tensor, x: Tensor, head: int) -> Tensor:
        channels = self.config.channels
        width = channels // self.config.heads
        first = slice(head * width, (head + 1) * width)
        second = slice(channels + first.start, channels + first.stop)
        query = x @ weight[:, first] + bias[first]
        key = x @ weight[:, second] + bias[second]
        return (query @ key.transpose(1, 2)).float() / math.sqrt(width)


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Rows padded on the right."""

    ids: Tensor  # [rows, time], speech ids offset by text_vocab
    targets: Tensor  # [rows, time] next speech token or IGNORED
    spoken: Tensor  # [rows, time] position of the phoneme that sounds in the next token, or IGNORED
    text_end: Tensor  # [rows, 1] position of the last phoneme


def used_codes(tokens: list[NDArray[np.int16]], prompt: VoicePrompt) -> NDArray[np.int64]:
    """The codes that occur, rising."""
    return np.unique(np.concatenate([*tokens, prompt.tokens.numpy()])).astype(np.int64)


def t3_speaker(config: T3Config) -> Tensor:
    """T3's constant speaker vector."""
    speaker = torch.zeros(config.speaker_channels)
    speaker[0] = 1.0
    return speaker


class T3Stage:
    """One step's loss on a batch of clips of similar length."""

    def __init__(
        self,
        data: SpeechData,
        tokens: list[NDArray[np.int16]],
        trainee: T3Trainee,
        *,
        prompt: VoicePrompt,
        symbols: dict[str, int],
        positions: int = BATCH_POSITIONS,
        device: str = "cpu",
    ) -> None:
        self.trainee = trainee.to(device)
        self._data, self._tokens, self._symbols = data, tokens, symbols
        trainee.restrict(used_codes(tokens, prompt))
        self._device, self._positions = torch.device(device), positions
        config = trainee.config
        self._prompt = prompt.tokens[: config.prompt_tokens].numpy() + config.text_vocab
        self._speaker = t3_speaker(config).to(self._device)
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
        self._sorted_lengths = lengths[self._order]
        # Batches of long clips hold fewer; and long texts are what a small model fails at: draw
        # them more often.
        weight = self._lengths[self._order].astype(np.float64) ** 1.5
        self._chance = np.cumsum(weight / weight.sum())

    def draw(self, rng: Generator, spent: float = 1.0) -> list[int]:
        """Clips of similar length that fill the batch; short ones while little is `spent`."""
        grown = min(1.0, max(0.0, (spent - SHORT_UNTIL) / (GROWN_AT - SHORT_UNTIL)))
        longest = SHORT_POSITIONS + grown * (self._sorted_lengths[-1] - SHORT_POSITIONS)
        end = max(1, int(np.searchsorted(self._sorted_lengths, longest, side="right")))
        pivot = int(np.searchsorted(self._chance, rng.random() * self._chance[end - 1]))
        near = self._order[max(0, pivot - NEIGHBOURS) : min(end, pivot + NEIGHBOURS + 1)]
        rows = max(1, int(self._positions // self._sorted_lengths[pivot]))
        return [int(index) for index in rng.choice(near, size=min(rows, len(near)), replace=False)]

    def batch(self, indices: list[int], rng: Generator | None) -> TokenBatch:
        """Rows of these clips; with `rng`, some input tokens are swapped for others."""
        config = self.trainee.config
        width = max(int(self._lengths[index]) for index in indices)
        ids = np.zeros((len(indices), width), np.int64)
        targets = np.full((len(indices), width), IGNORED, np.int64)
        spoken = np.full((len(indices), width), IGNORED, np.int64)
        text_end = np.zeros((len(indices), 1), np.int64)
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
            text_end[row] = start - 1
            targets[row, start : start + len(speech)] = speech
            targets[row, start + len(speech)] = config.stop_speech_token
            sounding = phones_at(self._data.field("ends", index), len(speech))[:, 0]
            spoken[row, start : start + len(speech)] = sounding + config.prefix_tokens
        arrays = (ids, targets, spoken, text_end)
        return TokenBatch(*(torch.from_numpy(array) for array in arrays))

    def losses(self, batch: TokenBatch) -> tuple[Tensor, Tensor, dict[str, float]]:
        """Cross-entropy of the next token, of the guided head, and what to show."""
        targets, spoken = batch.targets.to(self._device), batch.spoken.to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16):
            speaker = self._speaker[None].expand(len(targets), -1)
            hidden, guides = self.trainee.hidden(batch.ids.to(self._device), speaker)
            wanted = targets >= 0
            logits = self.trainee.logits(hidden[wanted])
        aim = self.trainee.compact[targets[wanted]]
        token_loss = functional.cross_entropy(logits.float(), aim)
        guided = spoken >= 0
        end = batch.text_end.to(self._device)
        losses, follows = [], []
        for guide, (_, _, shift) in zip(guides, GUIDED, strict=True):
            neighbour = (spoken + shift).clamp_min(self.trainee.config.prefix_tokens)
            place = torch.minimum(neighbour, end)[guided]
            losses.append(functional.nll_loss(guide[guided], place))
            with torch.no_grad():
                found = guide[guided][::16].argmax(-1) == place[::16]
                follows.append(found.float().mean().item())
        guide_loss = torch.stack(losses)
        with torch.no_grad():
            # A sample of the rows is enough to show, and argmax over the vocabulary is slow.
            right = (logits[::16].argmax(-1) == aim[::16]).float().mean().item()
        shown = {"ce": token_loss.item(), "right": right, "guide": guide_loss.mean().item()}
        shown |= {f"follows{i}": share for i, share in enumerate(follows)}
        return token_loss, guide_loss.sum(), shown

    def __call__(self, rng: Generator, spent: float) -> tuple[Tensor, dict[str, float]]:
        token_loss, guide_loss, shown = self.losses(self.batch(self.draw(rng, spent), rng))
        return token_loss + GUIDE_WEIGHT * guide_loss, shown
