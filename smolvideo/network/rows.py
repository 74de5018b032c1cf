"""Keys and values of one layer, laid out as the device reads them fastest.

A GPU has them in their order. On a CPU a single token's attention is a few rows times much memory,
which matrix products are slow at: they copy a part of a block before they multiply. But what
queries gather is a weighted sum of values, and scores are weighted sums, too, of what keys have in
one dimension. torch adds up weighted rows of a table in place (``embedding_bag``, made for
recommenders) and takes two thirds (256M) to a third (2.2B) of the time, behind 3,660 tokens. For
that a key's numbers stand below each other, in pages of some keys.
"""

from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from smolvideo.network.attention import attend

_PAGE = 256
"""Keys of a page: from 128 to 512 the time of a token hardly changes, with 64 and 1,024 it grows by
a third."""

_FEW = 6
"""Queries per head, up to which sums of rows are faster than products; of 256M to 2.2B."""


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
        """Keys and values of these rows, each ``[G, end - start, d]``."""
        ...

    def grown(self, capacity: int, length: int) -> "LayerRows":
        """Memory of its own for ``capacity`` rows, with the first ``length`` of these."""
        ...


def empty_rows(
    heads: int, width: int, capacity: int, *, device: torch.device, dtype: torch.dtype
) -> LayerRows:
    """Memory for ``capacity`` rows of ``heads`` keys and values of ``width`` numbers.

    Left uninitialised: pages of memory that are never written are never taken.
    """
    if device.type != "cpu":
        return OrderedRows(*torch.empty((2, heads, capacity, width), device=device, dtype=dtype))
    pages = -(-capacity // _PAGE)
    return PagedRows(
        torch.empty((heads, pages, width, _PAGE), dtype=dtype),
        torch.empty((heads, pages * _PAGE, width), dtype=dtype),
    )


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

    def grown(self, capacity: int, length: int) -> "OrderedRows":
        heads, _, width = self._keys.shape
        other = OrderedRows(*self._keys.new_empty((2, heads, capacity, width)))
        other.put(0, *(rows[None] for rows in self.between(0, length)))
        return other


class PagedRows:
    """Keys in pages ``[G, pages, d, 256]``, values in their order ``[G, pages · 256, d]``."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._keys, self._values = keys, values

    def put(self, start: int, keys: Tensor, values: Tensor) -> None:
        end = start + keys.shape[2]
        self._values[:, start:end] = values[0]
        for page in range(start // _PAGE, -(-end // _PAGE)):
            first, behind = max(start, page * _PAGE), min(end, (page + 1) * _PAGE)
            places = slice(first - page * _PAGE, behind - page * _PAGE)
            self._keys[:, page, :, places] = keys[0, :, first - start : behind - start].mT

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
        pages = -(-length // _PAGE)
        if not _are_sums_faster(each, length):
            return torch.bmm(queries, self._keys_across(0, pages))[:, :, :length]
        table = self._keys.view(-1, _PAGE)
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
        first = start // _PAGE
        keys = self._keys_across(first, -(-end // _PAGE))
        in_pages = slice(start - first * _PAGE, end - first * _PAGE)
        return keys[:, :, in_pages].mT, self._values[:, start:end]

    def grown(self, capacity: int, length: int) -> "PagedRows":
        heads, _, width, _ = self._keys.shape
        pages, kept = -(-capacity // _PAGE), -(-length // _PAGE)
        keys = self._keys.new_empty((heads, pages, width, _PAGE))
        values = self._values.new_empty((heads, pages * _PAGE, width))
        keys[:, :kept] = self._keys[:, :kept]
        values[:, :length] = self._values[:, :length]
        return PagedRows(keys, values)

    def _keys_across(self, first: int, behind: int) -> Tensor:
        """A copy ``[G, d, pages · 256]`` of the pages between, one after the other."""
        return self._keys[:, first:behind].transpose(1, 2).flatten(2)


def _are_sums_faster(queries: int, rows: int) -> bool:
    """Than products, for so many ``queries`` per head. What adds up rows, FBGEMM, is of x86."""
    return (
        0 < queries <= _FEW
        and rows > 0
        and torch.backends.cpu.get_cpu_capability().startswith("AVX")
    )


Sums = tuple[Tensor, Tensor]
"""Which rows of a table are added up: their numbers, sum after sum, and where each sum begins."""


def _add_rows(table: Tensor, sums: Sums, weights: Tensor) -> Tensor:
    """Sums ``[sums, n]`` of rows of ``table`` ``[rows, n]``, each with its weight."""
    numbers, starts = sums
    summed: Tensor = torch.embedding_bag(
        table, numbers, starts, mode=0, per_sample_weights=weights.reshape(-1)
    )[0]
    return summed


@lru_cache(maxsize=8)
def _sums_over_keys(heads: int, each: int, width: int, pages: int, capacity: int) -> Sums:
    """For the scores of ``each`` queries: all rows of each page of ``capacity`` pages a head."""
    first = _counted(heads, 1, 1) * (capacity * width) + _counted(1, pages, 1) * width
    numbers = (first + _counted(1, 1, width)).view(heads, 1, -1).expand(heads, each, -1)
    return numbers.reshape(-1), _counted(heads * each * pages) * width


@lru_cache(maxsize=8)
def _sums_over_values(heads: int, each: int, length: int, capacity: int) -> Sums:
    """For what ``each`` queries gather: the first rows of ``capacity`` a head."""
    numbers = _counted(heads, 1, 1) * capacity + _counted(1, 1, length)
    return numbers.expand(heads, each, -1).reshape(-1), _counted(heads * each) * length


def _counted(*shape: int) -> Tensor:
    """0, 1, 2 …, along the one dimension that is not 1."""
    return torch.arange(max(shape), dtype=torch.int32).view(shape)
