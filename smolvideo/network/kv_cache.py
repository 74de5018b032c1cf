"""KV caches: of one sequence, shared by forks, and of several that are decoded together.

A layer's memory layout is contiguous for torch, paged for the decode kernel
(``kernels.paged_attention``), which reads keys transposed: the same element of many keys is
contiguous, so their scores are summed by vector instructions.

A step of a batch reads the weights, and the keys and values of the prefix, once for all sequences:
it takes little longer than a step for one.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, Self
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor

from smolvideo.models.network_config import TextConfig
from smolvideo.network.attention import TORCH_BACKEND, AttentionBackend

if TYPE_CHECKING:
    from numpy.typing import NDArray


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

    def attend(self, q: Tensor, length: int, backend: AttentionBackend = TORCH_BACKEND) -> Tensor:
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

    def attend(self, q: Tensor, length: int, backend: AttentionBackend = TORCH_BACKEND) -> Tensor:
        keys, values = self.slice(0, length)
        return backend.prefill_attention(q, keys[None], values[None], causal=True)

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

    def attend(self, q: Tensor, length: int, backend: AttentionBackend = TORCH_BACKEND) -> Tensor:
        keys, values = self.slice(0, length)
        return backend.prefill_attention(q, keys[None], values[None], causal=True)

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

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        backend: AttentionBackend = TORCH_BACKEND,
    ) -> Tensor:
        """Attend with queries ``[1, H, L, d]`` to the cached tokens and, causally, to their own.

        ``k`` and ``v`` ``[1, G, L, d]`` are appended to ``layer`` first.
        """
        rows = self._block.layers[layer]
        rows.write(self.length, k, v)
        return rows.attend(q, self.length + k.shape[2], backend)


class BatchedKVCache:
    """KV cache of ``B`` sequences: one shared prefix, and a padded suffix each."""

    def __init__(self, shared_prefix: KVCache, sequences: int, capacity: int) -> None:
        """Allocate ``capacity`` tokens for the suffix of each sequence."""
        self.shared_prefix = shared_prefix
        _, none = shared_prefix.layer(0).slice(0, 0)  # empty: for shape, dtype and device
        heads, _, width = none.shape
        shape = (shared_prefix.layers, sequences, heads, capacity, width)
        # Memory that is never written takes no pages on a CPU. Values must be finite all the same:
        # where a shorter sequence has not written yet, they are multiplied by zero.
        self._keys, self._values = none.new_empty(shape), none.new_zeros(shape)
        self._lengths = torch.zeros(sequences, dtype=torch.long, device=none.device)
        self._longest = 0
        self._unseen: Tensor | None = None

    def __len__(self) -> int:
        return len(self._lengths)

    def load_sequence(self, sequence: int, cache: KVCache) -> None:
        """Copy what ``cache`` holds after the shared prefix to the suffix of ``sequence``."""
        own = cache.length - self.shared_prefix.length
        for layer in range(cache.layers):
            keys, values = cache.layer(layer).slice(self.shared_prefix.length, cache.length)
            self._keys[layer, sequence, :, :own] = keys
            self._values[layer, sequence, :, :own] = values
        self._lengths[sequence] = own
        self._longest = max(self._longest, own)

    def select_sequences(self, sequences: Sequence[int]) -> None:
        """Keep only ``sequences``, renumbered in this order."""
        chosen = torch.tensor(sequences, device=self._lengths.device)
        self._lengths = self._lengths[chosen]
        self._longest = int(self._lengths.max())
        self._keys, self._values = (
            self._chosen(self._keys, chosen),
            self._chosen(self._values, chosen),
        )

    def positions(self) -> Tensor:
        """Position of the next token of each sequence, ``[B, 1]``."""
        return (self.shared_prefix.length + self._lengths)[:, None]

    def begin_step(self) -> None:
        """Make room and a mask for one more token of every sequence; must be called before
        ``attend``."""
        self._longest += 1
        places = torch.arange(self._longest, device=self._lengths.device)
        self._unseen = places[None] > self._lengths[:, None]

    def end_step(self) -> None:
        """Count the new tokens; must be called after all layers have appended theirs."""
        self._lengths += 1

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend with one new token per sequence: ``q`` ``[B, H, 1, d]``, ``k`` and ``v``
        ``[B, G, 1, d]``.

        Appends the keys and values; returns the attention output ``[B, H, 1, d]``.
        """
        b, heads, _, width = q.shape
        groups, shared = k.shape[1], heads // k.shape[1]
        # append the new keys and values
        sequences = torch.arange(b, device=q.device)
        self._keys[layer, sequences, :, self._lengths] = k[:, :, 0]
        self._values[layer, sequences, :, self._lengths] = v[:, :, 0]
        own_keys = self._keys[layer].flatten(0, 1)[:, : self._longest]
        own_values = self._values[layer].flatten(0, 1)[:, : self._longest]
        seen_by_all = self.shared_prefix.layer(layer).slice(0, self.shared_prefix.length)

        # scores of the suffixes
        queries = (q * width**-0.5).view(b, groups, shared, width)
        own = torch.bmm(queries.flatten(0, 1), own_keys.mT).view(b, groups, shared, -1)
        assert self._unseen is not None
        own.masked_fill_(self._unseen[:, None, None], float("-inf"))
        # scores of the prefix: all sequences in one product over its keys
        together = queries.transpose(0, 1).reshape(groups, b * shared, width)
        common = torch.bmm(together, seen_by_all[0].mT)
        common = common.reshape(groups, b, shared, -1).transpose(0, 1)
        # one softmax over prefix and suffix
        weights = torch.cat((common, own), dim=-1).softmax(dim=-1)
        on_common, on_own = weights.split((self.shared_prefix.length, self._longest), dim=-1)
        # weighted sums of values, of the prefix and then of the suffixes
        on_common = on_common.transpose(0, 1).reshape(groups, b * shared, -1)
        mixed = torch.bmm(on_common, seen_by_all[1]).view(groups, b, shared, width)
        mixed = mixed.transpose(0, 1).reshape(b * groups, shared, width)
        return torch.baddbmm(mixed, on_own.flatten(0, 1), own_values).view(b, heads, 1, width)

    def _chosen(self, rows: Tensor, sequences: Tensor) -> Tensor:
        """Copy the chosen sequences, padded with zeros."""
        layers, _, *rest = rows.shape
        chosen = rows.new_zeros(layers, len(sequences), *rest)
        chosen[:, :, :, : self._longest] = rows[:, sequences, :, : self._longest]
        return chosen


class BatchedPagedKVCache:
    """A ``BatchedKVCache`` for a ``CpuDecoder``: each suffix is a paged cache."""

    def __init__(self, shared_prefix: KVCache, sequences: int, capacity: int) -> None:
        """As ``BatchedKVCache``; ``shared_prefix`` must be paged."""
        self.shared_prefix = shared_prefix
        self.suffixes = [
            shared_prefix.new_with_page_size(SMALL_PAGE_SIZE, capacity) for _ in range(sequences)
        ]

    def __len__(self) -> int:
        return len(self.suffixes)

    def load_sequence(self, sequence: int, cache: KVCache) -> None:
        """Copy what ``cache`` holds after the shared prefix to the suffix of ``sequence``."""
        own = self.suffixes[sequence]
        for layer in range(cache.layers):
            keys, values = cache.layer(layer).slice(self.shared_prefix.length, cache.length)
            own.layer(layer).write(0, keys[None], values[None])
        own.length = cache.length - self.shared_prefix.length

    def select_sequences(self, sequences: Sequence[int]) -> None:
        """Keep only ``sequences``, none of them twice, renumbered in this order."""
        self.suffixes = [self.suffixes[sequence] for sequence in sequences]
