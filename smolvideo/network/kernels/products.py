"""A matrix times the vectors of some tokens, in every form that weights are kept in.

All threads share the rows of the matrix; they read each weight once, and multiply it with all
vectors while it is near.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types

from smolvideo.network.kernels.compiling import chosen_by_types, compiled
from smolvideo.network.kernels.level_pairs import TILE, add_rows_by_pairs, pairs_of
from smolvideo.network.kernels.levels import add_rows_of_levels
from smolvideo.network.kernels.memory import array_at
from smolvideo.network.kernels.numbers import as_float
from smolvideo.network.kernels.registers import can_multiply_pairs, can_shuffle_bytes
from smolvideo.network.kernels.sharing import done, taken, wait

_HAS_PAIRS = can_multiply_pairs() and can_shuffle_bytes()
"""Whether levels are multiplied by pairs."""


class Matrix(NamedTuple):
    """One map of every layer, ``[out, in]``.

    ``weights`` and ``scales`` are addresses, ``[layers]``. The dtype of the empty array ``like``
    says what is at ``weights``, that of ``scale_like`` what is at ``scales``. bfloat16 (told as
    uint16), float32 and int8 (``int8``) are numbers, with a scale for each row, 1 for plain
    weights. uint8 are two levels of 4 bits (``int4``); their scales are uint32, a scale and an
    offset in bfloat16. ``tile`` are the rows that lie together, ``at_once`` those of one part of
    the work.
    """

    weights: Any
    scales: Any
    like: Any
    scale_like: Any
    outputs: int
    inputs: int
    tile: int
    at_once: int


@compiled
def multiply(
    matrix: Matrix, layer: int, vectors: Any, into: Any, adds: bool, counters: int, phase: int
) -> int:
    """``vectors`` ``[B, in]`` times ``matrix`` of ``layer`` into ``into`` ``[B, out]``, or added to
    it; returns the next phase. All arrays are float32."""
    parts = (matrix.outputs + matrix.at_once - 1) // matrix.at_once
    ready = made_ready(matrix, vectors)
    while True:
        part = taken(counters, phase, parts)
        if part < 0:
            return wait(counters, phase, parts)
        first = part * matrix.at_once
        last = min(matrix.outputs, first + matrix.at_once)
        if not adds:
            into[:, first:last] = np.float32(0)
        add_rows(matrix, layer, first, last, vectors, ready, into)
        done(counters, phase)


@chosen_by_types
def made_ready(matrix: Any, vectors: Any) -> Any:
    """What a thread makes of ``vectors`` once, for all rows it multiplies with them."""

    def pairs(matrix: Any, vectors: Any) -> Any:
        return pairs_of(vectors)

    def nothing(matrix: Any, vectors: Any) -> int:
        return 0

    return pairs if kept_in(matrix) == types.uint8 and _HAS_PAIRS else nothing


@chosen_by_types
def add_rows(
    matrix: Any, layer: Any, first: Any, last: Any, vectors: Any, ready: Any, into: Any
) -> Any:
    """Add to ``into`` ``[B, out]`` what rows ``first`` to ``last`` make of ``vectors``, of which
    ``ready`` was made."""

    def of_levels(
        matrix: Any, layer: Any, first: Any, last: Any, vectors: Any, ready: Any, into: Any
    ) -> None:
        add_rows_of_levels(matrix, layer, first, last, vectors, into)

    def by_pairs(
        matrix: Any, layer: Any, first: Any, last: Any, vectors: Any, ready: Any, into: Any
    ) -> None:
        if matrix.tile == TILE:
            add_rows_by_pairs(matrix, layer, first, last, ready, into)
        else:
            add_rows_of_levels(matrix, layer, first, last, vectors, into)

    def of_numbers(
        matrix: Any, layer: Any, first: Any, last: Any, vectors: Any, ready: Any, into: Any
    ) -> None:
        add_rows_of_numbers(matrix, layer, first, last, vectors, into)

    if kept_in(matrix) == types.uint8:
        return by_pairs if _HAS_PAIRS else of_levels
    return of_numbers


def kept_in(matrix: Any) -> Any:
    """The dtype of the weights, of a type of ``Matrix``."""
    return dict(zip(matrix.fields, matrix.types, strict=True))["like"].dtype


@compiled
def add_rows_of_numbers(
    matrix: Any, layer: int, first: int, last: int, vectors: Any, into: Any
) -> None:
    """The same, for weights that are numbers.

    Four vectors at a time, where there are so many: they stay near while the rows pass.
    """
    shape = (matrix.outputs, matrix.inputs)
    weights = array_at(matrix.weights[layer], shape, matrix.like)
    scales = array_at(matrix.scales[layer], matrix.outputs, matrix.scale_like)
    b = 0
    while b + 4 <= vectors.shape[0]:
        row = first
        while row + 2 <= last:
            add_two_rows_by_four(weights, scales, row, vectors[b : b + 4], into[b : b + 4])
            row += 2
        while row < last:
            for one in range(b, b + 4):
                into[one, row] += product(weights[row], vectors[one]) * as_float(scales[row])
            row += 1
        b += 4
    while b < vectors.shape[0]:
        for row in range(first, last):
            into[b, row] += product(weights[row], vectors[b]) * as_float(scales[row])
        b += 1


@compiled
def product(weights: Any, vector: Any) -> Any:
    """A row of weights times a vector."""
    total = np.float32(0)
    for i in range(weights.shape[0]):
        total += as_float(weights[i]) * vector[i]
    return total


@compiled
def add_two_rows_by_four(weights: Any, scales: Any, row: int, vectors: Any, into: Any) -> None:
    """``row`` and the next, times four vectors: eight sums of what is read once."""
    this, after = weights[row], weights[row + 1]
    one, two, three, four = vectors[0], vectors[1], vectors[2], vectors[3]
    a = b = c = d = e = f = g = h = np.float32(0)
    for i in range(this.shape[0]):
        first, second = as_float(this[i]), as_float(after[i])
        a += first * one[i]
        b += first * two[i]
        c += first * three[i]
        d += first * four[i]
        e += second * one[i]
        f += second * two[i]
        g += second * three[i]
        h += second * four[i]
    scale = as_float(scales[row])
    into[0, row] += a * scale
    into[1, row] += b * scale
    into[2, row] += c * scale
    into[3, row] += d * scale
    scale = as_float(scales[row + 1])
    into[0, row + 1] += e * scale
    into[1, row + 1] += f * scale
    into[2, row + 1] += g * scale
    into[3, row + 1] += h * scale
