"""What the decoder needs of T3, whatever its backbone: rows of embeddings in, logits of the next
speech token out.

Knows no slots and no loop. Attention reads and writes keys and values through a `KeyValueCache`
that the caller owns.
"""

import math
from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor, nn

from chatterbox.t3.config import T3Config


class KeyValueCache(Protocol):
    """Where one layer's keys and values of earlier positions live."""

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keep key and value [rows, heads, new, head_channels]; return all of them [rows, heads,
        length, …].
        """


class TokenPredictor(nn.Module, ABC):
    """Embeddings and head that both backbones share, with the official parameter names."""

    def __init__(self, config: T3Config) -> None:
        super().__init__()
        self.config = config
        self.text_emb = nn.Embedding(config.text_vocab, config.channels)
        self.speech_emb = nn.Embedding(config.speech_vocab, config.channels)
        self.speech_head = nn.Linear(config.channels, config.speech_vocab, bias=not config.guided)

    def lay_out_for_few_rows(self) -> None:
        """Called once, on the CPU, before a decoder steps a few rows at a time. Most have nothing
        to do.
        """

    @abstractmethod
    def embed_condition(self, speaker: Tensor, prompt: Tensor) -> Tensor:
        """What does not change with the text: speaker [rows, speaker_channels], prompt [rows,
        prompt_tokens] → [rows, conditioning, channels].
        """

    @abstractmethod
    def prefix_length(self, condition: int, num_text: int) -> int:
        """Positions before the start token that the first step feeds: of `condition` rows out of
        `embed_condition` and so many text tokens.
        """

    @abstractmethod
    def embed_prefix(
        self, condition: Tensor, text: Tensor, *, num_text: Tensor, exaggeration: Tensor
    ) -> Tensor:
        """Everything before that start token, for the rows of one slot: condition [1, conditioning,
        channels], text [1, bucket] of which num_text [1] tokens count, exaggeration [1] →
        [rows_per_slot, time, channels]. Rows of time behind the prefix are padding.
        """

    @abstractmethod
    def embed_speech(self, token: Tensor, step: Tensor) -> Tensor:
        """Speech tokens [rows] that the steps [rows] feed → [rows, channels]."""

    @abstractmethod
    def positions(self, length: Tensor, step: Tensor) -> Tensor:
        """What `transform` calls the position of a step: length and step are [rows]."""

    @abstractmethod
    def transform(
        self, x: Tensor, positions: Tensor, bias: Tensor, cache: KeyValueCache | None = None
    ) -> Tensor:
        """x [rows, time, channels] → normalised hidden states. positions [rows or 1, time]; bias,
        additive, [rows or 1, 1, time, keys].
        """

    def forward(self, embeddings: Tensor) -> Tensor:
        """Teacher-forced pass without a cache: embeddings [rows, time, channels] → hidden states
        of that shape.

        Rows may be padded on the right to the longest: under causal attention that is neutral for
        what counts.
        """
        positions = torch.arange(embeddings.shape[1], device=embeddings.device)[None]
        return self.transform(embeddings, positions, causal_bias(positions, positions))


def causal_bias(query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """[rows, queries], [rows, keys] → additive [rows, 1, queries, keys]: a key after its query is
    hidden.
    """
    hidden = key_positions[:, None, None, :] > query_positions[:, None, :, None]
    return torch.zeros_like(hidden, dtype=torch.float32).masked_fill(hidden, -math.inf)
