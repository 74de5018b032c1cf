"""A matrix times the vectors of some tokens, in every form that weights are kept in.

All threads share the rows of the matrix; they read each weight once, and multiply it with all
vectors while it is near.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types

from smolvideo.network.kernels.compiling import Compiled, chosen_by_types, compiled
from smolvideo.network.kernels.memory import array_at
from smolvideo.network.kernels.numbers import as_float
from smolvideo.network.kernels.sharing import done, taken, wait

_GROUP, _MIDDLE_LEVEL = 32, 8
"""As in ``int4``, whose layout this reads."""


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
    numbers = np.empty((_GROUP, matrix.tile), np.float32)
    while True:
        part = taken(counters, phase, parts)
        if part < 0:
            return wait(counters, phase, parts)
        first = part * matrix.at_once
        last = min(matrix.outputs, first + matrix.at_once)
        if not adds:
            into[:, first:last] = np.float32(0)
        add_rows(matrix, layer, first, last, vectors, numbers, into)
        done(counters, phase)


@chosen_by_types
def add_rows(
    matrix: Any, layer: Any, first: Any, last: Any, vectors: Any, numbers: Any, into: Any
) -> Any:
    """Add to ``into`` ``[B, out]`` what rows ``first`` to ``last`` make of ``vectors``; ``numbers``
    is memory for a group of a tile."""
    kept = dict(zip(matrix.fields, matrix.types, strict=True))["like"].dtype
    return _add_rows_of_4_bits if kept == types.uint8 else _add_rows_of_numbers


def _add_rows_of_numbers(
    matrix: Any, layer: Any, first: Any, last: Any, vectors: Any, numbers: Any, into: Any
) -> None:
    """Four vectors at a time, where there are so many: they stay near while the rows pass."""
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


def _add_rows_of_4_bits(
    matrix: Any, layer: Any, first: Any, last: Any, vectors: Any, numbers: Any, into: Any
) -> None:
    """Rows lie in tiles: the low half of a byte is of a row in the first half of its tile."""
    size, groups = matrix.tile, matrix.inputs // _GROUP
    tiles = array_at(
        matrix.weights[layer], (matrix.outputs // size, groups, _GROUP, size // 2), matrix.like
    )
    scales = array_at(matrix.scales[layer], (groups, matrix.outputs), matrix.scale_like)
    for tile in range(first // size, last // size):
        its_rows = slice(tile * size, (tile + 1) * size)
        for group in range(groups):
            its_inputs = slice(group * _GROUP, (group + 1) * _GROUP)
            levels, its_scales = tiles[tile, group], scales[group][its_rows]
            if vectors.shape[0] == 1:
                inputs, rows = vectors[0][its_inputs], into[0][its_rows]
                if size == 64:
                    add_levels_of_64(levels, its_scales, inputs, numbers[0], rows)
                else:
                    add_levels_of_32(levels, its_scales, inputs, numbers[0], rows)
            else:
                as_numbers(levels, its_scales, numbers)
                for b in range(vectors.shape[0]):
                    add_columns(numbers, vectors[b][its_inputs], into[b][its_rows])


def _adding_levels_of(size: int) -> Compiled:
    """A function for tiles of so many rows: loops of a known length become a few instructions."""
    half = size // 2

    @compiled
    def add_levels(levels: Any, scales: Any, inputs: Any, sums: Any, into: Any) -> None:
        """Add ``inputs`` ``[32]`` times ``levels`` ``[32, size / 2]`` to the rows of a tile.

        A scale is in the lower half of one of ``scales`` ``[size]``, its offset in the upper one.
        ``sums`` is memory of that size.
        """
        total = np.float32(0)
        for i in range(_GROUP):
            total += inputs[i]
        for r in range(size):
            sums[r] = np.float32(0)
        for i in range(0, _GROUP, 4):
            a, b, c, d = inputs[i], inputs[i + 1], inputs[i + 2], inputs[i + 3]
            for r in range(half):
                one, two = levels[i, r], levels[i + 1, r]
                three, four = levels[i + 2, r], levels[i + 3, r]
                sums[r] += low(one) * a + low(two) * b + low(three) * c + low(four) * d
                sums[half + r] += high(one) * a + high(two) * b + high(three) * c + high(four) * d
        middle = np.float32(_MIDDLE_LEVEL) * total
        for r in range(size):
            into[r] += (sums[r] - middle) * scale_of(scales[r]) + total * offset_of(scales[r])

    return add_levels


add_levels_of_64, add_levels_of_32 = _adding_levels_of(64), _adding_levels_of(32)


@compiled
def as_numbers(levels: Any, scales: Any, into: Any) -> None:
    """The weights of a group, ``[32, size]``."""
    half = levels.shape[1]
    for i in range(_GROUP):
        upper, lower = into[i][:half], into[i][half:]
        for r in range(half):
            upper[r] = low(levels[i, r])
            lower[r] = high(levels[i, r])
        for r in range(2 * half):
            level = into[i, r] - np.float32(_MIDDLE_LEVEL)
            into[i, r] = level * scale_of(scales[r]) + offset_of(scales[r])


@compiled
def add_columns(numbers: Any, inputs: Any, into: Any) -> None:
    """Add ``inputs`` ``[32]`` times ``numbers`` ``[32, R]`` to ``into`` ``[R]``."""
    for i in range(0, numbers.shape[0], 4):
        a, b, c, d = inputs[i], inputs[i + 1], inputs[i + 2], inputs[i + 3]
        for r in range(into.shape[0]):
            into[r] += (
                numbers[i, r] * a
                + numbers[i + 1, r] * b
                + numbers[i + 2, r] * c
                + numbers[i + 3, r] * d
            )


@compiled
def low(both: Any) -> Any:
    """The 4-bit level in the lower half of a byte."""
    return np.float32(np.int32(both & np.uint8(15)))


@compiled
def high(both: Any) -> Any:
    """That in the upper half."""
    return np.float32(np.int32(both >> np.uint8(4)))


@compiled
def scale_of(both: Any) -> Any:
    """The bfloat16 in the lower half of 32 bits."""
    return np.uint32(both << np.uint32(16)).view(np.float32)


@compiled
def offset_of(both: Any) -> Any:
    """That in the upper half."""
    return np.uint32(both & np.uint32(0xFFFF0000)).view(np.float32)
