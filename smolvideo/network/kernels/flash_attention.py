"""FlashAttention on a CPU (arXiv 2205.14135) in bfloat16: patches of a frame, tokens of a prompt.

The keys and values of one KV head are packed for the GEMM tiles once, and stay in the innermost
cache that holds them. Tiles of a few queries then meet 1,024 keys at a time, whose scores and
probabilities stay in the L1 cache. The partial outputs are joined by online softmax.

Threads share the rows of a head, and the query heads of a KV head. The order of every sum is fixed,
whichever thread computes it.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from smolvideo.network.kernels.avx512 import LANES, build_gemm_tile, to_bfloat16
from smolvideo.network.kernels.elementwise import LOG2_E, exp2, exp2_and_sum, fmax, max_of
from smolvideo.network.kernels.jit import JitFunction, jit, jit_cached, jit_callee, source_checksum
from smolvideo.network.kernels.work_sharing import (
    address_of,
    array_from_address,
    claim,
    mark_done,
    new_counters,
    wait_for_phase,
)

BLOCK = 64
"""Keys that are packed together: four registers of scores."""

_CHUNK = 1024
"""Keys per step of the online softmax: their scores and probabilities are 6 KB a query."""

_KEYS_PER_CHUNK, _TILES_OF_A_PART = 256, 16
"""Work that a thread claims at once: keys to pack, tiles of queries."""

PHASES_PER_GROUP = 2


class StridedRows(NamedTuple):
    """Strided bfloat16 matrix ``[heads, rows, d]``: ``address`` of the first element, and the
    strides of ``head``, ``row`` and element (``element_stride``) in bytes. Only keys may have
    elements that are not contiguous."""

    address: int
    head: int
    row: int
    element_stride: int


class AttentionShape(NamedTuple):
    """``heads`` query heads, ``kv_heads`` KV heads; ``rows`` queries, ``length`` keys; ``head_dim``
    elements each. ``causal``: the queries are at the last positions, and no query attends to a
    later one."""

    heads: int
    kv_heads: int
    rows: int
    length: int
    head_dim: int
    causal: bool


class PackedKV(NamedTuple):
    """Packed keys ``[blocks, d / 2, 64]`` and values ``[T / 2, 16 · registers]`` of one KV head, as
    pairs of bfloat16 (uint32): consecutive elements of a key, and values of consecutive rows."""

    keys: Any
    values: Any


@jit_callee
def pack_kv(
    k: StridedRows,
    v: StridedRows,
    shape: AttentionShape,
    group: int,
    laid: PackedKV,
    counters: int,
    phase: int,
) -> int:
    """Pack the keys and values of KV head ``group`` into ``laid``; return the next phase."""
    parts = (shape.length + _KEYS_PER_CHUNK - 1) // _KEYS_PER_CHUNK
    while True:
        part = claim(counters, phase, parts)
        if part < 0:
            return wait_for_phase(counters, phase, parts)
        first = part * _KEYS_PER_CHUNK
        last = min(first + _KEYS_PER_CHUNK, shape.length)
        for start in range(first, last, BLOCK):
            pack_keys(k, group, start, min(BLOCK, last - start), laid.keys[start // BLOCK])
        for row in range(first, last, 2):
            pack_values(
                v, group, row, min(row + 1, last - 1), shape.head_dim, laid.values[row // 2]
            )
        mark_done(counters, phase)


@jit_callee
def pack_keys(k: StridedRows, group: int, start: int, count: int, into: Any) -> None:
    """Pack ``count`` keys from ``start`` on as a block, ``into`` ``[d / 2, 64]``, padded with 0."""
    numbers = np.empty(0, np.uint16)
    first = k.address + group * k.head + start * k.row
    for i in range(into.shape[0]):
        place = first + 2 * i * k.element_stride
        if k.row == numbers.itemsize:  # ``PagedKV``: keys are contiguous
            upper = array_from_address(place, (count,), numbers)
            lower = array_from_address(place + k.element_stride, (count,), numbers)
            for t in range(count):
                into[i, t] = interleave_bf16(upper[t], lower[t])
        else:
            for t in range(count):
                upper = array_from_address(place + t * k.row, (1,), numbers)
                lower = array_from_address(place + t * k.row + k.element_stride, (1,), numbers)
                into[i, t] = interleave_bf16(upper[0], lower[0])
        for t in range(count, BLOCK):
            into[i, t] = np.uint32(0)


@jit_callee
def pack_values(v: StridedRows, group: int, row: int, other: int, width: int, into: Any) -> None:
    """Pack the values of two rows as pairs, ``into`` ``[16 · registers]``.

    An odd last row is paired with itself, and the second one meets probability 0. Columns beyond
    ``head_dim`` are 0, and their results are not used.
    """
    numbers = np.empty(0, np.uint16)
    first = array_from_address(v.address + group * v.head + row * v.row, (width,), numbers)
    second = array_from_address(v.address + group * v.head + other * v.row, (width,), numbers)
    for i in range(width):
        into[i] = interleave_bf16(first[i], second[i])
    for i in range(width, into.shape[0]):
        into[i] = np.uint32(0)


@jit_callee
def interleave_bf16(first: Any, second: Any) -> Any:
    """Pack two bfloat16 into a uint32, as they are in memory one after the other."""
    return np.uint32(first) | (np.uint32(second) << np.uint32(16))


@jit_callee
def softmax_step(
    r: int,
    scores: Any,
    seen: int,
    columns: int,
    factor: Any,
    weights: Any,
    largest: Any,
    totals: Any,
    sums: Any,
) -> None:
    """Online softmax of query ``r``: unnormalized probabilities of ``seen`` scores into
    ``weights``, 0 up to ``columns``, and its ``largest``, ``totals`` and ``sums`` up to here."""
    new = largest[r]
    if seen:
        new = fmax(max_of(scores[r], seen), new)
    if new == -np.inf:  # all scores so far are -inf
        seen = 0
    if seen:
        total = exp2_and_sum(scores[r], seen, factor, new, weights[r])
        # a larger maximum scales down the earlier sums
        share = exp2((largest[r] - new) * factor)
        largest[r], totals[r] = new, totals[r] * share + total
        for i in range(sums.shape[1]):
            sums[r, i] *= share
    # masked and padding keys have probability 0
    for t in range(seen, columns):
        weights[r, t] = np.uint16(0)


def _build_gather_tile(at_once: int, registers: int) -> JitFunction:
    """Build the attention of ``at_once`` queries, for values of ``registers`` registers."""
    multiply_keys = build_gemm_tile(at_once, BLOCK // LANES, adds=False)
    add_values = build_gemm_tile(at_once, registers, adds=True)

    @jit_callee
    def gather_tile(
        queries: int,
        stride: int,
        row: int,
        shape: AttentionShape,
        laid: PackedKV,
        scores: Any,
        weights: Any,
        largest: Any,
        totals: Any,
        sums: Any,
    ) -> None:
        """Attention of the queries from ``row`` on, ``stride`` bytes apart: ``sums`` of values
        weighted by unnormalized probabilities, and ``totals`` of the probabilities."""
        factor = np.float32(LOG2_E / np.sqrt(shape.head_dim))
        length = shape.length
        # keys after the tile's last query are masked for all of it
        if shape.causal:
            length -= shape.rows - row - at_once
        # start of the online softmax
        for r in range(at_once):
            largest[r], totals[r] = np.float32(-np.inf), np.float32(0)
            sums[r] = np.float32(0)
        for start in range(0, length, _CHUNK):
            count = min(_CHUNK, length - start)
            # scores of this chunk: queries · keysᵀ
            for first in range(0, count, BLOCK):
                multiply_keys(
                    queries,
                    stride,
                    address_of(laid.keys) + (start + first) // BLOCK * laid.keys.strides[0],
                    shape.head_dim // 2,
                    address_of(scores) + first * scores.itemsize,
                    scores.strides[0],
                )
            # softmax of this chunk, row by row
            pairs = (count + 1) // 2
            for r in range(at_once):
                # causal mask: number of keys that this query attends to
                attended = length - start - (at_once - 1 - r) if shape.causal else count
                seen = max(0, min(count, attended))
                softmax_step(r, scores, seen, 2 * pairs, factor, weights, largest, totals, sums)
            # sums += probabilities · values
            add_values(
                address_of(weights),
                weights.strides[0],
                address_of(laid.values) + start // 2 * laid.values.strides[0],
                pairs,
                address_of(sums),
                sums.strides[0],
            )

    return gather_tile


def _build_gather(at_once: int, registers: int) -> JitFunction:
    """Build the attention of all queries of one KV head, in tiles of ``at_once``, for values of
    ``registers`` registers."""
    gather_tile = _build_gather_tile(at_once, registers)

    @jit_callee
    def gather(
        q: StridedRows,
        shape: AttentionShape,
        group: int,
        laid: PackedKV,
        into: StridedRows,
        counters: int,
        phase: int,
    ) -> int:
        """Attention of the query heads of one KV head, written to ``into``; return the next
        phase."""
        each = shape.heads // shape.kv_heads
        rows_of_a_part = at_once * _TILES_OF_A_PART
        parts_of_a_head = (shape.rows + rows_of_a_part - 1) // rows_of_a_part
        parts = each * parts_of_a_head
        # buffers of this thread
        scores = np.empty((at_once, _CHUNK), np.float32)
        weights = np.empty((at_once, _CHUNK), np.uint16)
        largest, totals = np.empty(at_once, np.float32), np.empty(at_once, np.float32)
        sums = np.empty((at_once, registers * LANES), np.float32)
        while True:
            part = claim(counters, phase, parts)
            if part < 0:
                return wait_for_phase(counters, phase, parts)
            head = group * each + part % each
            # Last rows first: causal ones take longest, and a long chunk at the end keeps the
            # others waiting.
            first = (parts_of_a_head - 1 - part // each) * rows_of_a_part
            for start in range(first, min(first + rows_of_a_part, shape.rows), at_once):
                # The last tile may overlap the one before it and recompute some rows, with equal
                # results (if all values are finite: masked keys have probability 0, and 0 · inf is
                # NaN).
                row = min(start, shape.rows - at_once)
                queries = q.address + head * q.head + row * q.row
                gather_tile(
                    queries, q.row, row, shape, laid, scores, weights, largest, totals, sums
                )
                # normalize and write the rows of the tile
                for r in range(at_once):
                    place = into.address + head * into.head + (row + r) * into.row
                    numbers = array_from_address(place, (shape.head_dim,), weights)
                    store_output(sums[r], np.float32(1) / totals[r], numbers)
            mark_done(counters, phase)

    return gather


@jit_callee
def store_output(sums: Any, share: Any, into: Any) -> None:
    """Write ``sums`` times ``share`` as bfloat16 to ``into``, which drops the padding columns."""
    for i in range(into.shape[0]):
        into[i] = to_bfloat16(sums[i] * share)


TILE_ROWS = {4: 6, 5: 5}
"""Registers of a row of values → queries of a tile, so that the sums and their operands fill the 32
registers of AVX-512. The published networks have heads of 64 and 72 elements only."""

_gather_4, _gather_5 = (_build_gather(rows, registers) for registers, rows in TILE_ROWS.items())


def registers_per_row(width: int) -> int:
    """Registers that a row of ``width`` values takes."""
    return -(-width // LANES)


def attention_for_registers(registers: int, *, kept: bool) -> tuple[JitFunction, tuple[Any, ...]]:
    """Build the kernel for values of ``registers`` registers, see ``KernelBuild``; the arguments
    have no heads."""
    rows, packed = StridedRows(0, 0, 0, 0), np.empty((0, 0), np.uint32)
    arguments = (
        rows,
        rows,
        rows,
        AttentionShape(0, 0, 0, 0, 0, causal=False),
        PackedKV(np.empty((0, 0, BLOCK), np.uint32), packed),
        rows,
        new_counters(1),
    )
    return build_flash_attention(registers, kept=kept), arguments


@lru_cache
def build_flash_attention(registers: int, *, kept: bool = True) -> JitFunction:
    """Build the kernel for values of ``registers`` registers; for the checksum see
    ``build_decode``."""
    checksum = source_checksum()

    def read_rows(
        q: StridedRows,
        k: StridedRows,
        v: StridedRows,
        shape: AttentionShape,
        laid: PackedKV,
        into: StridedRows,
        counting: Any,
    ) -> int:
        """Attention of queries ``[H, L, d]`` over keys and values ``[G, T, d]``, into
        ``[H, L, d]``; all threads run this. ``counting`` has two phases per KV head."""
        counters = address_of(counting)
        phase = np.int64(0)
        for group in range(shape.kv_heads):
            phase = pack_kv(k, v, shape, group, laid, counters, phase)
            if registers == 4:
                phase = _gather_4(q, shape, group, laid, into, counters, phase)
            else:
                phase = _gather_5(q, shape, group, laid, into, counters, phase)
        return checksum

    read_rows.__qualname__ = f"read_rows_{registers}"
    return jit_cached(read_rows) if kept else jit(read_rows)
