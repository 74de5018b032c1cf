"""Attention of many rows at once, in bfloat16: of the patches of a frame, of a prompt.

The keys and values of a head are laid out for ``tiles`` once, and stay in the cache nearest to the
core that has room for them. A few queries at a time then meet 1,024 keys: their scores, and the
weights made of these, stay in the nearest cache of all. What they gather is joined to what earlier
keys gave them (arXiv 2205.14135).

Threads share the rows of a head, and the heads that share keys. No sum depends on who adds it.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from smolvideo.network.kernels.avx512 import LANES, to_bfloat16
from smolvideo.network.kernels.bf16_gemm import build_gemm_tile
from smolvideo.network.kernels.elementwise import fmax, max_of
from smolvideo.network.kernels.jit import JitFunction, jit, jit_cached, source_checksum
from smolvideo.network.kernels.memory import array_from_address
from smolvideo.network.kernels.softmax import LOG2_E, exp2, exp2_and_sum
from smolvideo.network.kernels.work_sharing import claim, mark_done, wait_for_phase

BLOCK = 64
"""Keys that lie together: four registers of scores."""

_CHUNK = 1024
"""Keys between two joins: their scores and weights are 6 KB a query."""

_KEYS_PER_CHUNK, _TILES_OF_A_PART = 256, 16
"""What a thread takes at once."""

PHASES_PER_GROUP = 2


class StridedRows(NamedTuple):
    """Where bfloat16 numbers lie: ``address`` of the first, and how many bytes it is from one
    ``head`` to the next, from one ``row``, and from one ``element_stride`` of a row. Only those of
    keys need not lie side by side."""

    address: int
    head: int
    row: int
    element_stride: int


class AttentionShape(NamedTuple):
    """``heads`` of queries, ``kv_heads`` of keys; ``rows`` of queries, ``length`` rows of keys;
    ``head_dim`` numbers in a row. ``causal``: queries are the last rows, and see no later ones."""

    heads: int
    kv_heads: int
    rows: int
    length: int
    head_dim: int
    causal: bool


class PackedKV(NamedTuple):
    """Memory for the keys ``[blocks, d / 2, 64]`` and values ``[T / 2, 16 · registers]`` of one
    group, both of pairs of bfloat16 (uint32): numbers of a key that follow each other, and values
    of rows that do."""

    keys: Any
    values: Any


@jit
def pack_kv(
    k: StridedRows,
    v: StridedRows,
    shape: AttentionShape,
    group: int,
    laid: PackedKV,
    counters: int,
    phase: int,
) -> int:
    """Keys and values of one group into ``laid``; returns the next phase."""
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


@jit
def pack_keys(k: StridedRows, group: int, start: int, count: int, into: Any) -> None:
    """``count`` keys from ``start`` on as a block, ``into`` ``[d / 2, 64]``; those that it lacks
    are 0."""
    numbers = np.empty(0, np.uint16)
    first = k.address + group * k.head + start * k.row
    for i in range(into.shape[0]):
        place = first + 2 * i * k.element_stride
        if k.row == numbers.itemsize:  # they stand below each other
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


@jit
def pack_values(v: StridedRows, group: int, row: int, other: int, width: int, into: Any) -> None:
    """The values of two rows side by side, ``into`` ``[16 · registers]``. Where both are the same
    row, the second meets weights of 0; so do columns beyond ``head_dim``, which nobody reads."""
    numbers = np.empty(0, np.uint16)
    first = array_from_address(v.address + group * v.head + row * v.row, (width,), numbers)
    second = array_from_address(v.address + group * v.head + other * v.row, (width,), numbers)
    for i in range(width):
        into[i] = interleave_bf16(first[i], second[i])
    for i in range(width, into.shape[0]):
        into[i] = np.uint32(0)


@jit
def interleave_bf16(first: Any, second: Any) -> Any:
    """Two bfloat16 as they lie in memory one after the other."""
    return np.uint32(first) | (np.uint32(second) << np.uint32(16))


def _build_attention_tile(at_once: int, registers: int) -> JitFunction:
    """A function for values of so many registers a row; ``at_once`` queries are a tile."""
    multiply_keys = build_gemm_tile(at_once, BLOCK // LANES, adds=False)
    add_values = build_gemm_tile(at_once, registers, adds=True)

    @jit
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
        """The ``sums`` of values by weights, and the ``totals`` of these, for a tile of queries
        from ``row`` on, that lie ``stride`` bytes apart."""
        factor = np.float32(LOG2_E / np.sqrt(shape.head_dim))
        length = shape.length
        if shape.causal:
            length -= shape.rows - row - at_once
        for r in range(at_once):
            largest[r], totals[r] = np.float32(-np.inf), np.float32(0)
            for i in range(registers * LANES):
                sums[r, i] = np.float32(0)
        for start in range(0, length, _CHUNK):
            count = min(_CHUNK, length - start)
            for first in range(0, count, BLOCK):
                multiply_keys(
                    queries,
                    stride,
                    laid.keys.ctypes.data + (start + first) // BLOCK * laid.keys.strides[0],
                    shape.head_dim // 2,
                    scores.ctypes.data + first * scores.itemsize,
                    scores.strides[0],
                )
            pairs = (count + 1) // 2
            for r in range(at_once):
                seen = count
                if shape.causal:
                    seen = max(0, min(count, length - start - (at_once - 1 - r)))
                new = largest[r]
                if seen:
                    new = fmax(max_of(scores[r], seen), new)
                if new == -np.inf:  # nothing yet that counts
                    seen = 0
                if seen:
                    total = exp2_and_sum(scores[r], seen, factor, new, weights[r])
                    # What was gathered before counts less beside a larger score.
                    share = exp2((largest[r] - new) * factor)
                    largest[r], totals[r] = new, totals[r] * share + total
                    for i in range(registers * LANES):
                        sums[r, i] *= share
                for t in range(seen, 2 * pairs):
                    weights[r, t] = np.uint16(0)
            add_values(
                weights.ctypes.data,
                weights.strides[0],
                laid.values.ctypes.data + start // 2 * laid.values.strides[0],
                pairs,
                sums.ctypes.data,
                sums.strides[0],
            )

    @jit
    def gather(
        q: StridedRows,
        shape: AttentionShape,
        group: int,
        laid: PackedKV,
        into: StridedRows,
        counters: int,
        phase: int,
    ) -> int:
        """What the heads of one group gather, in ``into``; returns the next phase."""
        each = shape.heads // shape.kv_heads
        rows_of_a_part = at_once * _TILES_OF_A_PART
        parts_of_a_head = (shape.rows + rows_of_a_part - 1) // rows_of_a_part
        parts = each * parts_of_a_head
        scores = np.empty((at_once, _CHUNK), np.float32)
        weights = np.empty((at_once, _CHUNK), np.uint16)
        largest, totals = np.empty(at_once, np.float32), np.empty(at_once, np.float32)
        sums = np.empty((at_once, registers * LANES), np.float32)
        while True:
            part = claim(counters, phase, parts)
            if part < 0:
                return wait_for_phase(counters, phase, parts)
            head = group * each + part % each
            # The last rows first: where rows are causal, they take the longest.
            first = (parts_of_a_head - 1 - part // each) * rows_of_a_part
            for start in range(first, min(first + rows_of_a_part, shape.rows), at_once):
                # The last tile may begin earlier, and give some rows the same numbers again (if
                # all values are numbers: 0 times infinity is none, and hidden keys weigh 0).
                row = min(start, shape.rows - at_once)
                queries = q.address + head * q.head + row * q.row
                gather_tile(
                    queries, q.row, row, shape, laid, scores, weights, largest, totals, sums
                )
                for r in range(at_once):
                    place = into.address + head * into.head + (row + r) * into.row
                    numbers = array_from_address(place, (shape.head_dim,), weights)
                    store_output(sums[r], np.float32(1) / totals[r], numbers)
            mark_done(counters, phase)

    return gather


@jit
def store_output(sums: Any, share: Any, into: Any) -> None:
    """``sums`` times ``share`` as bfloat16, as many as ``into`` has room for."""
    for i in range(into.shape[0]):
        into[i] = to_bfloat16(sums[i] * share)


TILE_ROWS = {4: 6, 5: 5}
"""Registers of a row of values → queries of a tile, so that sums and what they are made of fill the
32 registers of AVX-512. Heads of 64 and 72 numbers are all that the published networks have."""

_gather_4, _gather_5 = (
    _build_attention_tile(rows, registers) for registers, rows in TILE_ROWS.items()
)


def registers_per_row(width: int) -> int:
    """Those that a row of so many values takes."""
    return -(-width // LANES)


@lru_cache
def build_flash_attention(registers: int, *, kept: bool = True) -> JitFunction:
    """The function for heads of so many registers; see ``token.build_flash_attention``."""
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
        """What queries ``[H, L, d]`` gather from keys and values ``[G, T, d]``, into ``[H, L, d]``;
        all threads run this. ``counting`` is for two phases a group."""
        counters = counting.ctypes.data
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
