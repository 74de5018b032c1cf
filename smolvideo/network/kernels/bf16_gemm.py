"""Tiled GEMM of bfloat16 matrices with float32 accumulation, for CPUs with AVX512-BF16.

A tile has as many sums as the registers hold. They stay in registers over the whole inner
dimension, and each loaded element serves many products.
"""

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from smolvideo.network.kernels.avx512 import (
    FLOATS,
    INT64,
    INTS,
    LANES,
    NUMBER_BYTES,
    REGISTER_BYTES,
    broadcast_load_32,
    dpbf16ps,
    load,
    store,
)
from smolvideo.network.kernels.jit import JitFunction


def build_gemm_tile(rows: int, registers: int, *, adds: bool) -> JitFunction:
    """Build the GEMM kernel for tiles of ``rows`` rows and 16 · ``registers`` columns.

    With ``adds`` it adds to the output, else it overwrites it.
    """

    @intrinsic
    def multiply_tile(
        typing_context: Any,
        left: Any,
        left_stride: Any,
        right: Any,
        steps: Any,
        into: Any,
        into_stride: Any,
    ) -> Any:
        """Multiply ``left`` ``[rows, 2 steps]`` by ``right`` into ``into`` ``[rows, columns]``,
        float32.

        ``right`` is ``[steps, columns, 2]``, contiguous: the two elements of a column that meet a
        pair of ``left`` are adjacent. All three are addresses; strides are in bytes.
        """

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _build_tile(builder, rows, registers, adds, arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), build

    return multiply_tile


def _build_tile(builder: Any, rows: int, registers: int, adds: bool, arguments: Any) -> None:
    """Emit the instructions of ``multiply_tile`` for its ``arguments``."""
    left, left_stride, right, steps, into, into_stride = arguments

    def behind(address: Any, count: Any, stride: Any) -> Any:
        return builder.add(address, builder.mul(count, stride))

    # accumulators: LLVM promotes these stack slots to registers
    sums = {}
    for row in range(rows):
        for register in range(registers):
            place = behind(into, INT64(row), into_stride), register * REGISTER_BYTES
            first = load(builder, *place, FLOATS) if adds else FLOATS([0.0] * LANES)
            sums[row, register] = cgutils.alloca_once(builder, FLOATS)
            builder.store(first, sums[row, register])
    # inner dimension: one bfloat16 pair per row and column a step
    with cgutils.for_range(builder, steps) as loop:
        pairs = behind(left, loop.index, INT64(NUMBER_BYTES))
        step = behind(right, loop.index, INT64(registers * REGISTER_BYTES))
        columns = [
            load(builder, step, register * REGISTER_BYTES, INTS) for register in range(registers)
        ]
        # broadcast a pair of each row, multiply it with all columns
        for row in range(rows):
            pair = broadcast_load_32(builder, behind(pairs, INT64(row), left_stride))
            for register in range(registers):
                held = sums[row, register]
                more = dpbf16ps(builder, builder.load(held), pair, columns[register])
                builder.store(more, held)
    # write the tile
    for (row, register), held in sums.items():
        place = behind(into, INT64(row), into_stride), register * REGISTER_BYTES
        store(builder, builder.load(held), *place)
