"""Text tokens of many slots → speech tokens, one a step: prefill a slot, then step all of them
together.

`T3Decoder` holds everything that a step reads on its device, at addresses that never change.
`decode` is what a CUDA graph captures: no synchronisation, no transfer, no tensor from the host.
"""

import math

import torch
from torch import Tensor, nn

from chatterbox.config import SPEECH_CODES, SamplingConfig, T3Config
from chatterbox.t3.kv_cache import StaticCache
from chatterbox.t3.model import T3, causal_bias
from chatterbox.t3.sampling import draw, process
from chatterbox.uniforms import uniforms


class DecoderState(nn.Module):
    """What each slot's decoding needs to know, one row a slot; written in place only."""

    length: Tensor
    last_token: Tensor
    step: Tensor
    seen: Tensor
    seed: Tensor
    temperature: Tensor
    top_p: Tensor
    penalty: Tensor
    tokens: Tensor
    num_tokens: Tensor

    def __init__(self, config: T3Config, num_slots: int) -> None:
        super().__init__()
        self._config = config
        for name in ("length", "last_token", "step", "seed", "num_tokens"):
            self.register_buffer(name, torch.zeros(num_slots, dtype=torch.int64), persistent=False)
        for name in ("temperature", "top_p", "penalty"):
            self.register_buffer(name, torch.ones(num_slots), persistent=False)
        seen = torch.zeros(num_slots, config.speech_vocab, dtype=torch.bool)
        self.register_buffer("seen", seen, persistent=False)
        # One column more than can be generated: rows that must not write, write there.
        tokens = torch.zeros(num_slots, config.max_speech_tokens + 1, dtype=torch.int64)
        self.register_buffer("tokens", tokens, persistent=False)

    def begin(self, slot: int, *, prefix: int, seed: int, sampling: SamplingConfig) -> None:
        """A new segment in `slot`, whose conditioning and text took `prefix` positions."""
        start = self._config.start_speech_token
        self.length[slot].fill_(prefix)
        self.last_token[slot].fill_(start)
        self.step[slot].fill_(0)
        self.num_tokens[slot].fill_(0)
        self.seed[slot].fill_(seed)
        self.temperature[slot].fill_(sampling.temperature)
        self.top_p[slot].fill_(sampling.top_p)
        self.penalty[slot].fill_(sampling.repetition_penalty)
        self.seen[slot].fill_(False)
        self.seen[slot, start].fill_(True)


class T3Decoder(nn.Module):
    """T3 with its cache and the state of every slot."""

    def __init__(self, model: T3, num_slots: int, *, top_k: int) -> None:
        super().__init__()
        self.config = model.config
        self.model = model
        self.top_k = top_k
        self.cache = StaticCache(model.config, num_slots)
        self.state = DecoderState(model.config, num_slots)

    def prefill(self, slot: Tensor, condition: Tensor, text: Tensor) -> None:
        """Compute the prefix of slot [1]: condition [1, prefix, channels], text tokens [1, bucket].

        The text may be padded to a bucket: what is written beyond the true length is overwritten
        before it is seen.
        """
        embeddings = torch.cat([condition, self.model.text_emb(text)], dim=1)
        positions = torch.arange(embeddings.shape[1], device=embeddings.device)[None]
        bias = causal_bias(positions, positions)
        self.model.tfmr(embeddings, positions, bias, self.cache.prefill(slot))

    def decode(self, stepping: Tensor, cache_length: int) -> Tensor:
        """One step of the first `len(stepping)` slots. Returns the token of each row, [rows].

        stepping [rows] bool: the others are left untouched. `cache_length` bounds the positions
        that any stepping row has after this step.
        """
        state, rows = self.state, stepping.shape[0]
        length = state.length[:rows]
        position = length.masked_fill(~stepping, self.cache.scratch)
        embedded = self.model.speech_emb(state.last_token[:rows])[:, None]
        keys = torch.arange(cache_length, device=stepping.device)[None, None, None, :]
        bias = torch.zeros_like(keys, dtype=torch.float32).masked_fill(
            keys > length[:, None, None, None], -math.inf
        )
        # wpe has no row for the scratch position, and a row that does not step must not read
        # beyond the table.
        fixed = self.config.speech_positions_from
        learned = state.step[:rows] + fixed if fixed else length
        learned = learned.masked_fill(~stepping, 0)[:, None]
        hidden = self.model.tfmr(embedded, learned, bias, self.cache.decode(position, cache_length))
        token = self._sample(self.model.speech_head(hidden[:, 0]), rows)
        self._record(token, stepping)
        return token

    def _sample(self, logits: Tensor, rows: int) -> Tensor:
        state = self.state
        candidates, probability = process(
            logits.float(),
            temperature=state.temperature[:rows],
            top_k=self.top_k,
            top_p=state.top_p[:rows],
            penalty=state.penalty[:rows],
            seen=state.seen[:rows],
        )
        return draw(candidates, probability, uniforms(state.seed[:rows], state.step[:rows]))

    def _record(self, token: Tensor, stepping: Tensor) -> None:
        state, rows = self.state, stepping.shape[0]
        index = torch.arange(rows, device=token.device)
        # The penalty sees the start token at the first step only.
        first = (stepping & (state.step[:rows] == 0))[:, None]
        seen = state.seen[:rows]
        seen.masked_fill_(first, False)
        seen.index_put_((index, token), stepping | seen.gather(1, token[:, None])[:, 0])
        kept = (
            stepping
            & (token < SPEECH_CODES)
            & (state.num_tokens[:rows] < self.config.max_speech_tokens)
        )
        column = state.num_tokens[:rows].masked_fill(~kept, self.config.max_speech_tokens)
        state.tokens[:rows].index_put_((index, column), token)
        state.num_tokens[:rows].add_(kept)
        state.last_token[:rows].copy_(torch.where(stepping, token, state.last_token[:rows]))
        state.length[:rows].add_(stepping)
        state.step[:rows].add_(stepping)
