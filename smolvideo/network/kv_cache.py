"""KV cache: preallocated memory of keys and values that forks share without a copy."""

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
    """Memory for the keys and values of all layers, and the caches that use it."""

    def __init__(self, layers: Sequence[LayerKV], capacity: int) -> None:
        self.layers = layers
        self.capacity = capacity
        self.readers: WeakSet[KVCache] = WeakSet()

    def resized(self, capacity: int, length: int) -> "_KVStorage":
        """Copy the first ``length`` tokens to new storage for ``capacity`` tokens."""
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
    """The first ``length`` tokens of a storage; appending writes after them and copies nothing.

    Forks share the storage. The memory after a cache's length belongs to it as long as no other
    living cache has tokens there; else the next ``reserve`` moves the cache to a storage of its
    own.
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
        """Allocate a cache for ``capacity`` tokens; ``paged`` as a ``CpuDecoder`` requires."""
        heads, width = config.num_key_value_heads, config.head_dim
        layers: list[LayerKV] = [
            PagedKV.of(heads, width, capacity, dtype=dtype)
            if paged
            else ContiguousKV.of(heads, width, capacity, device=device, dtype=dtype)
            for _ in range(config.num_hidden_layers)
        ]
        return cls(_KVStorage(layers, capacity), 0)

    def new_with_page_size(self, page: int, capacity: int) -> Self:
        """Allocate an empty paged cache like this one, with pages of ``page`` tokens."""
        layers = [rows.with_page_size(page, capacity) for rows in self._block.pages]
        return type(self)(_KVStorage(layers, capacity), 0)

    @property
    def capacity(self) -> int:
        return self._block.capacity

    def fork(self, length: int | None = None) -> Self:
        """Return a cache of the first ``length`` tokens of this one (all by default), not
        copied."""
        return type(self)(self._block, self.length if length is None else length)

    def truncate(self, length: int) -> None:
        """Drop the tokens after the first ``length``."""
        self.length = min(self.length, length)

    def reserve(self, rows: int) -> None:
        """Reserve memory for ``rows`` more tokens; must be called before they are written."""
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
        """Keys and values of one layer, of which the first ``length`` are valid."""
        return self._block.layers[number]

    @property
    def pages(self) -> Sequence[PagedKV]:
        """Keys and values of all layers; requires a paged cache."""
        return self._block.pages

    @property
    def addresses(self) -> "NDArray[np.int64]":
        """Addresses of keys and values of all layers, ``[layers, 2]``; requires a paged cache."""
        return self._block.addresses

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend with queries ``[1, H, L, d]`` to the cached tokens and, causally, to their own.

        ``k`` and ``v`` ``[1, G, L, d]`` are appended to ``layer`` first.
        """
        rows = self._block.layers[layer]
        rows.write(self.length, k, v)
        return rows.attend(q, self.length + k.shape[2])
