"""KV cache: preallocated memory of keys and values that forks share without a copy.

A layer's memory layout is contiguous for torch, paged for the decode kernel
(``kernels.paged_attention``), which reads keys transposed: the same element of many keys is
contiguous, so their scores are summed by vector instructions.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Self
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor

from smolvideo.models.network_config import TextConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray
from typing import Protocol

from smolvideo.network.attention import attention
from smolvideo.network.attention_backend import TORCH_BACKEND, attention_backend

PAGE_SIZE = 256
"""Tokens per page: with 128 a token of 256M took as long after 3,660 others."""

SMALL_PAGE_SIZE = 64
"""Tokens per page for short suffixes: writing to a page of keys touches all its memory."""


class LayerKV(Protocol):
    """Keys and values of one layer for up to ``capacity`` tokens, of which the first ``length`` are
    valid.

    G KV heads of d elements each.
    """

    def write(self, start: int, keys: Tensor, values: Tensor) -> None:
        """Write keys and values ``[1, G, L, d]`` from position ``start`` on."""
        ...

    def attend(self, q: Tensor, length: int) -> Tensor:
        """Attend with queries ``[1, H, L, d]`` at the last L of ``length`` positions; returns that
        shape."""
        ...

    def slice(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        """Keys and values from ``start`` to ``end``, each ``[G, end - start, d]``: views or
        copies."""
        ...

    def empty(self, capacity: int) -> Self:
        """Allocate the same layout for ``capacity`` tokens."""
        ...


class ContiguousKV:
    """Keys and values ``[G, capacity, d]``."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._keys, self._values = keys, values

    @classmethod
    def of(
        cls, heads: int, width: int, capacity: int, *, device: torch.device, dtype: torch.dtype
    ) -> Self:
        """Allocate without initializing: pages that are never written take no memory."""
        return cls(*torch.empty((2, heads, capacity, width), device=device, dtype=dtype))

    def write(self, start: int, keys: Tensor, values: Tensor) -> None:
        self._keys[:, start : start + keys.shape[2]] = keys[0]
        self._values[:, start : start + keys.shape[2]] = values[0]

    def attend(self, q: Tensor, length: int) -> Tensor:
        keys, values = self.slice(0, length)
        return attention(q, keys[None], values[None], causal=True)

    def slice(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        return self._keys[:, start:end], self._values[:, start:end]

    def empty(self, capacity: int) -> Self:
        heads, _, width = self._keys.shape
        return self.of(heads, width, capacity, device=self._keys.device, dtype=self._keys.dtype)


class PagedKV:
    """Keys in pages of P tokens ``[G, pages, d, P]``, values in order ``[G, pages · P, d]``; CPU
    only."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._keys, self._values = keys, values
        self._page = keys.shape[3]

    @classmethod
    def of(
        cls, heads: int, width: int, capacity: int, *, dtype: torch.dtype, page: int = PAGE_SIZE
    ) -> Self:
        """Allocate without initializing, as ``ContiguousKV`` does."""
        pages = -(-capacity // page)
        return cls(
            torch.empty((heads, pages, width, page), dtype=dtype, device="cpu"),
            torch.empty((heads, pages * page, width), dtype=dtype, device="cpu"),
        )

    @property
    def addresses(self) -> tuple[int, int]:
        """Addresses of keys and values."""
        return self._keys.data_ptr(), self._values.data_ptr()

    @property
    def pages(self) -> int:
        return self._keys.shape[1]

    @property
    def size(self) -> int:
        """Tokens per page."""
        return self._page

    def write(self, start: int, keys: Tensor, values: Tensor) -> None:
        end = start + keys.shape[2]
        self._values[:, start:end] = values[0]
        for page in range(start // self._page, -(-end // self._page)):
            before = page * self._page
            first, behind = max(start, before), min(end, before + self._page)
            own = keys[0, :, first - start : behind - start]
            self._keys[:, page, :, first - before : behind - before] = own.mT

    def attend(self, q: Tensor, length: int) -> Tensor:
        keys, values = self.slice(0, length)
        fastest = attention_backend(values.shape[-1], values.dtype)
        way = TORCH_BACKEND if fastest is None else fastest.get()
        return way.prefill_attention(q, keys[None], values[None], causal=True)

    def slice(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        """Keys are a copy, unless all are in one page."""
        first = start // self._page
        across = self._keys[:, first : -(-end // self._page)].transpose(1, 2).flatten(2)
        keys = across[:, :, start - first * self._page : end - first * self._page].mT
        return keys, self._values[:, start:end]

    def empty(self, capacity: int) -> Self:
        return self.with_page_size(self._page, capacity)

    def with_page_size(self, page: int, capacity: int) -> Self:
        """Allocate the same layout with pages of ``page`` tokens."""
        heads, _, width, _ = self._keys.shape
        return self.of(heads, width, capacity, dtype=self._keys.dtype, page=page)


def resized(rows: LayerKV, capacity: int, length: int) -> LayerKV:
    """Copy the first ``length`` tokens of ``rows`` to new memory for ``capacity`` tokens."""
    keys, values = rows.slice(0, length)
    grown = rows.empty(capacity)
    grown.write(0, keys[None], values[None])
    return grown


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
