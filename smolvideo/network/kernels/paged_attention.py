"""Paged attention of one new token per sequence (for the layout see ``PagedKV``).

The sequences share a prefix; each has a suffix of its own, which ends with its new token. One page
of one KV head is a chunk of work: it gives a partial attention output, with the largest score and
the sum of the probabilities, by which the pages are merged afterwards (online softmax, arXiv
1805.02867). The query heads of a KV head are the queries of a page; on a page of the prefix, those
of all sequences are.
"""

from typing import Any, NamedTuple

import numpy as np

from smolvideo.network.kernels.elementwise import (
    apply_rope,
    exp,
    fmax,
    max_of,
    to_float32,
    to_storage_dtype,
)
from smolvideo.network.kernels.jit import jit_callee
from smolvideo.network.kernels.work_sharing import (
    address_of,
    array_from_address,
    claim,
    mark_done,
    prefetch,
    wait_for_phase,
)


class PageTable(NamedTuple):
    """Pages of some sequences: ``addresses`` of keys and values ``[sequences, layers, 2]``,
    ``lengths`` in tokens and ``page_counts``, both ``[sequences]``. A page holds ``page_size``
    tokens."""

    addresses: Any
    lengths: Any
    page_counts: Any
    page_size: int


class KVPages(NamedTuple):
    """KV cache in the dtype of the empty array ``like``: the shared prefix (of one sequence or
    none), and the suffix of each sequence."""

    like: Any
    shared_prefix: PageTable
    suffixes: PageTable


class PartialAttention(NamedTuple):
    """Partial attention outputs by KV head G and page: ``sums`` of values ``[G, pages, B · S, d]``,
    sums of probabilities ``weights`` and largest scores ``max_scores``, both ``[G, pages, B · S]``.
    S is the number of query heads per KV head."""

    sums: Any
    weights: Any
    max_scores: Any


class Chunk(NamedTuple):
    """One page of one KV head: ``page`` of ``sequence`` in ``pages``, for the sequences from
    ``first`` to before ``last``. It has ``rows`` tokens, none if the suffix ends before it; its
    partial output has the number ``slot``."""

    pages: PageTable
    sequence: int
    page: int
    slot: int
    first: int
    last: int
    rows: int


