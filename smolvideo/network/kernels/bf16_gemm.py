"""Products of bfloat16 matrices, a tile at a time, for processors that multiply pairs.

A tile is as many sums as registers hold: they stay there while the numbers of both matrices pass,
each of which is then read once for many products.
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
    """A function that multiplies ``rows`` rows with 16 · ``registers`` columns; ``adds``: to what
    there is."""

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
        """``left`` ``[rows, 2 steps]`` times ``right`` into ``into`` ``[rows, columns]``, float32.

        ``right`` is ``[steps, columns, 2]`` without gaps: the two numbers of a column that meet a
        pair of ``left`` lie together. All three are addresses; strides count bytes.
        """

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _build_tile(builder, rows, registers, adds, arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), build

    return multiply_tile


def _build_tile(builder: Any, rows: int, registers: int, adds: bool, arguments: Any) -> None:
    """The instructions of ``multiply_tile`` with its ``arguments``."""
    left, left_stride, right, steps, into, into_stride = arguments

    def behind(address: Any, count: Any, stride: Any) -> Any:
        return builder.add(address, builder.mul(count, stride))

    # LLVM keeps in registers what is written here as variables.
    sums = {}
    for row in range(rows):
        for register in range(registers):
            place = behind(into, INT64(row), into_stride), register * REGISTER_BYTES
            first = load(builder, *place, FLOATS) if adds else FLOATS([0.0] * LANES)
            sums[row, register] = cgutils.alloca_once(builder, FLOATS)
            builder.store(first, sums[row, register])
    with cgutils.for_range(builder, steps) as loop:
        pairs = behind(left, loop.index, INT64(NUMBER_BYTES))
        step = behind(right, loop.index, INT64(registers * REGISTER_BYTES))
        columns = [
            load(builder, step, register * REGISTER_BYTES, INTS) for register in range(registers)
        ]
        for row in range(rows):
            pair = broadcast_load_32(builder, behind(pairs, INT64(row), left_stride))
            for register in range(registers):
                held = sums[row, register]
                more = dpbf16ps(builder, builder.load(held), pair, columns[register])
                builder.store(more, held)
    for (row, register), held in sums.items():
        place = behind(into, INT64(row), into_stride), register * REGISTER_BYTES
        store(builder, builder.load(held), *place)
