"""Keys and values of every slot, allocated once; captured steps hold these addresses.

Layout [layers, rows, heads, positions + 1, head_channels]: a head's positions lie side by side,
as attention reads them. One row a slot, or two where guidance needs a pair. The last position is
scratch, where rows that do not step write, so that a paused slot stays bit for bit untouched.
"""

import torch
from torch import Tensor, nn

from chatterbox.t3.config import T3Config


class StaticCache(nn.Module):
    keys: Tensor
    values: Tensor

    def __init__(
        self, config: T3Config, num_slots: int, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        shape = (
            config.layers,
            num_slots * config.rows_per_slot,
            config.heads,
            config.max_sequence + 1,
            config.channels // config.heads,
        )
        self.scratch = config.max_sequence
        self.register_buffer("keys", torch.zeros(shape, dtype=dtype), persistent=False)
        self.register_buffer("values", torch.zeros(shape, dtype=dtype), persistent=False)

    def prefill(self, rows: Tensor) -> "PrefillRows":
        """For a call that fills these rows from position 0 on."""
        return PrefillRows(self, rows)

    def decode(self, positions: Tensor, length: int) -> "DecodeRows":
        """For a call that adds one position, `positions` [rows], to the first rows; it reads the
        first `length`.
        """
        return DecodeRows(self, positions, length)


class PrefillRows:
    """Writes a whole prefix and attends within it: nothing earlier exists."""

    def __init__(self, cache: StaticCache, rows: Tensor) -> None:
        self._cache = cache
        self._rows = rows

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        time = key.shape[2]
        self._cache.keys[layer, :, :, :time].index_copy_(0, self._rows, key)
        self._cache.values[layer, :, :, :time].index_copy_(0, self._rows, value)
        return key, value


class DecodeRows:
    """Writes one position a row and attends to everything before it."""

    def __init__(self, cache: StaticCache, positions: Tensor, length: int) -> None:
        self._cache = cache
        self._positions = positions
        self._length = length
        self._rows = torch.arange(positions.shape[0], device=positions.device)

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return self._extend(self._cache.keys[layer], key), self._extend(
            self._cache.values[layer], value
        )

    def _extend(self, kept: Tensor, new: Tensor) -> Tensor:
        kept.transpose(1, 2).index_put_((self._rows, self._positions), new[:, :, 0])
        return kept[: self._rows.shape[0], :, : self._length]
