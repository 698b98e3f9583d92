"""What sounds when in a clip, as the teacher timed it, in; speech tokens out. Needed to train,
never to speak.

Like S3TokenizerV2's, these tokens are supervised: they say which phoneme sounds, not which sound.
Where that tokenizer learns to hear it, the teacher tells us. A token of 40 ms is the phoneme of its
first half, that of its second half, and a level of pitch (or silence):

    token = 9 * state + level        729 states * 9 levels = 6561 codes

The states are the commonest pairs of the corpus, in the order that the bundled checkpoint keeps:
weights trained on it mean nothing under another (`chatterbox/token_names.py` reads it).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chatterbox.config import MEL_FRAMES_PER_TOKEN, SPEECH_CODES
from chatterbox.token_names import LEVELS, NUM_STATES, phonemes_of_tokens, read_states
from chatterbox.training.symbols import symbol_table

SILENT = 0
PITCH_EDGES_HZ = 153.0 * 1.0938 ** np.arange(LEVELS - 2)
"""Between levels 1 … 8: equal steps of a semitone and a half around the voice's middle."""
SILENCE = 0.01
"""Relative to the loudest token of the clip: -40 dB."""
TOKEN_S = 0.04
STATES_FILE = Path(__file__).parents[1] / "checkpoints" / "tiny" / "states.txt"
TABLE_STD = 0.05


@dataclass(frozen=True)
class Timing:
    """A clip as the teacher timed it."""

    phonemes: str
    ends: NDArray[np.float32]
    """When each phoneme ends, in seconds from the first sample."""
    f0: NDArray[np.float32]
    """Pitch in Hz at each mel frame, 0 where there is none."""
    wave: NDArray[np.int16]

    @property
    def num_tokens(self) -> int:
        return len(self.f0) // MEL_FRAMES_PER_TOKEN


def phones_at(ends: NDArray[np.float32], num_tokens: int) -> NDArray[np.int64]:
    """[num_tokens, 2]: index of the phoneme that sounds in the middle of each half of a token."""
    centres = (np.arange(2 * num_tokens) + 0.5) * (TOKEN_S / 2)
    found = np.searchsorted(ends, centres, side="right")
    return np.minimum(found, len(ends) - 1).reshape(-1, 2)


def levels_of(timing: Timing) -> NDArray[np.int64]:
    """[num_tokens]: 0 in silence, else the level of the pitch, held through voiceless sounds."""
    num_tokens = timing.num_tokens
    sound = timing.wave.astype(np.float32).reshape(num_tokens, -1)
    loudness = np.sqrt(np.mean(sound**2, axis=1))
    pitch = timing.f0.reshape(num_tokens, MEL_FRAMES_PER_TOKEN)
    voiced = (pitch > 0).sum(axis=1)
    level = np.searchsorted(PITCH_EDGES_HZ, pitch.sum(axis=1) / np.maximum(voiced, 1)) + 1
    known = np.flatnonzero(voiced)
    if len(known):
        held = np.searchsorted(known, np.arange(num_tokens), side="right") - 1
        level = level[known[np.maximum(held, 0)]]
    return np.where(loudness < SILENCE * loudness.max(), SILENT, level)


class Codebook:
    """The numbering of the tokens."""

    def __init__(self, states: list[str]) -> None:
        assert len(set(states)) == len(states) <= NUM_STATES
        self.states = states
        self._index = {pair: index for index, pair in enumerate(states)}

    @classmethod
    def load(cls) -> "Codebook":
        return cls(read_states(STATES_FILE))

    def encode(self, timing: Timing) -> NDArray[np.int16]:
        """[num_tokens] token ids."""
        halves = phones_at(timing.ends, timing.num_tokens)
        states = [self._state(timing.phonemes[a], timing.phonemes[b]) for a, b in halves]
        return (LEVELS * np.array(states) + levels_of(timing)).astype(np.int16)

    def _state(self, first: str, second: str) -> int:
        """A pair too rare to have a state is taken for its second half, which the next token may
        not repeat.
        """
        return self._index.get(first + second, self._index.get(second * 2, 0))

    @cached_property
    def parts(self) -> Tensor:
        """[6561, 3]: symbol of the first half, of the second half, and level of every token."""
        rows = torch.zeros(SPEECH_CODES, 3, dtype=torch.long)
        halves = phonemes_of_tokens(self.states, symbol_table())
        rows[:, :2] = torch.from_numpy(np.maximum(halves, 0))
        rows[:, 2] = torch.arange(SPEECH_CODES) % LEVELS
        return rows


class TokenTable(nn.Module):
    """A vector per token: the sum of one for each of its parts and a free one, so that rare tokens
    borrow from those that share a part. Folds into an ordinary table.
    """

    parts: Tensor

    def __init__(self, channels: int, *, std: float = TABLE_STD) -> None:
        super().__init__()
        num_symbols = len(symbol_table())
        self.free = nn.Parameter(torch.zeros(SPEECH_CODES, channels))
        shared = [torch.randn(size, channels) for size in (num_symbols, num_symbols, LEVELS)]
        self.first, self.second, self.level = (
            nn.Parameter(table * std / math.sqrt(len(shared))) for table in shared
        )
        self.register_buffer("parts", Codebook.load().parts, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids […] → vectors […, channels]."""
        first, second, level = self.parts[tokens].unbind(-1)
        return self.free[tokens] + self.first[first] + self.second[second] + self.level[level]

    def folded(self) -> Tensor:
        """[6561, channels]"""
        return self(torch.arange(SPEECH_CODES, device=self.free.device))

    @torch.no_grad()
    def unfold(self, table: Tensor) -> None:
        """Take an ordinary table over: all of it free."""
        for shared in (self.first, self.second, self.level):
            shared.zero_()
        self.free.copy_(table)
