"""What decoding knows of each slot, on the device: one row a slot, allocated once, written in place
only, because captured steps hold these addresses.
"""

import torch
from torch import Tensor, nn

from chatterbox.config import SPEECH_CODES
from chatterbox.t3.config import SamplingConfig, T3Config
from chatterbox.t3.sampling import SamplingRows


class DecoderState(nn.Module):
    """Progress, sampling parameters and speech tokens of every slot."""

    length: Tensor
    last_token: Tensor
    step: Tensor
    seed: Tensor
    num_tokens: Tensor
    tokens: Tensor
    done: Tensor
    seen: Tensor
    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    penalty: Tensor
    exaggeration: Tensor
    cfg_weight: Tensor

    def __init__(self, config: T3Config, num_slots: int) -> None:
        super().__init__()
        self._config = config
        for name in ("length", "last_token", "step", "seed", "num_tokens"):
            self.register_buffer(name, torch.zeros(num_slots, dtype=torch.int64), persistent=False)
        for name in ("temperature", "top_p", "min_p", "penalty", "exaggeration", "cfg_weight"):
            self.register_buffer(name, torch.ones(num_slots), persistent=False)
        top_k = torch.ones(num_slots, dtype=torch.int64)
        self.register_buffer("top_k", top_k, persistent=False)
        # Set on the device when the stop token is drawn, because the host learns of it later.
        done = torch.zeros(num_slots, dtype=torch.bool)
        self.register_buffer("done", done, persistent=False)
        seen = torch.zeros(num_slots, config.speech_vocab, dtype=torch.bool)
        self.register_buffer("seen", seen, persistent=False)
        # One column more than can be generated: rows that must not write, write there.
        tokens = torch.zeros(num_slots, config.max_speech_tokens + 1, dtype=torch.int64)
        self.register_buffer("tokens", tokens, persistent=False)

    def begin(self, slot: int, *, prefix: int, seed: int, sampling: SamplingConfig) -> None:
        """A new segment in `slot`, whose conditioning and text take `prefix` positions."""
        start = self._config.start_speech_token
        self.length[slot].fill_(prefix)
        self.last_token[slot].fill_(start)
        self.step[slot].fill_(0)
        self.num_tokens[slot].fill_(0)
        self.done[slot].fill_(False)
        self.seed[slot].fill_(seed)
        self.temperature[slot].fill_(sampling.temperature)
        self.top_k[slot].fill_(sampling.top_k)
        self.top_p[slot].fill_(sampling.top_p)
        self.min_p[slot].fill_(sampling.min_p)
        self.penalty[slot].fill_(sampling.repetition_penalty)
        self.exaggeration[slot].fill_(sampling.exaggeration)
        self.cfg_weight[slot].fill_(sampling.cfg_weight)
        self.seen[slot].fill_(False)
        self.seen[slot, start].fill_(True)

    def close(self, slot: int, num_tokens: int) -> None:
        """The generation of `slot` ended after so many tokens; its closing tokens follow them."""
        for index, token in enumerate(self._config.closing_tokens):
            self.tokens[slot, num_tokens + index].fill_(token)

    def sampling(self, slots: int) -> SamplingRows:
        """The parameters of the first slots."""
        return SamplingRows(
            temperature=self.temperature[:slots],
            top_k=self.top_k[:slots],
            top_p=self.top_p[:slots],
            min_p=self.min_p[:slots],
            penalty=self.penalty[:slots],
            seen=self.seen[:slots],
        )

    def record(self, token: Tensor, stepping: Tensor) -> None:
        """One step's tokens [slots] of the slots that step [slots] bool; only codes with sound
        behind them are kept.
        """
        slots = stepping.shape[0]
        index = torch.arange(slots, device=token.device)
        seen = self.seen[:slots]
        if not self._config.guided:
            # GPT-2's penalty sees the start token at the first step only, Llama's always.
            seen.masked_fill_((stepping & (self.step[:slots] == 0))[:, None], False)
        seen.index_put_((index, token), stepping | seen.gather(1, token[:, None])[:, 0])
        kept = stepping & (token < SPEECH_CODES)
        kept = kept & (self.num_tokens[:slots] < self._config.max_generated_tokens)
        column = self.num_tokens[:slots].masked_fill(~kept, self._config.max_speech_tokens)
        # What is not kept must not reach an embedding table, not even from the scratch column.
        self.tokens[:slots].index_put_((index, column), token.masked_fill(~kept, 0))
        self.num_tokens[:slots].add_(kept)
        self.done[:slots].logical_or_(stepping & (token == self._config.stop_speech_token))
        self.last_token[:slots].copy_(torch.where(stepping, token, self.last_token[:slots]))
        self.length[:slots].add_(stepping)
        self.step[:slots].add_(stepping)
