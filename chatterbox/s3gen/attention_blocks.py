"""Who may attend to whom, as data: one integer block id per position; a query sees keys of its own
and earlier blocks.

Full attention, block-causal attention, the always visible voice prompt and neutral padding are all
the same rule, so one captured step serves them all.
"""

from torch import Tensor

PROMPT_BLOCK = -1
"""The voice prompt: visible to everybody, sees only itself under block-causal attention."""
PADDING_BLOCK = 1 << 20
"""Positions that do not exist: seen only by each other (so that no row of a softmax is empty)."""
HIDDEN = -1e10
"""Added to a score to hide a key: exp() of it is exactly zero beside any visible key."""


def attention_bias(block: Tensor) -> Tensor:
    """[batch, positions] block ids → [batch, 1, positions, positions] additive float bias (query,
    key).
    """
    hidden = block[:, None, :, None] < block[:, None, None, :]
    return hidden.float() * HIDDEN


def valid_mask(block: Tensor) -> Tensor:
    """[batch, positions] block ids → [batch, positions] float, 1 where the position exists."""
    return (block < PADDING_BLOCK).float()