@jit_callee
def paged_attention(
    projected: Any,
    heads: int,
    rotation: Any,
    seen: KVPages,
    layer: int,
    gathered: PartialAttention,
    counters: int,
    phase: int,
) -> int:
    """Attend with the query heads of ``projected`` ``[B, H + 2 G, d]`` to prefix and suffixes.

    Appends the new keys and values to the suffixes, and writes partial outputs to ``gathered``;
    returns the next phase. ``rotation`` ``[2, B, d]`` is RoPE cos and sin at the new tokens'
    positions.
    """
    count, _, width = projected.shape
    groups, slots, queries_of_all = gathered.max_scores.shape
    each = heads // groups
    common = count_prefix_pages(seen.shared_prefix)
    parts = groups * (common + (slots - common) * count)
    # buffers of this thread
    queries = np.empty((queries_of_all, width), np.float32)
    key = np.empty(width, np.float32)
    page_size = max(seen.shared_prefix.page_size, seen.suffixes.page_size)
    scores = np.empty((queries_of_all, page_size), np.float32)
    while True:
        part = claim(counters, phase, parts)
        if part < 0:
            return wait_for_phase(counters, phase, parts)
        group, chunk = part % groups, locate_chunk(part // groups, common, count, seen)
        first, page, rows = chunk.first, chunk.page, chunk.rows
        own = slice(first * each, chunk.last * each)
        if rows <= 0:
            gathered.max_scores[group, chunk.slot, own] = -np.inf
        else:
            keys, values = view_pages(chunk, layer, groups, width, seen.like)
            # the last page of a suffix takes the new key and value
            if chunk.slot >= common and rows <= chunk.pages.page_size:
                new, place = projected[first], (keys[group, page], values[group, page])
                append_kv(new, rotation[:, first], heads + group, groups, place, rows - 1, key)
            rotate_queries(projected, rotation, chunk, group * each, each, queries)
            # attend, and prefetch the values of this page and the keys of the next
            keys_size = keys[group, page].size * keys.itemsize
            attend_page(
                queries[: (chunk.last - first) * each],
                keys[group, page],
                values[group, page],
                min(rows, chunk.pages.page_size),
                scores,
                gathered.sums[group, chunk.slot, own],
                gathered.weights[group, chunk.slot, own],
                gathered.max_scores[group, chunk.slot, own],
                address_of(keys[group, page]) + keys_size,
                address_of(values[group, page]),
            )
        mark_done(counters, phase)


@jit_callee
def count_prefix_pages(prefix: PageTable) -> int:
    """Number of pages of the shared prefix, of which there is one or none."""
    pages = 0
    for length in prefix.lengths:
        pages += (length + prefix.page_size - 1) // prefix.page_size
    return pages


@jit_callee
def locate_chunk(slot: int, common: int, count: int, seen: KVPages) -> Chunk:
    """Return chunk ``slot`` of a KV head: the ``common`` pages of the prefix are first, then those
    of the suffixes of ``count`` sequences, page by page."""
    if slot < common:
        pages = seen.shared_prefix
        return Chunk(pages, 0, slot, slot, 0, count, pages.lengths[0] - slot * pages.page_size)
    pages = seen.suffixes
    page, sequence = (slot - common) // count, (slot - common) % count
    rows = pages.lengths[sequence] + 1 - page * pages.page_size  # with the new token
    return Chunk(pages, sequence, page, common + page, sequence, sequence + 1, rows)


@jit_callee
def view_pages(chunk: Chunk, layer: int, groups: int, width: int, like: Any) -> Any:
    """View a sequence's keys ``[G, pages, d, tokens]`` and values ``[G, pages, tokens, d]`` of a
    layer in the dtype of ``like``."""
    addresses, size = chunk.pages.addresses[chunk.sequence, layer], chunk.pages.page_size
    pages = chunk.pages.page_counts[chunk.sequence]
    keys = array_from_address(addresses[0], (groups, pages, width, size), like)
    return keys, array_from_address(addresses[1], (groups, pages, size, width), like)


@jit_callee
def rotate_queries(
    projected: Any, rotation: Any, chunk: Chunk, head: int, each: int, into: Any
) -> None:
    """Apply RoPE, and the 1 / √d of attention, to the ``each`` query heads from ``head`` on of the
    sequences of a chunk, into ``into`` ``[B · S, d]``."""
    scale = np.float32(1 / np.sqrt(projected.shape[2]))
    for b in range(chunk.first, chunk.last):
        for s in range(each):
            row = into[(b - chunk.first) * each + s]
            apply_rope(projected[b, head + s], rotation[0, b], rotation[1, b], scale, row)


@jit_callee
def append_kv(
    projected: Any, rotation: Any, head: int, groups: int, page: Any, row: int, key: Any
) -> None:
    """Append key (with RoPE) and value of a new token as ``row`` of a ``page`` of both; ``key``
    ``[d]`` is scratch memory."""
    keys, values = page
    apply_rope(projected[head], rotation[0], rotation[1], np.float32(1), key)
    for i in range(projected.shape[1]):
        keys[i, row] = to_storage_dtype(key[i], keys)
        values[row, i] = to_storage_dtype(projected[head + groups, i], values)


@jit_callee
def attend_page(
    queries: Any,
    keys: Any,
    values: Any,
    rows: int,
    scores: Any,
    sums: Any,
    weights: Any,
    largest: Any,
    next_keys: int,
    at_values: int,
) -> None:
    """Partial attention of ``queries`` ``[R, d]`` over the first ``rows`` tokens of one page.

    Prefetches the values (from ``at_values``) while it reads keys, and the next keys (from
    ``next_keys``) while it reads values.
    """
    count = queries.shape[0]
    # scores, three queries at a time
    fetched = False
    r = 0
    while r + 3 <= count:
        qk_dot_3(queries[r : r + 3], keys, rows, scores[r : r + 3], 0 if fetched else at_values)
        fetched = True
        r += 3
    while r < count:
        qk_dot_1(queries[r], keys, rows, scores[r], 0 if fetched else at_values)
        fetched = True
        r += 1
    # softmax within the page
    for r in range(count):
        largest[r], weights[r] = softmax_partial(scores[r], rows)
    # weighted sums of values, three queries at a time
    fetched = False
    r = 0
    while r + 3 <= count:
        weighted_sum_3(
            values, rows, scores[r : r + 3], sums[r : r + 3], 0 if fetched else next_keys
        )
        fetched = True
        r += 3
    while r < count:
        weighted_sum_1(values, rows, scores[r], sums[r], 0 if fetched else next_keys)
        fetched = True
        r += 1


@jit_callee
def qk_dot_3(queries: Any, keys: Any, rows: int, scores: Any, ahead: int) -> None:
    """Scores ``[3, rows]`` of three queries: each key is converted to float32 once for them."""
    one, two, three = scores[0], scores[1], scores[2]
    of_two = 2 * keys.shape[1] * keys.itemsize
    for t in range(rows):
        one[t] = np.float32(0)
        two[t] = np.float32(0)
        three[t] = np.float32(0)
    for i in range(0, keys.shape[0], 2):
        if ahead:
            prefetch(ahead + i // 2 * of_two, of_two)
        a, b = queries[0, i], queries[0, i + 1]
        c, d = queries[1, i], queries[1, i + 1]
        e, f = queries[2, i], queries[2, i + 1]
        for t in range(rows):
            upper, lower = to_float32(keys[i, t]), to_float32(keys[i + 1, t])
            one[t] += a * upper + b * lower
            two[t] += c * upper + d * lower
            three[t] += e * upper + f * lower


@jit_callee
def qk_dot_1(query: Any, keys: Any, rows: int, scores: Any, ahead: int) -> None:
    """Scores ``[rows]`` of one query."""
    of_two = 2 * keys.shape[1] * keys.itemsize
    for t in range(rows):
        scores[t] = np.float32(0)
    for i in range(0, keys.shape[0], 2):
        if ahead:
            prefetch(ahead + i // 2 * of_two, of_two)
        a, b = query[i], query[i + 1]
        for t in range(rows):
            scores[t] += a * to_float32(keys[i, t]) + b * to_float32(keys[i + 1, t])


@jit_callee
def softmax_partial(scores: Any, rows: int) -> Any:
    """Replace scores by exp(score − maximum); return the maximum, and the sum of the results."""
    largest, total = max_of(scores, rows), np.float32(0)
    for t in range(rows):
        scores[t] = exp(scores[t] - largest)
        total += scores[t]
    return largest, total


@jit_callee
def weighted_sum_3(values: Any, rows: int, weights: Any, sums: Any, ahead: int) -> None:
    """Sum the values weighted by three rows of probabilities, into ``sums`` ``[3, d]``."""
    width = values.shape[1]
    one, two, three = sums[0], sums[1], sums[2]
    for i in range(width):
        one[i] = np.float32(0)
        two[i] = np.float32(0)
        three[i] = np.float32(0)
    of_four = 4 * width * values.itemsize
    t = 0
    while t + 4 <= rows:
        if ahead:
            prefetch(ahead + t // 4 * of_four, of_four)
        a, b, c, d = weights[0, t], weights[0, t + 1], weights[0, t + 2], weights[0, t + 3]
        e, f, g, h = weights[1, t], weights[1, t + 1], weights[1, t + 2], weights[1, t + 3]
        j, k, m, n = weights[2, t], weights[2, t + 1], weights[2, t + 2], weights[2, t + 3]
        for i in range(width):
            first, second = to_float32(values[t, i]), to_float32(values[t + 1, i])
            third, fourth = to_float32(values[t + 2, i]), to_float32(values[t + 3, i])
            one[i] += a * first + b * second + c * third + d * fourth
            two[i] += e * first + f * second + g * third + h * fourth
            three[i] += j * first + k * second + m * third + n * fourth
        t += 4
    while t < rows:
        for i in range(width):
            value = to_float32(values[t, i])
            one[i] += weights[0, t] * value
            two[i] += weights[1, t] * value
            three[i] += weights[2, t] * value
        t += 1


@jit_callee
def weighted_sum_1(values: Any, rows: int, weights: Any, sums: Any, ahead: int) -> None:
    """Sum the values weighted by one row of probabilities, into ``sums`` ``[d]``."""
    width = values.shape[1]
    for i in range(width):
        sums[i] = np.float32(0)
    of_four = 4 * width * values.itemsize
    t = 0
    while t + 4 <= rows:
        if ahead:
            prefetch(ahead + t // 4 * of_four, of_four)
        a, b, c, d = weights[t], weights[t + 1], weights[t + 2], weights[t + 3]
        for i in range(width):
            sums[i] += (
                a * to_float32(values[t, i])
                + b * to_float32(values[t + 1, i])
                + c * to_float32(values[t + 2, i])
                + d * to_float32(values[t + 3, i])
            )
        t += 4
    while t < rows:
        for i in range(width):
            sums[i] += weights[t] * to_float32(values[t, i])
        t += 1


@jit_callee
def merge_partials(gathered: PartialAttention, sequences: int, into: Any) -> None:
    """Merge the partial outputs of all pages (online softmax), into ``into`` ``[B, H · d]``."""
    groups, pages, queries = gathered.max_scores.shape
    each, width = queries // sequences, gathered.sums.shape[3]
    for group in range(groups):
        for query in range(queries):
            b, s = query // each, query % each
            start = (group * each + s) * width
            head = into[b, start : start + width]
            # largest score of all pages
            largest = gathered.max_scores[group, 0, query]
            for page in range(1, pages):
                largest = fmax(largest, gathered.max_scores[group, page, query])
            head[:] = np.float32(0)
            total = np.float32(0)
            # rescale the pages to it and add them
            for page in range(pages):
                if gathered.max_scores[group, page, query] != -np.inf:
                    share = exp(gathered.max_scores[group, page, query] - largest)
                    total += share * gathered.weights[group, page, query]
                    sums = gathered.sums[group, page, query]
                    for i in range(width):
                        head[i] += share * sums[i]
            for i in range(width):
                head[i] /= total
