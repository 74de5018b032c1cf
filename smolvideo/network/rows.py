"""Keys and values of one layer, laid out as the device reads them fastest.

A GPU has them in their order. On a CPU a single token's attention is a few rows times much memory,
which matrix products are slow at: they copy a part of a block before they multiply. But what
queries gather is a weighted sum of values, and scores are weighted sums, too, of what keys have in
one dimension. torch adds up weighted rows of a table where they lie (``embedding_bag``, made for
recommenders) and takes two thirds (256M) to a third (2.2B) of the time, behind 3,660 tokens. For
that a key's numbers stand below each other, in pages of some keys; where torch has no fast sums,
all keys are one page, which products read best.
"""

from functools import cache, lru_cache
from typing import Protocol

import torch
from torch import Tensor

from smolvideo.network.attention import attend

_PAGE = 256
"""Keys of a page: scores of one token take as long with 128 to 448 of them, and two fifths longer
with 64 and 1,024 (256M, one thread)."""

_FEW = 6
"""Queries per head, up to which sums of rows are no slower than products (256M; 2.2B: 15)."""


class LayerRows(Protocol):
    """The memory of one layer for up to ``capacity`` rows, of which the first ``length`` count.

    G heads of keys and values, d numbers each.
    """

    def put(self, start: int, keys: Tensor, values: Tensor) -> None:
        """Write rows ``[1, G, L, d]`` from ``start`` on."""
        ...

    def attend(self, q: Tensor, length: int) -> Tensor:
        """What queries ``[1, H, L, d]`` gather that stand at the last L rows, in that shape."""
        ...

    def scores(self, queries: Tensor, length: int) -> Tensor:
        """Products ``[G, R, length]`` of R queries ``[G, R, d]`` with all keys."""
        ...

    def gathered(self, weights: Tensor) -> Tensor:
        """Sums ``[G, R, d]`` of the first values by ``weights`` ``[G, R, length]``."""
        ...

    def between(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        """Keys and values of these rows, each ``[G, end - start, d]``: views or copies."""
        ...


def empty_rows(
    heads: int, width: int, capacity: int, *, device: torch.device, dtype: torch.dtype
) -> LayerRows:
    """Memory for ``capacity`` rows of ``heads`` keys and values of ``width`` numbers.

    Left uninitialised: pages of memory that are never written are never taken.
    """
    if device.type != "cpu":
        return OrderedRows(*torch.empty((2, heads, capacity, width), device=device, dtype=dtype))
    rounded = -(-capacity // _PAGE) * _PAGE
    page = _PAGE if _has_fast_sums() else rounded
    return PagedRows(
        torch.empty((heads, rounded // page, width, page), device=device, dtype=dtype),
        torch.empty((heads, rounded, width), device=device, dtype=dtype),
    )


def grown_rows(rows: LayerRows, capacity: int, length: int) -> LayerRows:
    """Memory of its own for ``capacity`` rows, with the first ``length`` of ``rows``."""
    keys, values = rows.between(0, length)
    heads, _, width = values.shape
    grown = empty_rows(heads, width, capacity, device=values.device, dtype=values.dtype)
    grown.put(0, keys[None], values[None])
    return grown


class OrderedRows:
    """Keys and values ``[G, capacity, d]``, for matrix products."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._keys, self._values = keys, values

    def put(self, start: int, keys: Tensor, values: Tensor) -> None:
        self._keys[:, start : start + keys.shape[2]] = keys[0]
        self._values[:, start : start + keys.shape[2]] = values[0]

    def attend(self, q: Tensor, length: int) -> Tensor:
        keys, values = self.between(0, length)
        return attend(q, keys[None], values[None], causal=True)

    def scores(self, queries: Tensor, length: int) -> Tensor:
        return torch.bmm(queries, self._keys[:, :length].mT)

    def gathered(self, weights: Tensor) -> Tensor:
        return torch.bmm(weights, self._values[:, : weights.shape[2]])

    def between(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        return self._keys[:, start:end], self._values[:, start:end]


class PagedRows:
    """Keys in pages of P ``[G, pages, d, P]``, values in their order ``[G, pages · P, d]``."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._keys, self._values = keys, values
        self._page = keys.shape[3]

    def put(self, start: int, keys: Tensor, values: Tensor) -> None:
        end = start + keys.shape[2]
        self._values[:, start:end] = values[0]
        for page in range(start // self._page, -(-end // self._page)):
            before = page * self._page
            first, behind = max(start, before), min(end, before + self._page)
            own = keys[0, :, first - start : behind - start]
            self._keys[:, page, :, first - before : behind - before] = own.mT

    def attend(self, q: Tensor, length: int) -> Tensor:
        _, heads, rows, width = q.shape
        if rows > 1:
            keys, values = self.between(0, length)
            return attend(q, keys[None], values[None], causal=True)
        # The heads that share keys are queries of the same keys.
        queries = (q * width**-0.5).view(len(self._keys), -1, width)
        weights = self.scores(queries, length).softmax(dim=-1)
        return self.gathered(weights).view(1, heads, 1, width)

    def scores(self, queries: Tensor, length: int) -> Tensor:
        heads, each, width = queries.shape
        if not _are_sums_faster(each, length):
            # Of whole pages, which are a copy already: a part of them would be copied again.
            rounded = -(-length // _PAGE) * _PAGE
            return torch.bmm(queries, self._keys_across(0, rounded))[:, :, :length]
        pages = -(-length // self._page)
        table = self._keys.view(-1, self._page)
        sums = _sums_over_keys(heads, each, width, pages, self._keys.shape[1])
        weights = queries[:, :, None].expand(heads, each, pages, width)
        return _add_rows(table, sums, weights).view(heads, each, -1)[:, :, :length]

    def gathered(self, weights: Tensor) -> Tensor:
        heads, each, length = weights.shape
        if not _are_sums_faster(each, length):
            return torch.bmm(weights, self._values[:, :length])
        table = self._values.view(-1, self._values.shape[2])
        sums = _sums_over_values(heads, each, length, self._values.shape[1])
        return _add_rows(table, sums, weights).view(heads, each, -1)

    def between(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        return self._keys_across(start, end).mT, self._values[:, start:end]

    def _keys_across(self, start: int, end: int) -> Tensor:
        """Keys ``[G, d, end - start]``: a copy of those in several pages, a view of one page."""
        first = start // self._page
        across = self._keys[:, first : -(-end // self._page)].transpose(1, 2).flatten(2)
        return across[:, :, start - first * self._page : end - first * self._page]


def _are_sums_faster(queries: int, rows: int) -> bool:
    """Than products, for so many ``queries`` per head."""
    return _has_fast_sums() and 0 < queries <= _FEW and rows > 0


@cache
def _has_fast_sums() -> bool:
    """Whether torch adds up rows of any dtype by code made for it, FBGEMM, as its builds for x86
    do."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX")


Sums = tuple[Tensor, Tensor]
"""Which rows of a table are added up: their numbers, sum after sum, and where each sum begins.
They are kept, and made outside of inference mode, as later reads may be outside of it."""


def _add_rows(table: Tensor, sums: Sums, weights: Tensor) -> Tensor:
    """Sums ``[sums, n]`` of rows of ``table`` ``[rows, n]``, each with its weight."""
    numbers, starts = sums
    summed: Tensor = torch.embedding_bag(
        table, numbers, starts, mode=0, per_sample_weights=weights.reshape(-1)
    )[0]
    return summed


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _sums_over_keys(heads: int, each: int, width: int, pages: int, of_pages: int) -> Sums:
    """For the scores of ``each`` queries: all rows of the first ``pages`` of each head."""
    first = _counted(heads, 1, 1) * (of_pages * width) + _counted(1, pages, 1) * width
    numbers = (first + _counted(1, 1, width)).view(heads, 1, -1).expand(heads, each, -1)
    return numbers.reshape(-1), _counted(heads * each * pages) * width


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _sums_over_values(heads: int, each: int, length: int, of_rows: int) -> Sums:
    """For what ``each`` queries gather: the first ``length`` rows of each head."""
    numbers = _counted(heads, 1, 1) * of_rows + _counted(1, 1, length)
    return numbers.expand(heads, each, -1).reshape(-1), _counted(heads * each) * length


def _counted(*shape: int) -> Tensor:
    """0, 1, 2 …, along the one dimension that is not 1."""
    return torch.arange(max(shape), dtype=torch.int32, device="cpu").view(shape)
