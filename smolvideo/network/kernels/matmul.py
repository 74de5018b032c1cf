"""A matrix times the vectors of some tokens, in every form that weights are kept in.

All threads share the rows of the matrix; they read each weight once, and multiply it with all
vectors while it is near.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types

from smolvideo.network.kernels.avx512 import has_avx512_bf16, has_avx512_vbmi
from smolvideo.network.kernels.elementwise import to_float32
from smolvideo.network.kernels.int4_matmul import int4_matmul
from smolvideo.network.kernels.int4_matmul_avx512 import (
    TILE,
    int4_matmul_bf16,
    to_bf16_with_group_sums,
)
from smolvideo.network.kernels.jit import jit, overload_by_type
from smolvideo.network.kernels.memory import array_from_address
from smolvideo.network.kernels.work_sharing import claim, mark_done, wait_for_phase

_HAS_PAIRS = has_avx512_bf16() and has_avx512_vbmi()
"""Whether levels are multiplied by pairs."""


class WeightMatrix(NamedTuple):
    """One map of every layer, ``[out, in]``.

    ``weights`` and ``scales`` are addresses, ``[layers]``. The dtype of the empty array
    ``dtype_witness`` says what is at ``weights``, that of ``scale_dtype_witness`` what is at
    ``scales``. bfloat16 (told as uint16), float32 and int8 (``int8``) are numbers, with a scale for
    each row, 1 for plain weights. uint8 are two levels of 4 bits (``int4``); their scales are
    uint32, a scale and an offset in bfloat16. ``tile`` are the rows that lie together,
    ``rows_per_chunk`` those of one part of the work.
    """

    weights: Any
    scales: Any
    dtype_witness: Any
    scale_dtype_witness: Any
    outputs: int
    inputs: int
    tile: int
    rows_per_chunk: int


@jit
def matmul(
    matrix: WeightMatrix,
    layer: int,
    vectors: Any,
    into: Any,
    accumulate: bool,
    counters: int,
    phase: int,
) -> int:
    """``vectors`` ``[B, in]`` times ``matrix`` of ``layer`` into ``into`` ``[B, out]``, or added to
    it; returns the next phase. All arrays are float32."""
    parts = (matrix.outputs + matrix.rows_per_chunk - 1) // matrix.rows_per_chunk
    prepared_activations = prepare_activations(matrix, vectors)
    while True:
        part = claim(counters, phase, parts)
        if part < 0:
            return wait_for_phase(counters, phase, parts)
        first = part * matrix.rows_per_chunk
        last = min(matrix.outputs, first + matrix.rows_per_chunk)
        if not accumulate:
            into[:, first:last] = np.float32(0)
        matmul_rows(matrix, layer, first, last, vectors, prepared_activations, into)
        mark_done(counters, phase)


@overload_by_type
def prepare_activations(matrix: Any, vectors: Any) -> Any:
    """What a thread makes of ``vectors`` once, for all rows it multiplies with them."""

    def pairs(matrix: Any, vectors: Any) -> Any:
        return to_bf16_with_group_sums(vectors)

    def nothing(matrix: Any, vectors: Any) -> int:
        return 0

    return pairs if weight_dtype(matrix) == types.uint8 and _HAS_PAIRS else nothing


@overload_by_type
def matmul_rows(
    matrix: Any,
    layer: Any,
    first: Any,
    last: Any,
    vectors: Any,
    prepared_activations: Any,
    into: Any,
) -> Any:
    """Add to ``into`` ``[B, out]`` what rows ``first`` to ``last`` make of ``vectors``, of which
    ``prepared_activations`` was made."""

    def of_levels(
        matrix: Any,
        layer: Any,
        first: Any,
        last: Any,
        vectors: Any,
        prepared_activations: Any,
        into: Any,
    ) -> None:
        int4_matmul(matrix, layer, first, last, vectors, into)

    def by_pairs(
        matrix: Any,
        layer: Any,
        first: Any,
        last: Any,
        vectors: Any,
        prepared_activations: Any,
        into: Any,
    ) -> None:
        if matrix.tile == TILE:
            int4_matmul_bf16(matrix, layer, first, last, prepared_activations, into)
        else:
            int4_matmul(matrix, layer, first, last, vectors, into)

    def of_numbers(
        matrix: Any,
        layer: Any,
        first: Any,
        last: Any,
        vectors: Any,
        prepared_activations: Any,
        into: Any,
    ) -> None:
        dense_matmul(matrix, layer, first, last, vectors, into)

    if weight_dtype(matrix) == types.uint8:
        return by_pairs if _HAS_PAIRS else of_levels
    return of_numbers


def weight_dtype(matrix: Any) -> Any:
    """The dtype of the weights, of a type of ``WeightMatrix``."""
    return dict(zip(matrix.fields, matrix.types, strict=True))["like"].dtype


@jit
def dense_matmul(matrix: Any, layer: int, first: int, last: int, vectors: Any, into: Any) -> None:
    """The same, for weights that are numbers.

    Four vectors at a time, where there are so many: they stay near while the rows pass.
    """
    shape = (matrix.outputs, matrix.inputs)
    weights = array_from_address(matrix.weights[layer], shape, matrix.dtype_witness)
    scales = array_from_address(matrix.scales[layer], matrix.outputs, matrix.scale_dtype_witness)
    b = 0
    while b + 4 <= vectors.shape[0]:
        row = first
        while row + 2 <= last:
            dot_2x4(weights, scales, row, vectors[b : b + 4], into[b : b + 4])
            row += 2
        while row < last:
            for one in range(b, b + 4):
                into[one, row] += dot(weights[row], vectors[one]) * to_float32(scales[row])
            row += 1
        b += 4
    while b < vectors.shape[0]:
        for row in range(first, last):
            into[b, row] += dot(weights[row], vectors[b]) * to_float32(scales[row])
        b += 1


@jit
def dot(weights: Any, vector: Any) -> Any:
    """A row of weights times a vector."""
    total = np.float32(0)
    for i in range(weights.shape[0]):
        total += to_float32(weights[i]) * vector[i]
    return total


@jit
def dot_2x4(weights: Any, scales: Any, row: int, vectors: Any, into: Any) -> None:
    """``row`` and the next, times four vectors: eight sums of what is read once."""
    this, after = weights[row], weights[row + 1]
    one, two, three, four = vectors[0], vectors[1], vectors[2], vectors[3]
    a = b = c = d = e = f = g = h = np.float32(0)
    for i in range(this.shape[0]):
        first, second = to_float32(this[i]), to_float32(after[i])
        a += first * one[i]
        b += first * two[i]
        c += first * three[i]
        d += first * four[i]
        e += second * one[i]
        f += second * two[i]
        g += second * three[i]
        h += second * four[i]
    scale = to_float32(scales[row])
    into[0, row] += a * scale
    into[1, row] += b * scale
    into[2, row] += c * scale
    into[3, row] += d * scale
    scale = to_float32(scales[row + 1])
    into[0, row + 1] += e * scale
    into[1, row + 1] += f * scale
    into[2, row + 1] += g * scale
    into[3, row + 1] += h * scale
