"""Keys and values of the tokens read so far, in one block of memory made once."""

from collections.abc import Sequence
from typing import Self
from weakref import WeakSet

import torch
from torch import Tensor

from smolvideo.network.attention import attend
from smolvideo.network.config import TextConfig


class _Block:
    """Memory for keys and values ``[layers, 1, G, capacity, d]``, and the caches that read it.

    On a CPU the numbers of a key lie ``capacity`` apart, so that a single query meets many keys at
    once: with a key's numbers side by side its product took four times as long. Left uninitialised:
    pages that are never written take no memory.
    """

    def __init__(
        self, shape: Sequence[int], capacity: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        layers, heads, width = shape

        def rows(*order: int) -> Tensor:
            return torch.empty((layers, 1, heads, *order), device=device, dtype=dtype)

        self.shape = tuple(shape)
        self.capacity = capacity
        across = device.type == "cpu"
        self.keys = rows(width, capacity).mT if across else rows(capacity, width)
        self.values = rows(capacity, width)
        self.readers: WeakSet[KeyValueCache] = WeakSet()

    def grown(self, capacity: int, length: int) -> "_Block":
        """Another block with the first ``length`` rows of this one."""
        keys = self.keys
        other = _Block(self.shape, capacity, device=keys.device, dtype=keys.dtype)
        other.keys[:, :, :, :length] = keys[:, :, :, :length]
        other.values[:, :, :, :length] = self.values[:, :, :, :length]
        return other


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
        shape = config.num_hidden_layers, config.num_key_value_heads, config.head_dim
        return cls(_Block(shape, capacity, device=device, dtype=dtype), 0)

    @property
    def capacity(self) -> int:
        return self._block.capacity

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
            self._block.readers.discard(self)
            self._block = self._block.grown(max(needed, self.capacity), self.length)
            self._block.readers.add(self)

    @property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Keys and values so far, each ``[layers, 1, G, length, d]``, as views."""
        block = self._block
        return block.keys[..., : self.length, :], block.values[..., : self.length, :]

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
        kept_keys, kept_values = self._block.keys[layer], self._block.values[layer]
        kept_keys[:, :, self.length : end] = keys
        kept_values[:, :, self.length : end] = values
        return kept_keys[:, :, :end], kept_values[:, :, :end]
