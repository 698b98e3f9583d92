"""Text tokens of many slots → speech tokens, one a step: prefill a slot, then step all of them
together.

`T3Decoder` holds everything that a step reads on its device, at addresses that never change.
`decode` is what a CUDA graph captures: no synchronisation, no transfer, no tensor from the host.
"""

import math

import torch
from torch import Tensor, nn

from chatterbox.t3.kv_cache import StaticCache
from chatterbox.t3.predictor import TokenPredictor, causal_bias
from chatterbox.t3.sampling import draw, guided, process, process_guided
from chatterbox.t3.state import DecoderState
from chatterbox.uniforms import uniforms


class T3Decoder(nn.Module):
    """T3 on either backbone, with its cache and the state of every slot."""

    def __init__(self, model: TokenPredictor, num_slots: int, *, top_k: int) -> None:
        """`top_k`: the most that any slot may ask for; GPT-2 only."""
        super().__init__()
        self.config = model.config
        if model.speech_head.weight.device.type == "cpu":
            model.lay_out_for_few_rows()
        self.model = model
        self.top_k = top_k
        self.cache = StaticCache(model.config, num_slots, model.speech_head.weight.dtype)
        self.state = DecoderState(model.config, num_slots)

    def prefill(self, slot: Tensor, condition: Tensor, text: Tensor, num_text: Tensor) -> None:
        """Compute the prefix of slot [1], which `state.begin` has set up: condition [1,
        conditioning, channels], text tokens [1, bucket] of which num_text [1] count.

        What is written beyond the true length is overwritten before it is seen.
        """
        embeddings = self.model.embed_prefix(
            condition,
            text,
            num_text=num_text,
            exaggeration=self.state.exaggeration.index_select(0, slot),
        )
        rows = torch.arange(self.config.rows_per_slot, device=slot.device)
        positions = torch.arange(embeddings.shape[1], device=embeddings.device)[None]
        cache = self.cache.prefill(slot * self.config.rows_per_slot + rows)
        self.model.transform(embeddings, positions, causal_bias(positions, positions), cache)

    def decode(self, stepping: Tensor, cache_length: int) -> Tensor:
        """One step of the first `len(stepping)` slots. Returns the token of each, [slots].

        stepping [slots] bool: the others are left untouched, as are those that have drawn the stop
        token. `cache_length` bounds the positions that any stepping slot has after this step.
        """
        state, slots = self.state, stepping.shape[0]
        stepping = stepping & ~state.done[:slots]
        length = state.length[:slots]
        # The model's tables have no row for the scratch position, and a slot that does not step
        # must not read beyond them.
        step = state.step[:slots].masked_fill(~stepping, 0)
        at = self.model.positions(length, step).masked_fill(~stepping, 0)
        embedded = self.model.embed_speech(state.last_token[:slots], step)
        keys = torch.arange(cache_length, device=stepping.device)[None, None, None, :]
        bias = torch.zeros_like(keys, dtype=torch.float32).masked_fill(
            keys > length[:, None, None, None], -math.inf
        )
        written = self._paired(length.masked_fill(~stepping, self.cache.scratch))
        hidden = self.model.transform(
            self._paired(embedded)[:, None],
            self._paired(at)[:, None],
            self._paired(bias),
            self.cache.decode(written, cache_length),
        )
        token = self._sample(self.model.speech_head(hidden[:, 0]), slots)
        state.record(token, stepping)
        return token

    def _paired(self, x: Tensor) -> Tensor:
        """[slots, …] → [rows, …]: both rows of a slot get what is the slot's."""
        count = self.config.rows_per_slot
        return x if count == 1 else x[:, None].expand(-1, count, *x.shape[1:]).flatten(0, 1)

    def _sample(self, logits: Tensor, slots: int) -> Tensor:
        """logits [rows, vocab] → tokens [slots]"""
        state = self.state
        rows = state.sampling(slots)
        if self.config.guided:
            pairs = logits.float().view(slots, 2, -1)
            combined = self.adjusted(guided(pairs, state.cfg_weight[:slots]))
            candidates, probability = process_guided(combined, rows)
        else:
            candidates, probability = process(logits.float(), rows, widest=self.top_k)
        return draw(candidates, probability, uniforms(state.seed[:slots], state.step[:slots]))

    def adjusted(self, logits: Tensor) -> Tensor:
        """Logits [slots, vocab] between guidance and processing; a decoder that watches the
        alignment changes them here.
        """
        return logits
