"""FlashAttention on a CPU (arXiv 2205.14135) in int16, for processors without bfloat16 products.

The instructions that multiply pairs of int16 and add them to int32 (``vpdpwssd``; ``vpmaddwd`` and
``vpaddd`` before it) compute twice as many products as those of float32. Every query, key and value
row is quantized by itself, to 12 bits and more; softmax is computed in float32, and its
probabilities are quantized query by query. Sums of integers are exact, so a query's result depends
on the keys that it attends to and on nothing else: not on how a prompt was split, nor on threads.

int32 sums must not overflow. A score is a sum of d products, so queries and keys have levels up to
√(2³¹ / d). An output is a sum of probabilities times values: values have levels up to 2¹¹, their
scales are multiplied into the probabilities, and those of a query get levels that sum to 2²⁰ at
most, none above 2¹⁵.

Work is shared, and the order of every sum fixed, as in ``flash_attention``.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from smolvideo.network.kernels.elementwise import LOG2_E, exp2, fmax
from smolvideo.network.kernels.flash_attention import AttentionShape, StridedRows
from smolvideo.network.kernels.int8_rows import MIN_MAGNITUDE, max_magnitude
from smolvideo.network.kernels.int16_matmul import DotInstruction, build_dot_tile, dot_instruction
from smolvideo.network.kernels.int16_packing import (
    PackedRows,
    new_packed_rows,
    pack_keys,
    pack_values,
    query_levels,
)
from smolvideo.network.kernels.int16_softmax import MIN_SCORE, build_softmax_passes
from smolvideo.network.kernels.jit import JitFunction, jit, jit_cached, jit_callee, source_checksum
from smolvideo.network.kernels.work_sharing import (
    array_from_address,
    claim,
    mark_done,
    new_counters,
    wait_for_phase,
)

_CHUNK = 1024
"""Keys per step of the online softmax: scores and probabilities of a query take 6 KB."""

_KEYS_PER_PART, _TILES_PER_PART = 256, 16
"""Work that a thread claims at once: keys to pack, tiles of queries."""

PHASES_PER_GROUP = 2

_MAX_PROBABILITY, _MAX_PROBABILITY_SUM = 32767.0, float(1 << 20) - _CHUNK
"""A rounded sum exceeds the sum by half of the number of terms at most."""


def _build_softmax_step(how: DotInstruction) -> JitFunction:
    """Build the online softmax of one query over a chunk of keys."""
    rescale, exponentiate, quantize = build_softmax_passes(how.lanes)
    block = 2 * how.lanes

    @jit_callee
    def softmax_step(
        scores: Any,
        key_scales: int,
        value_scales: int,
        seen: int,
        columns: int,
        factor: Any,
        largest: Any,
        sums: Any,
        weights: Any,
    ) -> Any:
        """Probabilities, times ``value_scales``, of ``seen`` int32 ``scores`` (overwritten) into
        the int16 ``weights``, 0 up to ``columns``.

        Scales are addresses; ``sums`` is a buffer. Returns the maximum of the row up to here, the
        factor of the earlier sums, the sum of the probabilities, and the scale of ``weights``.
        """
        new = max(largest, rescale(scores.ctypes.data, key_scales, seen))
        exponentiate(scores.ctypes.data, value_scales, seen, factor, new * factor, sums.ctypes.data)
        total, weighted = sums[0], sums[1]
        levels = np.float32(_MAX_PROBABILITY) / fmax(sums[2], np.float32(MIN_MAGNITUDE))
        if not weighted * levels <= np.float32(_MAX_PROBABILITY_SUM):  # NaN values give NaN outputs
            levels = np.float32(_MAX_PROBABILITY_SUM) / weighted
        quantize(scores.ctypes.data, seen, levels, weights.ctypes.data)
        # masked keys have probability 0
        for t in range((seen + block - 1) // block * block, columns):
            weights[t] = np.int16(0)
        return new, exp2((largest - new) * factor), total, np.float32(1) / levels

    return softmax_step


@jit_callee
def quantize_queries(place: int, stride: int, count: int, queries: Any, factors: Any) -> None:
    """Quantize ``count`` queries from ``place`` on, ``stride`` bytes apart; ``factors`` convert
    their scores to exponents of 2, but for the scales of the keys."""
    width = queries.shape[1]
    levels = query_levels(width)
    for r in range(count):
        exact = array_from_address(place + r * stride, (width,), factors)
        most = max_magnitude(exact)
        scale = levels / most
        for i in range(width):
            queries[r, i] = np.int16(np.int32(np.floor(exact[i] * scale + np.float32(0.5))))
        factors[r] = np.float32(LOG2_E / np.sqrt(width)) * (most / levels)


@jit_callee
def store_outputs(place: int, stride: int, count: int, width: int, sums: Any, totals: Any) -> None:
    """Normalize ``sums`` by ``totals``, and write ``count`` rows from ``place`` on."""
    for r in range(count):
        written = array_from_address(place + r * stride, (width,), totals)
        share = np.float32(1) / totals[r]
        for i in range(width):
            written[i] = sums[r, i] * share


def _build_multiply_keys(how: DotInstruction) -> JitFunction:
    """Build the products of a tile of queries with keys."""
    multiply = build_dot_tile(how)
    tile = how.lanes * how.registers

    @jit_callee
    def multiply_keys(queries: Any, keys: Any, start: int, count: int, scores: Any) -> None:
        """Scores of the tile ``queries`` with ``count`` keys from ``start`` on."""
        for first in range(0, count, tile):
            multiply(
                queries.ctypes.data,
                queries.strides[0],
                keys.ctypes.data + (start + first) // tile * keys.strides[0],
                keys.strides[1],
                queries.shape[1] // 2,
                scores.ctypes.data + first * scores.itemsize,
                scores.strides[0],
            )

    return multiply_keys


def _build_multiply_values(how: DotInstruction) -> JitFunction:
    """Build the sums of values, weighted by a tile of probabilities."""
    multiply = build_dot_tile(how)
    tile = how.lanes * how.registers

    @jit_callee
    def multiply_values(weights: Any, values: Any, start: int, pairs: int, sums: Any) -> None:
        """Sums of the values from row ``start`` on, weighted by a tile of ``weights``."""
        for first in range(0, sums.shape[1], tile):
            multiply(
                weights.ctypes.data,
                weights.strides[0],
                values.ctypes.data + start // 2 * values.strides[0] + first * values.itemsize,
                values.strides[0],
                pairs,
                sums.ctypes.data + first * sums.itemsize,
                sums.strides[0],
            )

    return multiply_values


def _build_attend_tile(how: DotInstruction) -> JitFunction:
    """Build the attention of a tile of queries."""
    multiply_keys, multiply_values = _build_multiply_keys(how), _build_multiply_values(how)
    softmax_step = _build_softmax_step(how)
    at_once = how.rows

    @jit_callee
    def attend_tile(
        queries: Any,
        row: int,
        shape: AttentionShape,
        factors: Any,
        laid: PackedRows,
        buffers: Any,
        sums: Any,
        totals: Any,
    ) -> None:
        """Attention of the ``queries`` ``[rows, d]`` from ``row`` on: ``sums`` of value levels
        weighted by unnormalized probabilities, and ``totals`` of the probabilities."""
        scores, weights, partial = buffers
        softmax_sums = np.empty(3, np.float32)
        length = shape.length
        if shape.causal:  # keys after the tile's last query are masked for all of it
            length -= max(0, shape.rows - row - at_once)
        largest, shares = np.empty(at_once, np.float32), np.empty(at_once, np.float32)
        scales = np.empty(at_once, np.float32)
        for r in range(at_once):
            largest[r], totals[r] = np.float32(MIN_SCORE), np.float32(0)
            sums[r] = np.float32(0)
        for start in range(0, length, _CHUNK):
            count = min(_CHUNK, length - start)
            multiply_keys(queries, laid.keys, start, count, scores)
            pairs = (count + 1) // 2
            for r in range(at_once):
                # causal mask: number of keys that this query attends to
                seen = count
                if shape.causal:
                    position = shape.length - shape.rows + min(row + r, shape.rows - 1)
                    seen = max(0, min(count, position + 1 - start))
                largest[r], shares[r], total, scales[r] = softmax_step(
                    scores[r],
                    laid.key_scales.ctypes.data + start * laid.key_scales.itemsize,
                    laid.value_scales.ctypes.data + start * laid.value_scales.itemsize,
                    seen,
                    2 * pairs,
                    factors[r],
                    largest[r],
                    softmax_sums,
                    weights[r],
                )
                totals[r] = totals[r] * shares[r] + total
            multiply_values(weights, laid.values, start, pairs, partial)
            for r in range(at_once):
                for i in range(sums.shape[1]):
                    added = np.float32(partial[r, i]) * scales[r]
                    sums[r, i] = sums[r, i] * shares[r] + added

    return attend_tile


def _build_attend_heads(how: DotInstruction) -> JitFunction:
    """Build the attention of all queries of one KV head."""
    attend_tile = _build_attend_tile(how)
    at_once = how.rows

    @jit_callee
    def attend_heads(
        q: StridedRows,
        shape: AttentionShape,
        group: int,
        laid: PackedRows,
        into: StridedRows,
        counters: int,
        phase: int,
    ) -> int:
        """Attention of the query heads of one KV head, written to ``into``; return the next
        phase."""
        each = shape.heads // shape.kv_heads
        rows_of_a_part = at_once * _TILES_PER_PART
        parts_of_a_head = (shape.rows + rows_of_a_part - 1) // rows_of_a_part
        parts = each * parts_of_a_head
        # buffers of this thread
        width = shape.head_dim
        queries = np.zeros((at_once, width), np.int16)
        buffers = (
            np.empty((at_once, _CHUNK), np.int32),
            np.empty((at_once, _CHUNK), np.int16),
            np.empty((at_once, laid.values.shape[1]), np.int32),
        )
        sums = np.empty((at_once, laid.values.shape[1]), np.float32)
        totals, factors = np.empty(at_once, np.float32), np.ones(at_once, np.float32)
        while True:
            part = claim(counters, phase, parts)
            if part < 0:
                return wait_for_phase(counters, phase, parts)
            head = group * each + part % each
            # Last rows first: causal ones take longest.
            first = (parts_of_a_head - 1 - part // each) * rows_of_a_part
            for row in range(first, min(first + rows_of_a_part, shape.rows), at_once):
                count = min(at_once, shape.rows - row)
                place = q.address + head * q.head + row * q.row
                quantize_queries(place, q.row, count, queries, factors)
                attend_tile(queries, row, shape, factors, laid, buffers, sums, totals)
                place = into.address + head * into.head + row * into.row
                store_outputs(place, into.row, count, width, sums, totals)
            mark_done(counters, phase)

    return attend_heads


_INSTRUCTION = dot_instruction()
# A global: the disk cache of numba would never find a kernel with a compiled function as closure.
_attend_heads: Any = None if _INSTRUCTION is None else _build_attend_heads(_INSTRUCTION)


@lru_cache
def build_int16_attention(*, kept: bool = True) -> JitFunction:
    """Build the kernel for this CPU, which must have a ``dot_instruction``; for the checksum see
    ``build_decode``."""
    checksum = source_checksum()

    def attend_rows(
        q: StridedRows,
        k: StridedRows,
        v: StridedRows,
        shape: AttentionShape,
        laid: PackedRows,
        into: StridedRows,
        counting: Any,
    ) -> int:
        """Attention of queries ``[H, L, d]`` over keys and values ``[G, T, d]``, float32, into
        ``[H, L, d]``; all threads run this. ``counting`` has two phases per KV head; ``laid`` must
        be zero where it is padded."""
        counters = counting.ctypes.data
        phase = np.int64(0)
        parts = (shape.length + _KEYS_PER_PART - 1) // _KEYS_PER_PART
        for group in range(shape.kv_heads):
            while True:  # pack the keys and values
                part = claim(counters, phase, parts)
                if part < 0:
                    break
                first = part * _KEYS_PER_PART
                last = min(first + _KEYS_PER_PART, shape.length)
                pack_keys(k, group, first, last, laid)
                pack_values(v, group, first, last, shape.head_dim, laid)
                mark_done(counters, phase)
            phase = wait_for_phase(counters, phase, parts)
            phase = _attend_heads(q, shape, group, laid, into, counters, phase)
        return checksum

    attend_rows.__qualname__ = "int16_attention"
    return jit_cached(attend_rows) if kept else jit(attend_rows)


def attention_for_cpu(*, kept: bool) -> tuple[JitFunction, tuple[Any, ...]]:
    """Build the kernel, see ``KernelBuild``; the arguments have no heads."""
    rows, shape = StridedRows(0, 0, 0, 4), AttentionShape(0, 0, 0, 0, 2, False)
    laid, counting = new_packed_rows(shape), new_counters(0)
    return build_int16_attention(kept=kept), (rows, rows, rows, shape, laid, rows, counting)
