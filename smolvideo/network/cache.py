"""Keys and values of the tokens read so far, in one block of memory made once."""

from typing import Self
from weakref import WeakSet

import torch
from torch import Tensor

from smolvideo.network.attention import attend
from smolvideo.network.config import TextConfig


class _Block:
    """Memory for keys and values ``[layers, 2, 1, G, capacity, d]``, and the caches that read it.

    Left uninitialised: on a CPU, pages that are never written take no memory.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.readers: WeakSet[KeyValueCache] = WeakSet()


class KeyValueCache:
    """The first ``length`` rows of a block; appending writes behind them and copies nothing.

    Forks share the block. Rows behind a cache's length belong to it as long as no other living
    cache has them too; else the next ``extend`` moves to a block of its own first.
    """

    def __init__(self, block: _Block, length: int) -> None:
        self._block = block
        self.length = length
        block.readers.add(self)

    @classmethod
    def empty(
        cls, config: TextConfig, capacity: int, *, device: torch.device, dtype: torch.dtype
    ) -> Self:
        """Room for ``capacity`` tokens."""
        shape = (
            config.num_hidden_layers,
            2,
            1,
            config.num_key_value_heads,
            capacity,
            config.head_dim,
        )
        return cls(_Block(torch.empty(shape, device=device, dtype=dtype)), 0)

    @property
    def capacity(self) -> int:
        return self._block.rows.shape[4]

    def fork(self, length: int | None = None) -> Self:
        """Another cache with the first ``length`` rows of this one (all of them), not copied."""
        return type(self)(self._block, self.length if length is None else length)

    def truncate(self, length: int) -> None:
        """Forget the rows behind the first ``length``."""
        self.length = min(self.length, length)

    def make_room(self, rows: int) -> None:
        """See to it that ``rows`` more can be written; to be called before ``put``."""
        needed = self.length + rows
        others = [reader for reader in self._block.readers if reader is not self]
        taken = any(reader.length > self.length for reader in others)
        if taken or needed > self.capacity:
            old, shape = self._block.rows, list(self._block.rows.shape)
            shape[4] = max(needed, self.capacity)
            self._block.readers.discard(self)
            self._block = _Block(old.new_empty(shape))
            self._block.rows[..., : self.length, :] = old[..., : self.length, :]
            self._block.readers.add(self)

    @property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Keys and values so far, each ``[layers, 1, G, length, d]``, as views."""
        keys, values = self._block.rows.unbind(1)
        return keys[..., : self.length, :], values[..., : self.length, :]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What queries ``[1, H, L, d]`` gather from the rows so far and from their own.

        ``k`` and ``v`` ``[1, G, L, d]`` are appended to those of ``layer``.
        """
        return attend(q, *self.put(layer, k, v), causal=True)

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write rows ``[1, G, L, d]`` of one layer behind the others.

        Returns that layer's keys and values so far, ``[1, G, length + L, d]``, as views.
        """
        end = self.length + keys.shape[2]
        kept_keys, kept_values = self._block.rows[layer]
        kept_keys[:, :, self.length : end] = keys
        kept_values[:, :, self.length : end] = values
        return kept_keys[:, :, :end], kept_values[:, :, :end]
