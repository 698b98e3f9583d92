"""Logits and per-slot parameters in, the next speech token out, on the device, without a generator.

Two orders of processing, as the reference has them. GPT-2: temperature, top-k, top-p, repetition
penalty. Llama: guidance, repetition penalty, temperature, min-p, top-p. Every parameter is a tensor
with one value a slot, so none of them is part of a captured step.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SamplingRows:
    """What steers the draw of each row: [rows], but for `seen`."""

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    penalty: Tensor
    seen: Tensor
    """[rows, vocab] bool: the tokens that the repetition penalty weakens."""


def guided(pairs: Tensor, weight: Tensor) -> Tensor:
    """Logits with and without sight of the text [rows, 2, vocab], weight [rows] → [rows, vocab]."""
    with_text, without = pairs.unbind(dim=1)
    return with_text + weight[:, None] * (with_text - without)


def penalised(logits: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
    """Weaken the tokens that were seen: logits and seen [rows, vocab], penalty [rows]."""
    penalty = penalty[:, None]
    weakened = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, weakened, logits)


def process(logits: Tensor, rows: SamplingRows, *, widest: int) -> tuple[Tensor, Tensor]:
    """The order of Turbo and Nano: `widest` candidates of each row (token ids) and their
    probabilities, both by falling logit. No row's top-k may be above `widest`.

    logits [rows, vocab]. Equal to the reference, whose filters sort the whole vocabulary ascending.
    """
    scaled = logits / _divisor(rows)
    kept, candidates = scaled.topk(min(widest, scaled.shape[-1]), dim=-1)
    rank = torch.arange(kept.shape[-1], device=kept.device)
    kept = kept.masked_fill(rank >= rows.top_k[:, None], -math.inf)
    probability = kept.softmax(dim=-1)
    before = probability.cumsum(dim=-1) - probability
    kept = kept.masked_fill(before >= rows.top_p[:, None], -math.inf)
    kept[:, 0] = scaled.amax(dim=-1)  # the likeliest always stays
    kept = penalised(kept, rows.seen.gather(-1, candidates), rows.penalty)
    return candidates, kept.softmax(dim=-1)


def process_guided(logits: Tensor, rows: SamplingRows) -> tuple[Tensor, Tensor]:
    """The order of English and Multilingual, after guidance: all tokens of each row and their
    probabilities, both by falling logit. logits [rows, vocab].
    """
    scaled = penalised(logits, rows.seen, rows.penalty) / _divisor(rows)
    kept, candidates = scaled.sort(dim=-1, descending=True)
    probability = kept.softmax(dim=-1)
    unlikely = probability < rows.min_p[:, None] * probability[:, :1]
    kept = kept.masked_fill(unlikely, -math.inf)
    # Summed from the least likely up, as the reference does: the last bits decide at the edge.
    from_below = kept.softmax(dim=-1).flip(-1).cumsum(dim=-1).flip(-1)
    kept = kept.masked_fill(from_below <= 1 - rows.top_p[:, None], -math.inf)
    kept[:, 0] = scaled.amax(dim=-1)  # the likeliest always stays
    return candidates, kept.softmax(dim=-1)


def draw(candidates: Tensor, probability: Tensor, uniform: Tensor) -> Tensor:
    """One candidate per row by inverse transform: [rows, k] ids and probabilities, [rows] uniforms
    → [rows] ids.
    """
    cumulative = probability.cumsum(dim=-1)
    below = (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(dim=-1, keepdim=True)
    return candidates.gather(-1, below.clamp_max(candidates.shape[-1] - 1)).squeeze(-1)


def _divisor(rows: SamplingRows) -> Tensor:
    """Temperature zero is one so small that only the likeliest token is left."""
    return rows.temperature[:, None].clamp_min(1e-4)
