"""Multiply a weight matrix with the activations of a few tokens, in every weight format.

All threads share the rows of the matrix. Each weight is read once, and multiplied with all
activations while it is in cache.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types

from smolvideo.network.kernels.avx512 import has_avx512_bf16, has_avx512_vbmi
from smolvideo.network.kernels.elementwise import to_float32
from smolvideo.network.kernels.int4_matmul import (
    TILE,
    int4_matmul,
    int4_matmul_bf16,
    to_bf16_with_group_sums,
)
from smolvideo.network.kernels.jit import jit_callee, overload_by_type
from smolvideo.network.kernels.work_sharing import (
    array_from_address,
    claim,
    mark_done,
    wait_for_phase,
)

_HAS_PAIRS = has_avx512_bf16() and has_avx512_vbmi()
"""Whether int4 weights are multiplied as bfloat16 pairs (AVX512-BF16)."""


class WeightMatrix(NamedTuple):
    """One linear layer of every decoder layer, ``[out, in]``.

    ``weights`` and ``scales`` are addresses, ``[layers]``. The dtypes of the data there are those
    of the empty arrays ``weights_like`` and ``scales_like``. bfloat16 (bits as uint16),
    float32 and int8 (``Int8Weight``) have a scale for each row, 1 for unquantized weights. uint8
    holds two 4-bit values (``Int4Weight``); their scales are uint32, a scale and an offset in
    bfloat16. ``tile`` is the number of rows that are packed together, ``rows_per_chunk`` that of
    one chunk of work. ``adds``: products are added to the output. It is a field, as numba would
    compile the product again for each constant argument.
    """

    weights: Any
    scales: Any
    weights_like: Any
    scales_like: Any
    outputs: int
    inputs: int
    tile: int
    rows_per_chunk: int
    adds: bool


@jit_callee
def matmul(
    matrix: WeightMatrix,
    layer: int,
    vectors: Any,
    into: Any,
    counters: int,
    phase: int,
) -> int:
    """Multiply ``vectors`` ``[B, in]`` by ``matrix`` of ``layer`` into ``into`` ``[B, out]``, or
    add to it (``matrix.adds``); return the next phase. All arrays are float32."""
    parts = (matrix.outputs + matrix.rows_per_chunk - 1) // matrix.rows_per_chunk
    prepared_activations = prepare_activations(matrix, vectors)
    while True:
        part = claim(counters, phase, parts)
        if part < 0:
            return wait_for_phase(counters, phase, parts)
        first = part * matrix.rows_per_chunk
        last = min(matrix.outputs, first + matrix.rows_per_chunk)
        if not matrix.adds:
            into[:, first:last] = np.float32(0)
        matmul_rows(matrix, layer, first, last, vectors, prepared_activations, into)
        mark_done(counters, phase)


@overload_by_type
def prepare_activations(matrix: Any, vectors: Any) -> Any:
    """Convert the activations once per thread: bfloat16 and group sums for int4 with AVX512-BF16,
    nothing otherwise."""

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
    """Add the product of rows ``first`` to ``last`` and ``vectors`` to ``into`` ``[B, out]``.

    ``prepared_activations`` is the result of ``prepare_activations`` for ``vectors``.
    """

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
    """Return the dtype of the weights, from the numba type of a ``WeightMatrix``."""
    return dict(zip(matrix.fields, matrix.types, strict=True))["weights_like"].dtype


@jit_callee
def dense_matmul(matrix: Any, layer: int, first: int, last: int, vectors: Any, into: Any) -> None:
    """Multiply rows as ``matmul_rows`` does, for bfloat16, float32 and int8 weights.

    Four vectors at a time, if there are as many: they stay in cache while the rows pass.
    """
    shape = (matrix.outputs, matrix.inputs)
    weights = array_from_address(matrix.weights[layer], shape, matrix.weights_like)
    scales = array_from_address(matrix.scales[layer], matrix.outputs, matrix.scales_like)
    b = 0
    # four vectors, two rows at a time
    while b + 4 <= vectors.shape[0]:
        row = first
        while row + 2 <= last:
            dot_2x4(weights, scales, row, vectors[b : b + 4], into[b : b + 4])
            row += 2
        # an odd last row
        while row < last:
            for one in range(b, b + 4):
                into[one, row] += dot(weights[row], vectors[one]) * to_float32(scales[row])
            row += 1
        b += 4
    # the remaining vectors, one by one
    while b < vectors.shape[0]:
        for row in range(first, last):
            into[b, row] += dot(weights[row], vectors[b]) * to_float32(scales[row])
        b += 1


@jit_callee
def dot(weights: Any, vector: Any) -> Any:
    """Return the dot product of a row of weights and a vector."""
    total = np.float32(0)
    for i in range(weights.shape[0]):
        total += to_float32(weights[i]) * vector[i]
    return total


@jit_callee
def dot_2x4(weights: Any, scales: Any, row: int, vectors: Any, into: Any) -> None:
    """Multiply ``row`` and the next with four vectors: eight sums, each weight is loaded once."""
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
