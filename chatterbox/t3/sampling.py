"""Logits and per-slot parameters in, the next speech token out, on the device, without a generator.

Processing in the order of Chatterbox Turbo: temperature, top-k, top-p, repetition penalty,
softmax, draw.
"""

import math

import torch
from torch import Tensor


def process(
    logits: Tensor, *, temperature: Tensor, top_k: int, top_p: Tensor, penalty: Tensor, seen: Tensor
) -> tuple[Tensor, Tensor]:
    """Candidates [rows, top_k] (token ids) and their probabilities, both by falling logit.

    logits [rows, vocab]; temperature, top_p, penalty [rows]; seen [rows, vocab] bool, the tokens
    that the repetition penalty weakens. Equal to the reference, whose filters sort the whole
    vocabulary ascending.
    """
    scaled = logits / temperature[:, None].clamp_min(1e-4)
    kept, candidates = scaled.topk(min(top_k, scaled.shape[-1]), dim=-1)
    probability = kept.softmax(dim=-1)
    before = probability.cumsum(dim=-1) - probability
    kept = kept.masked_fill(before >= top_p[:, None], -math.inf)
    kept[:, 0] = scaled.amax(dim=-1)  # the likeliest always stays
    weakened = torch.where(kept > 0, kept / penalty[:, None], kept * penalty[:, None])
    kept = torch.where(seen.gather(-1, candidates), weakened, kept)
    return candidates, kept.softmax(dim=-1)


def draw(candidates: Tensor, probability: Tensor, uniform: Tensor) -> Tensor:
    """One candidate per row by inverse transform: [rows, k] ids and probabilities, [rows] uniforms
    → [rows] ids.
    """
    cumulative = probability.cumsum(dim=-1)
    below = (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(dim=-1, keepdim=True)
    return candidates.gather(-1, below.clamp_max(candidates.shape[-1] - 1)).squeeze(-1)
