"""Passes between int8 products: quantize rows of activations, and rescale int32 sums.

Activations are quantized row by row, over the range from minimum to maximum: ``x[r] ≈ levels[r] *
scales[r] + offsets[r]``. (GELU leaves few negative values, for which half of a symmetric range
would be lost.) A sum of products of levels is rescaled by the scale of its row and that of its
column (an output of the weight), and the offset times the sum of the weights is added, in the same
pass as bias, activation function, residual and the next quantization. A pass reads its input once,
row by row, so that a row stays in the L1 cache. Threads share the rows.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from smolvideo.network.kernels.elementwise import (
    LOG2_E,
    exp2,
    fmax,
    to_float32,
    to_storage_dtype,
)
from smolvideo.network.kernels.jit import JitFunction, jit, jit_cached, jit_callee, source_checksum
from smolvideo.network.kernels.work_sharing import claim, mark_done, wait_for_phase

MAX_LEVEL = 127
"""Largest magnitude of a level."""

MIN_MAGNITUDE = 1e-20
"""Magnitude below which a row counts as zero: no scale is subnormal, or its inverse infinite."""

_ROWS_PER_PART = 32
"""Rows that a thread claims at once."""


@jit_callee
def max_magnitude(row: Any) -> Any:
    """Largest absolute value of ``row``, at least ``MIN_MAGNITUDE``; NaN if one is NaN."""
    most = np.float32(MIN_MAGNITUDE)
    for i in range(row.shape[0]):
        most = fmax(most, np.abs(row[i]))
    return most


@jit_callee
def quantize_row(row: Any, levels: Any, scales: Any, offsets: Any, r: int) -> None:
    """Quantize the float32 ``row`` to int8 ``levels``, with scale and offset ``r``. A row with a
    NaN or an infinity has such a scale, so that its results are not finite."""
    most, least = row[0], -row[0]
    for i in range(row.shape[0]):
        most = fmax(most, row[i])
        least = fmax(least, -row[i])
    middle = (most - least) * np.float32(0.5)
    half = fmax((most + least) * np.float32(0.5), np.float32(MIN_MAGNITUDE))
    factor = np.float32(MAX_LEVEL) / half
    for i in range(row.shape[0]):
        level = np.floor((row[i] - middle) * factor + np.float32(0.5))
        levels[i] = np.int8(np.int32(level))
    scales[r], offsets[r] = half / np.float32(MAX_LEVEL), middle


@jit_callee
def sigmoid(x: Any) -> Any:
    """1 / (1 + e⁻ˣ), vectorizable; relative error below 1e-5."""
    small = exp2(-np.abs(x) * np.float32(LOG2_E))  # e^−|x| never overflows
    return (small if x < np.float32(0) else np.float32(1)) / (np.float32(1) + small)


@jit_callee
def gelu(x: Any) -> Any:
    """GELU (tanh approximation, arXiv 1606.08415): x · sigmoid(2 √(2/π) (x + 0.044715 x³))."""
    return x * sigmoid(np.float32(1.5957691216057308) * (x + np.float32(0.044715) * x * x * x))


class Int8Rows(NamedTuple):
    """Quantized rows: ``levels`` int8 ``[R, K]``, ``scales`` and ``offsets`` float32 ``[R]``."""

    levels: Any
    scales: Any
    offsets: Any


class Int8Columns(NamedTuple):
    """Outputs of a weight, float32 ``[N]``: ``scales``, ``totals`` (the sum of each output's
    dequantized weights), and ``bias``."""

    scales: Any
    totals: Any
    bias: Any


class Int8RowKernels(NamedTuple):
    """Compiled passes; each shares its rows among threads by the counters of one phase.

    ``quantize(rows, quantized, counting)``
    ``rescale(sums, given, columns, residual, into, counting)``
    ``gelu_quantize(sums, given, columns, quantized, counting)``
    ``swiglu_quantize(sums, given, columns, quantized, counting)``

    ``rows``, ``residual`` and ``into`` are float32 or bfloat16 (bits as uint16); ``sums`` int32
    ``[R, N]`` are those of the rows ``given``; ``quantized`` is written. An empty ``residual`` is
    left out. ``swiglu_quantize`` takes the two halves of a row as gate and up projection.
    """

    quantize: JitFunction
    rescale: JitFunction
    gelu_quantize: JitFunction
    swiglu_quantize: JitFunction


@jit_callee
def rescaled(sums: Any, given: Any, columns: Any, r: int, i: int) -> Any:
    """Output ``i`` of row ``r`` in float32, bias included."""
    scaled = np.float32(sums[r, i]) * (given.scales[r] * columns.scales[i])
    return scaled + given.offsets[r] * columns.totals[i] + columns.bias[i]


@jit_callee
def _parts(rows: Any) -> int:
    """Number of parts that threads claim."""
    return (rows.shape[0] + _ROWS_PER_PART - 1) // _ROWS_PER_PART


@jit_callee
def _rows_of(part: int, rows: Any) -> Any:
    """Rows of a part."""
    first = part * _ROWS_PER_PART
    return range(first, min(first + _ROWS_PER_PART, rows.shape[0]))


@lru_cache
def build_int8_rows(*, kept: bool = True) -> Int8RowKernels:
    """Build the kernels; for the checksum see ``build_decode``."""
    compiled = jit_cached if kept else jit
    quantize, rescale = _build_quantize_and_rescale()
    gelu_quantize, swiglu_quantize = _build_activations()
    return Int8RowKernels(
        compiled(quantize), compiled(rescale), compiled(gelu_quantize), compiled(swiglu_quantize)
    )


def _build_quantize_and_rescale() -> tuple[JitFunction, JitFunction]:
    """Build the passes of a linear layer."""
    checksum = source_checksum()

    def int8_quantize(rows: Any, quantized: Int8Rows, counting: Any) -> int:
        counters, parts = counting.ctypes.data, _parts(rows)
        wide = np.empty(rows.shape[1], np.float32)
        while True:
            part = claim(counters, 0, parts)
            if part < 0:
                wait_for_phase(counters, 0, parts)
                return checksum
            for r in _rows_of(part, rows):
                for i in range(rows.shape[1]):
                    wide[i] = to_float32(rows[r, i])
                quantize_row(wide, quantized.levels[r], quantized.scales, quantized.offsets, r)
            mark_done(counters, 0)

    def int8_rescale(
        sums: Any, given: Int8Rows, columns: Int8Columns, residual: Any, into: Any, counting: Any
    ) -> int:
        counters, parts = counting.ctypes.data, _parts(sums)
        while True:
            part = claim(counters, 0, parts)
            if part < 0:
                wait_for_phase(counters, 0, parts)
                return checksum
            for r in _rows_of(part, sums):
                if residual.shape[0]:
                    for i in range(sums.shape[1]):
                        value = rescaled(sums, given, columns, r, i)
                        into[r, i] = to_storage_dtype(value + to_float32(residual[r, i]), into)
                else:
                    for i in range(sums.shape[1]):
                        value = rescaled(sums, given, columns, r, i)
                        into[r, i] = to_storage_dtype(value, into)
            mark_done(counters, 0)

    return int8_quantize, int8_rescale


def _build_activations() -> tuple[JitFunction, JitFunction]:
    """Build the passes between the two products of an MLP."""
    checksum = source_checksum()

    def int8_gelu_quantize(
        sums: Any, given: Int8Rows, columns: Int8Columns, quantized: Int8Rows, counting: Any
    ) -> int:
        counters, parts = counting.ctypes.data, _parts(sums)
        wide = np.empty(sums.shape[1], np.float32)
        while True:
            part = claim(counters, 0, parts)
            if part < 0:
                wait_for_phase(counters, 0, parts)
                return checksum
            for r in _rows_of(part, sums):
                for i in range(sums.shape[1]):
                    wide[i] = gelu(rescaled(sums, given, columns, r, i))
                quantize_row(wide, quantized.levels[r], quantized.scales, quantized.offsets, r)
            mark_done(counters, 0)

    def int8_swiglu_quantize(
        sums: Any, given: Int8Rows, columns: Int8Columns, quantized: Int8Rows, counting: Any
    ) -> int:
        counters, parts = counting.ctypes.data, _parts(sums)
        width = sums.shape[1] // 2
        wide = np.empty(width, np.float32)
        while True:
            part = claim(counters, 0, parts)
            if part < 0:
                wait_for_phase(counters, 0, parts)
                return checksum
            for r in _rows_of(part, sums):
                for i in range(width):
                    gate = rescaled(sums, given, columns, r, i)
                    up = rescaled(sums, given, columns, r, width + i)
                    wide[i] = gate * sigmoid(gate) * up
                quantize_row(wide, quantized.levels[r], quantized.scales, quantized.offsets, r)
            mark_done(counters, 0)

    return int8_gelu_quantize, int8_swiglu_quantize
