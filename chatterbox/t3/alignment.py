"""Where in the text the speech is → stop suppressed or forced: the alignment analyzer that the
reference's multilingual variant had until version 0.1.7.

For comparison with that version only: it reads every step back to the host, so that no step can be
captured. Off unless asked for.
"""

import math
from enum import Enum, auto

import torch
from torch import Tensor, nn

from chatterbox.frozen import ConfigError
from chatterbox.t3.decoder import T3Decoder
from chatterbox.t3.llama import Attention
from chatterbox.t3.predictor import TokenPredictor

FORBIDDEN = -(2.0**15)
LAST = 3
"""The speech is at its end when it looks at one of so many last text tokens."""
LONGEST_STEP_BACK, LONGEST_STEP_AHEAD = 3, 6
LONGEST_TAIL_FRAMES = 5.0
LONGEST_REPEAT_FRAMES = 5.0
SHORTEST_TEXT = 6


class Effect(Enum):
    """What the analyzer does to the logits of one step."""

    NONE = auto()
    SUPPRESS_STOP = auto()
    FORCE_STOP = auto()


class AlignmentAnalyzer:
    """One generation: push the attention of each step over the text tokens."""

    def __init__(self, num_text: int) -> None:
        self._num_text = num_text
        self._history = torch.zeros(0, num_text)
        self._steps = 0
        self._tokens: list[int] = []
        self._completed_at: int | None = None
        self.started = False
        self.text_position = 0

    @property
    def complete(self) -> bool:
        """The speech has reached the end of the text."""
        return self._completed_at is not None

    def push(self, attention: Tensor, last_token: int) -> Effect:
        """attention [frames, text tokens] of one step (of the first: both start tokens), and the
        token that the step fed.
        """
        attention = attention.clone()
        attention[:, self._steps + 1 :] = 0
        self._steps += 1
        self._history = torch.cat([self._history, attention])
        self._tokens.append(last_token)
        position = int(attention[-1].argmax())
        if -LONGEST_STEP_BACK <= position - self.text_position <= LONGEST_STEP_AHEAD:
            self.text_position = position
        self.started = self.started or not self._false_start()
        if not self.complete and self.text_position >= self._num_text - LAST:
            self._completed_at = len(self._history)
        if self._bad_ending() or (len(self._tokens) > 2 and self._tokens[-1] == self._tokens[-2]):
            return Effect.FORCE_STOP
        early = self._num_text >= SHORTEST_TEXT and position < self._num_text - LAST
        return Effect.SUPPRESS_STOP if early else Effect.NONE

    def _false_start(self) -> bool:
        """The end of the text is looked at, or its start is not yet."""
        end, start = self._history[-2:, -2:].max(), self._history[:, :4].max()
        return bool(end > 0.1 or start < 0.5)

    def _bad_ending(self) -> bool:
        """After the end: the last tokens drag on, or earlier ones come again."""
        if self._completed_at is None:
            return False
        after = self._history[self._completed_at :]
        tail = after[:, -LAST:].sum(dim=0).max()
        earlier = after[:, : -(SHORTEST_TEXT - 1)]
        again = earlier.amax(dim=1).sum() if earlier.shape[1] else torch.zeros(())
        return bool(tail >= LONGEST_TAIL_FRAMES or again > LONGEST_REPEAT_FRAMES)


class AlignedT3Decoder(T3Decoder):
    """T3 on Llama, with an analyzer for each slot between guidance and the other processors."""

    def __init__(self, model: TokenPredictor, num_slots: int, *, top_k: int) -> None:
        super().__init__(model, num_slots, top_k=top_k)
        self.analyzers: dict[int, AlignmentAnalyzer] = {}
        self.attention: dict[int, Tensor] = {}
        """What each slot's last step looked at: [text tokens]."""
        self._text: dict[int, slice] = {}
        self._first_start: dict[int, Tensor] = {}
        self._watched: list[int] = []
        self._stepping: list[bool] = []
        self._seen: list[Tensor] = []
        if not self.config.aligned_heads:
            raise ConfigError("this model has no t3.aligned_heads: its alignment cannot be watched")
        for layer, head in self.config.aligned_heads:
            self._watch(model.get_submodule(f"tfmr.layers.{layer}.self_attn"), layer, head)

    def prefill(self, slot: Tensor, condition: Tensor, text: Tensor, num_text: Tensor) -> None:
        """See `T3Decoder`."""
        index, count = int(slot), int(num_text)
        self._watched = [index]
        self._seen.clear()
        super().prefill(slot, condition, text, num_text)
        first = condition.shape[1] + 1  # the emotion stands between
        self._text[index] = slice(first, first + count)
        self._first_start[index] = self._looked_at(0, first + count, index)
        self.analyzers[index] = AlignmentAnalyzer(count)

    def decode(self, stepping: Tensor, cache_length: int) -> Tensor:
        """See `T3Decoder`."""
        self._watched = list(range(stepping.shape[0]))
        self._stepping = stepping.tolist()
        self._seen.clear()
        return super().decode(stepping, cache_length)

    def adjusted(self, logits: Tensor) -> Tensor:
        """See `T3Decoder`."""
        logits, stop = logits.clone(), self.config.stop_speech_token
        for slot in [slot for slot in self._watched if self._stepping[slot]]:
            self.attention[slot] = self._looked_at(slot, 0, slot)
            rows = [self._first_start.pop(slot, None), self.attention[slot]]
            attention = torch.stack([row for row in rows if row is not None])
            effect = self.analyzers[slot].push(attention, int(self.state.last_token[slot]))
            if effect is Effect.FORCE_STOP:
                logits[slot] = FORBIDDEN
                logits[slot, stop] = -FORBIDDEN
            elif effect is Effect.SUPPRESS_STOP:
                logits[slot, stop] = FORBIDDEN
        return logits

    def _looked_at(self, row: int, time: int, slot: int) -> Tensor:
        """Mean of the watched heads over the text tokens of `slot`; one row and time of the last
        pass.
        """
        seen = torch.stack([attention[row, time] for attention in self._seen]).mean(dim=0)
        return seen[self._text[slot]].cpu()

    def _watch(self, attention: nn.Module, layer: int, head: int) -> None:
        """Keep what this head of the rows that see the text attends to: [slots, time, keys]."""

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            x, rotary, bias = inputs[:3]
            assert isinstance(module, Attention)
            query = module.query(x, rotary)[::2, head]
            rows = [2 * slot for slot in self._watched]
            key = self.cache.keys[layer, rows, head, : bias.shape[-1]]
            score = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])
            self._seen.append((score + bias[::2, 0]).softmax(dim=-1))

        attention.register_forward_hook(keep)
