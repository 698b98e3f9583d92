"""(seed, position) → uniform floats, on the device: counter-based, because a captured batched draw
owns no generator.
"""

from torch import Tensor

_WORD = 0xFFFFFFFF


def hash32(x: Tensor) -> Tensor:
    """A well-mixed 32-bit hash of int64 values in [0, 2^32): two xor-shift-multiply rounds
    (Ettinger, hash-prospector).

    Both multipliers are below 2^31, so that no product overflows int64.
    """
    x = x & _WORD
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & _WORD
    x = ((x ^ (x >> 15)) * 0x735A2D97) & _WORD
    return x ^ (x >> 15)


def uniforms(seed: Tensor, position: Tensor) -> Tensor:
    """Floats in [0, 1), a function of (seed, position) alone; both int64, same shape."""
    mixed = hash32(hash32(seed) + hash32(position ^ 0x9E3779B9))
    return (mixed >> 8).float() * 2.0**-24
