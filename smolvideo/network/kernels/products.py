"""A matrix times the vectors of some tokens, in every form that weights are kept in.

All threads share the rows of the matrix; they read each weight once, and multiply it with all
vectors while it is near.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from smolvideo.network.kernels.compiling import Compiled, compiled
from smolvideo.network.kernels.memory import array_at
from smolvideo.network.kernels.numbers import as_float
from smolvideo.network.kernels.sharing import done, taken, wait


class Matrix(NamedTuple):
    """One map of every layer, ``[out, in]``.

    ``weights`` and ``scales`` are addresses, ``[layers]``. The dtype of the empty array ``like``
    says what is at ``weights``: bfloat16 (told as uint16) and float32 are the numbers themselves,
    int8 are levels with a bfloat16 or float32 scale for each output (``int8``), and uint8 are two
    4-bit levels (``int4``), with their scales and offsets in bfloat16. ``scale_like`` says so of
    the scales; ``tile`` are the rows that lie together, ``at_once`` those of one part of the work.
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
    while True:
        part = taken(counters, phase, parts)
        if part < 0:
            return wait(counters, phase, parts)
        first = part * matrix.at_once
        last = min(matrix.outputs, first + matrix.at_once)
        if not adds:
            into[:, first:last] = np.float32(0)
        add_rows(matrix, layer, first, last, vectors, into)
        done(counters, phase)


def add_rows(matrix: Any, layer: Any, first: Any, last: Any, vectors: Any, into: Any) -> None:
    """Add to ``into`` ``[B, out]`` what rows ``first`` to ``last`` make of ``vectors``."""
    raise NotImplementedError


@overload(add_rows)
def _add_rows(matrix: Any, layer: Any, first: Any, last: Any, vectors: Any, into: Any) -> Any:
    kept = dict(zip(matrix.fields, matrix.types, strict=True))["like"].dtype
    if kept == types.uint8:
        return _add_rows_of_4_bits
    return _add_scaled_rows if kept == types.int8 else _add_plain_rows


def _add_plain_rows(
    matrix: Any, layer: Any, first: Any, last: Any, vectors: Any, into: Any
) -> None:
    shape = (matrix.outputs, matrix.inputs)
    weights = array_at(matrix.weights[layer], shape, matrix.like)
    for row in range(first, last):
        add_row(weights[row], vectors, np.float32(1), into[:, row])


def _add_scaled_rows(
    matrix: Any, layer: Any, first: Any, last: Any, vectors: Any, into: Any
) -> None:
    shape = (matrix.outputs, matrix.inputs)
    levels = array_at(matrix.weights[layer], shape, matrix.like)
    scales = array_at(matrix.scales[layer], matrix.outputs, matrix.scale_like)
    for row in range(first, last):
        add_row(levels[row], vectors, as_float(scales[row]), into[:, row])


@compiled
def add_row(weights: Any, vectors: Any, scale: Any, into: Any) -> None:
    """Add ``vectors`` ``[B, in]`` times one row of weights, times ``scale``, to ``into`` ``[B]``.

    Four vectors at a time, where there are so many: each weight becomes a float32 once for them.
    """
    width, count = weights.shape[0], vectors.shape[0]
    b = 0
    while b + 4 <= count:
        one, two, three, four = vectors[b], vectors[b + 1], vectors[b + 2], vectors[b + 3]
        sum1 = sum2 = sum3 = sum4 = np.float32(0)
        for i in range(width):
            weight = as_float(weights[i])
            sum1 += weight * one[i]
            sum2 += weight * two[i]
            sum3 += weight * three[i]
            sum4 += weight * four[i]
        into[b] += sum1 * scale
        into[b + 1] += sum2 * scale
        into[b + 2] += sum3 * scale
        into[b + 3] += sum4 * scale
        b += 4
    while b < count:
        vector = vectors[b]
        total = np.float32(0)
        for i in range(width):
            total += as_float(weights[i]) * vector[i]
        into[b] += total * scale
        b += 1


_GROUP, _MIDDLE_LEVEL = 32, 8
"""As in ``int4``, whose layout this reads."""


def _add_rows_of_4_bits(
    matrix: Any, layer: Any, first: Any, last: Any, vectors: Any, into: Any
) -> None:
    """Rows lie in tiles: the low half of a byte is of a row in the first half of its tile."""
    size, groups = matrix.tile, matrix.inputs // _GROUP
    tiles = array_at(
        matrix.weights[layer], (matrix.outputs // size, groups, _GROUP, size // 2), matrix.like
    )
    scales = array_at(matrix.scales[layer], (groups, matrix.outputs), matrix.scale_like)
    sums = np.empty(size, np.float32)
    for tile in range(first // size, last // size):
        for b in range(vectors.shape[0]):
            rows = into[b][tile * size : (tile + 1) * size]
            for group in range(groups):
                inputs = vectors[b][group * _GROUP : (group + 1) * _GROUP]
                its_scales = scales[group][tile * size : (tile + 1) * size]
                if size == 64:
                    add_group_of_64(tiles[tile, group], inputs, its_scales, sums, rows)
                else:
                    add_group_of_32(tiles[tile, group], inputs, its_scales, sums, rows)


def _adding_groups_of(size: int) -> Compiled:
    """A function for tiles of so many rows: loops of a known length become a few instructions."""
    half = size // 2

    @compiled
    def add_group(levels: Any, inputs: Any, scales: Any, sums: Any, into: Any) -> None:
        """Add ``inputs`` ``[32]`` times ``levels`` ``[32, size / 2]`` to the rows of a tile.

        A scale is in the lower half of one of ``scales`` ``[size]``, its offset in the upper one.
        """
        sums[:size] = np.float32(0)
        total = np.float32(0)
        for i in range(_GROUP):
            total += inputs[i]
        for i in range(0, _GROUP, 4):
            a, b, c, d = inputs[i], inputs[i + 1], inputs[i + 2], inputs[i + 3]
            for r in range(half):
                one, two = levels[i, r], levels[i + 1, r]
                three, four = levels[i + 2, r], levels[i + 3, r]
                sums[r] += lower(one) * a + lower(two) * b + lower(three) * c + lower(four) * d
                sums[half + r] += (
                    upper(one) * a + upper(two) * b + upper(three) * c + upper(four) * d
                )
        middle = np.float32(_MIDDLE_LEVEL) * total
        for r in range(size):
            scale = np.uint32(scales[r] << np.uint32(16)).view(np.float32)
            offset = np.uint32(scales[r] & np.uint32(0xFFFF0000)).view(np.float32)
            into[r] += (sums[r] - middle) * scale + total * offset

    return add_group


add_group_of_64, add_group_of_32 = _adding_groups_of(64), _adding_groups_of(32)


@compiled
def lower(both: Any) -> Any:
    """The 4-bit level in the lower half of a byte."""
    return np.float32(np.int32(both & np.uint8(15)))


@compiled
def upper(both: Any) -> Any:
    """That in the upper half."""
    return np.float32(np.int32(both >> np.uint8(4)))
