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
from smolvideo.network.kernels.jit import jit
from smolvideo.network.kernels.work_sharing import (
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


@jit
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
    # chunks of work: pages of the prefix, and of each suffix
    common = 0
    for length in seen.shared_prefix.lengths:
        common += (length + seen.shared_prefix.page_size - 1) // seen.shared_prefix.page_size
    parts = groups * (common + (slots - common) * count)
    # buffers of this thread
    queries = np.empty((queries_of_all, width), np.float32)
    key = np.empty(width, np.float32)
    scores = np.empty(
        (queries_of_all, max(seen.shared_prefix.page_size, seen.suffixes.page_size)), np.float32
    )
    while True:
        part = claim(counters, phase, parts)
        if part < 0:
            return wait_for_phase(counters, phase, parts)
        group, slot = part % groups, part // groups
        if slot < common:
            # a page of the prefix, for all sequences
            pages, sequence, page = seen.shared_prefix, 0, slot
            first, last = 0, count
            rows = pages.lengths[0] - page * pages.page_size
        else:
            # a page of one suffix, which counts the new token
            pages, sequence = seen.suffixes, (slot - common) % count
            page = (slot - common) // count
            slot = common + page
            first, last = sequence, sequence + 1
            rows = pages.lengths[sequence] + 1 - page * pages.page_size
        own = slice(first * each, last * each)
        if rows <= 0:
            # the suffix ends before this page
            gathered.max_scores[group, slot, own] = -np.inf
        else:
            addresses, size = pages.addresses[sequence, layer], pages.page_size
            shape = groups, pages.page_counts[sequence], width, size
            keys = array_from_address(addresses[0], shape, seen.like)
            shape = groups, pages.page_counts[sequence], size, width
            values = array_from_address(addresses[1], shape, seen.like)
            # the last page of a suffix takes the new key and value
            if slot >= common and rows <= size:
                append_kv(
                    projected[first],
                    rotation[0, first],
                    rotation[1, first],
                    heads + group,
                    groups,
                    keys[group, page],
                    values[group, page],
                    rows - 1,
                    seen.like,
                    key,
                )
            # RoPE on the queries, and the 1 / √d of attention
            for b in range(first, last):
                for s in range(each):
                    apply_rope(
                        projected[b, group * each + s],
                        rotation[0, b],
                        rotation[1, b],
                        np.float32(1 / np.sqrt(width)),
                        queries[(b - first) * each + s],
                    )
            # attend, and prefetch the values of this page and the keys of the next
            behind = (group * pages.page_counts[sequence] + page) * size * width * values.itemsize
            attend_page(
                queries[: (last - first) * each],
                keys[group, page],
                values[group, page],
                min(rows, size),
                scores,
                gathered.sums[group, slot, own],
                gathered.weights[group, slot, own],
                gathered.max_scores[group, slot, own],
                addresses[0] + behind + size * width * values.itemsize,
                addresses[1] + behind,
            )
        mark_done(counters, phase)


@jit
def append_kv(
    projected: Any,
    cosines: Any,
    sines: Any,
    head: int,
    groups: int,
    keys: Any,
    values: Any,
    row: int,
    like: Any,
    key: Any,
) -> None:
    """Append key (with RoPE) and value of a new token as ``row`` of a page; ``key`` ``[d]`` is
    scratch memory."""
    width = projected.shape[1]
    apply_rope(projected[head], cosines, sines, np.float32(1), key)
    for i in range(width):
        keys[i, row] = to_storage_dtype(key[i], like)
        values[row, i] = to_storage_dtype(projected[head + groups, i], like)


@jit
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


@jit
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


@jit
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


@jit
def softmax_partial(scores: Any, rows: int) -> Any:
    """Replace scores by exp(score − maximum); return the maximum, and the sum of the results."""
    largest, total = max_of(scores, rows), np.float32(0)
    for t in range(rows):
        scores[t] = exp(scores[t] - largest)
        total += scores[t]
    return largest, total


@jit
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


@jit
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


@jit
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
