"""Keys and values of the tokens read so far, in memory that is made once and shared by forks."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Self
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor

from smolvideo.models.network_config import TextConfig
from smolvideo.network.kv_layout import ContiguousKV, LayerKV, PagedKV, resized

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _KVStorage:
    """Memory for the rows of all layers, and the caches that read it."""

    def __init__(self, layers: Sequence[LayerKV], capacity: int) -> None:
        self.layers = layers
        self.capacity = capacity
        self.readers: WeakSet[KVCache] = WeakSet()

    def resized(self, capacity: int, length: int) -> "_KVStorage":
        """Another block with the first ``length`` rows of this one."""
        return _KVStorage([resized(layer, capacity, length) for layer in self.layers], capacity)

    @cached_property
    def pages(self) -> Sequence[PagedKV]:
        pages = [layer for layer in self.layers if isinstance(layer, PagedKV)]
        assert len(pages) == len(self.layers)
        return pages

    @cached_property
    def addresses(self) -> "NDArray[np.int64]":
        return np.array([layer.addresses for layer in self.pages], dtype=np.int64)


class KVCache:
    """The first ``length`` rows of a block; appending writes behind them and copies nothing.

    Forks share the block. Rows behind a cache's length belong to it as long as no other living
    cache has them too; else the next ``extend`` moves to a block of its own first.
    """

    def __init__(self, block: _KVStorage, length: int) -> None:
        self._block = block
        self.length = length
        block.readers.add(self)

    @classmethod
    def empty(
        cls,
        config: TextConfig,
        capacity: int,
        *,
        device: torch.device,
        dtype: torch.dtype,
        paged: bool = False,
    ) -> Self:
        """Room for ``capacity`` tokens; ``paged`` as a ``TokenStep`` reads them."""
        heads, width = config.num_key_value_heads, config.head_dim
        layers: list[LayerKV] = [
            PagedKV.of(heads, width, capacity, dtype=dtype)
            if paged
            else ContiguousKV.of(heads, width, capacity, device=device, dtype=dtype)
            for _ in range(config.num_hidden_layers)
        ]
        return cls(_KVStorage(layers, capacity), 0)

    def new_with_page_size(self, page: int, capacity: int) -> Self:
        """Another cache like this, which is paged, with other pages and no rows."""
        layers = [rows.with_page_size(page, capacity) for rows in self._block.pages]
        return type(self)(_KVStorage(layers, capacity), 0)

    @property
    def capacity(self) -> int:
        return self._block.capacity

    def fork(self, length: int | None = None) -> Self:
        """Another cache with the first ``length`` rows of this one (all of them), not copied."""
        return type(self)(self._block, self.length if length is None else length)

    def truncate(self, length: int) -> None:
        """Forget the rows behind the first ``length``."""
        self.length = min(self.length, length)

    def reserve(self, rows: int) -> None:
        """See to it that ``rows`` more can be written; to be called before they are."""
        needed = self.length + rows
        others = [reader for reader in self._block.readers if reader is not self]
        taken = any(reader.length > self.length for reader in others)
        if taken or needed > self.capacity:
            self._block.readers.discard(self)
            self._block = self._block.resized(max(needed, self.capacity), self.length)
            self._block.readers.add(self)

    @property
    def layers(self) -> int:
        return len(self._block.layers)

    def layer(self, number: int) -> LayerKV:
        """The rows of one layer; the first ``length`` are those so far."""
        return self._block.layers[number]

    @property
    def pages(self) -> Sequence[PagedKV]:
        """The rows of all layers, which are paged."""
        return self._block.pages

    @property
    def addresses(self) -> "NDArray[np.int64]":
        """Where keys and values of all layers begin, ``[layers, 2]``; they are paged."""
        return self._block.addresses

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What queries ``[1, H, L, d]`` gather from the rows so far and from their own.

        ``k`` and ``v`` ``[1, G, L, d]`` are appended to those of ``layer``.
        """
        rows = self._block.layers[layer]
        rows.write(self.length, k, v)
        return rows.attend(q, self.length + k.shape[2])
