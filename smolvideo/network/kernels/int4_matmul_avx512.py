"""Multiply int4 weights with AVX512-BF16: ``int4_matmul``, four to six times as fast.

One instruction turns a quantized value into a bfloat16: 0x4300 with the value in its last bits is
128 + value. Activations are rounded to bfloat16, as torch's own operator does.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from smolvideo.network.kernels.avx512 import (
    BYTES,
    FLOATS,
    INTS,
    LANES,
    NUMBER_BYTES,
    REGISTER_BYTES,
    broadcast,
    broadcast_load_32,
    dpbf16ps,
    load,
    store,
    to_bfloat16,
)
from smolvideo.network.kernels.elementwise import to_float32
from smolvideo.network.kernels.int4_matmul import GROUP, ZERO_POINT
from smolvideo.network.kernels.jit import jit

TILE = 64
"""Rows that are packed together where torch uses AVX-512: each of 32 bytes holds two."""

_NIBBLE_MASK, _BF16_BIAS = 0x000F000F, 0x43004300
_FUSED = ("contract",)
_INT32_TILE = ir.VectorType(ir.IntType(32), TILE)


@jit
def to_bf16_with_group_sums(vectors: Any) -> Any:
    """Convert ``vectors`` ``[B, in]`` to bfloat16 (bits as uint16), and sum each group of inputs,
    ``[B, in / 32]``."""
    count, groups = vectors.shape[0], vectors.shape[1] // GROUP
    numbers = np.empty(vectors.shape, np.uint16)
    totals = np.empty((count, groups), np.float32)
    for b in range(count):
        for group in range(groups):
            total = np.float32(0)
            for i in range(group * GROUP, (group + 1) * GROUP):
                numbers[b, i] = to_bfloat16(vectors[b, i])
                total += to_float32(numbers[b, i])
            totals[b, group] = total
    return numbers, totals


@jit
def int4_matmul_bf16(matrix: Any, layer: int, first: int, last: int, pairs: Any, into: Any) -> None:
    """Add the product of rows ``first`` to ``last`` and the activations to ``into`` ``[B, out]``;
    ``pairs`` is the result of ``to_bf16_with_group_sums``."""
    numbers, totals = pairs
    groups = matrix.inputs // GROUP
    for tile in range(first // TILE, last // TILE):
        for group in range(groups):
            levels = matrix.weights[layer] + (tile * groups + group) * GROUP * TILE // 2
            scales = matrix.scales[layer] + (group * matrix.outputs + tile * TILE) * NUMBER_BYTES
            for b in range(totals.shape[0]):
                int4_tile_bf16(
                    levels,
                    scales,
                    numbers.ctypes.data + b * numbers.strides[0] + group * GROUP * numbers.itemsize,
                    totals[b, group],
                    into.ctypes.data + b * into.strides[0] + tile * TILE * into.itemsize,
                )


@intrinsic
def int4_tile_bf16(
    typing_context: Any, levels: Any, scales: Any, inputs: Any, total: Any, into: Any
) -> Any:
    """Add the product of one group and its ``inputs`` to the 64 rows of a tile, float32 at
    ``into``.

    ``inputs`` are 32 bfloat16 whose sum is ``total``. All arguments but this are addresses.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _build_levels(builder, *arguments)
        return context.get_dummy_value()

    address = types.int64
    return types.void(address, address, address, types.float32, address), build


def _build_levels(
    builder: Any, levels: Any, scales: Any, inputs: Any, total: Any, into: Any
) -> None:
    """Emit the instructions of ``int4_tile_bf16``, two inputs at a time.

    The 64 bytes of two inputs become 32-bit lanes that hold the quantized values of one row for
    both. Even and odd pairs of inputs have accumulators of their own, so that more products are in
    flight.
    """
    quarters = range(TILE // LANES)
    sums = {(quarter, odd): FLOATS([0.0] * LANES) for quarter in quarters for odd in (0, 1)}
    # two inputs at a time: their 64 bytes, and their activations
    for pair in range(GROUP // 2):
        both = load(builder, levels, pair * TILE, BYTES)
        numbers = broadcast_load_32(builder, inputs, pair * NUMBER_BYTES)
        for quarter in quarters:
            half, first = divmod(quarter * LANES, TILE // 2)
            # shuffle: a byte of the first input, 0, a byte of the second input, 0
            places = [
                place
                for row in range(first, first + LANES)
                for place in (row, TILE, TILE // 2 + row, TILE)
            ]
            lanes = builder.shuffle_vector(both, BYTES([0] * TILE), _INT32_TILE(places))
            lanes = builder.bitcast(lanes, INTS)
            # nibbles → pairs of bfloat16, each 128 + quantized value
            if half:
                lanes = builder.lshr(lanes, INTS([4] * LANES))
            lanes = builder.and_(lanes, INTS([_NIBBLE_MASK] * LANES))
            lanes = builder.or_(lanes, INTS([_BF16_BIAS] * LANES))
            place = quarter, pair % 2
            sums[place] = dpbf16ps(builder, sums[place], lanes, numbers)
    # the bias of 128 and the zero point, times the sum of the inputs
    total = broadcast(builder, total, FLOATS)
    too_much = builder.fmul(total, FLOATS([128.0 + ZERO_POINT] * LANES))
    for quarter in quarters:
        # unpack scales and offsets, 16 rows at a time
        kept = load(builder, scales, quarter * REGISTER_BYTES, INTS)
        scale = builder.bitcast(builder.shl(kept, INTS([16] * LANES)), FLOATS)
        offset = builder.bitcast(builder.and_(kept, INTS([0xFFFF0000] * LANES)), FLOATS)
        # (sum − bias) · scale + total · offset, added to the output
        sum_ = builder.fsub(builder.fadd(sums[quarter, 0], sums[quarter, 1]), too_much)
        added = builder.fadd(
            builder.fmul(sum_, scale, flags=_FUSED),
            builder.fmul(total, offset, flags=_FUSED),
            flags=_FUSED,
        )
        row = quarter * REGISTER_BYTES
        before = load(builder, into, row, FLOATS)
        store(builder, builder.fadd(before, added), into, row)
