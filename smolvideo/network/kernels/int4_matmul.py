"""Multiply int4 weights with the activations of a few tokens, on any CPU or with AVX512-BF16.

The weights are packed as ``Int4Packing`` says: tiles of 64 or 32 rows, in which each byte holds two
quantized values of one input. The low nibble belongs to a row in the first half of the tile, the
high nibble to the row half a tile further.

AVX512-BF16 is four to six times as fast: one instruction turns a quantized value into a bfloat16
(0x4300 with the value in its last bits is 128 + value). Activations are rounded to bfloat16, as
torch's own operator does.
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
from smolvideo.network.kernels.jit import JitFunction, jit_callee
from smolvideo.network.kernels.work_sharing import address_of, array_from_address

GROUP, ZERO_POINT = 32, 8
"""As ``INT4_GROUP_SIZE`` and the zero point of ``network.quantized``."""


@jit_callee
def int4_matmul(matrix: Any, layer: int, first: int, last: int, vectors: Any, into: Any) -> None:
    """Add the product of rows ``first`` to ``last`` and ``vectors`` ``[B, in]`` to ``into``
    ``[B, out]``."""
    size, groups = matrix.tile, matrix.inputs // GROUP
    numbers = np.empty((GROUP, size), np.float32)
    tiles = array_from_address(
        matrix.weights[layer],
        (matrix.outputs // size, groups, GROUP, size // 2),
        matrix.weights_like,
    )
    scales = array_from_address(matrix.scales[layer], (groups, matrix.outputs), matrix.scales_like)
    for tile in range(first // size, last // size):
        its_rows = slice(tile * size, (tile + 1) * size)
        for group in range(groups):
            its_inputs = slice(group * GROUP, (group + 1) * GROUP)
            levels, its_scales = tiles[tile, group], scales[group][its_rows]
            if vectors.shape[0] == 1:
                # one token: multiply the nibbles directly
                inputs, rows = vectors[0][its_inputs], into[0][its_rows]
                if size == 64:
                    int4_tile_64(levels, its_scales, inputs, numbers[0], rows)
                else:
                    int4_tile_32(levels, its_scales, inputs, numbers[0], rows)
            else:
                # several tokens: dequantize once for all
                dequantize_group(levels, its_scales, numbers)
                for b in range(vectors.shape[0]):
                    accumulate_columns(numbers, vectors[b][its_inputs], into[b][its_rows])


def _adding_levels_of(size: int) -> JitFunction:
    """Build the kernel for tiles of ``size`` rows: LLVM unrolls loops of a known length."""
    half = size // 2

    @jit_callee
    def add_levels(levels: Any, scales: Any, inputs: Any, sums: Any, into: Any) -> None:
        """Add ``levels`` ``[32, size / 2]`` times ``inputs`` ``[32]`` to the rows of a tile,
        ``into``.

        Each of ``scales`` ``[size]`` has a bfloat16 scale in its lower half and an offset in the
        upper. ``sums`` ``[size]`` is scratch memory.
        """
        # sum of the inputs, which zero point and offset are multiplied with
        total = np.float32(0)
        for i in range(GROUP):
            total += inputs[i]
        for r in range(size):
            sums[r] = np.float32(0)
        # products of the quantized values, four inputs at a time
        for i in range(0, GROUP, 4):
            a, b, c, d = inputs[i], inputs[i + 1], inputs[i + 2], inputs[i + 3]
            for r in range(half):
                one, two = levels[i, r], levels[i + 1, r]
                three, four = levels[i + 2, r], levels[i + 3, r]
                sums[r] += (
                    low_nibble(one) * a
                    + low_nibble(two) * b
                    + low_nibble(three) * c
                    + low_nibble(four) * d
                )
                sums[half + r] += (
                    high_nibble(one) * a
                    + high_nibble(two) * b
                    + high_nibble(three) * c
                    + high_nibble(four) * d
                )
        # weight = (quantized value − zero point) · scale + offset
        middle = np.float32(ZERO_POINT) * total
        for r in range(size):
            into[r] += (sums[r] - middle) * unpack_scale(scales[r]) + total * unpack_offset(
                scales[r]
            )

    return add_levels


int4_tile_64, int4_tile_32 = _adding_levels_of(64), _adding_levels_of(32)


@jit_callee
def dequantize_group(levels: Any, scales: Any, into: Any) -> None:
    """Dequantize a group of inputs, ``into`` ``[32, size]``."""
    half = levels.shape[1]
    for i in range(GROUP):
        upper, lower = into[i][:half], into[i][half:]
        for r in range(half):
            upper[r] = low_nibble(levels[i, r])
            lower[r] = high_nibble(levels[i, r])
        for r in range(2 * half):
            level = into[i, r] - np.float32(ZERO_POINT)
            into[i, r] = level * unpack_scale(scales[r]) + unpack_offset(scales[r])


@jit_callee
def accumulate_columns(numbers: Any, inputs: Any, into: Any) -> None:
    """Add the weights ``numbers`` ``[32, R]`` times ``inputs`` ``[32]`` to ``into`` ``[R]``."""
    for i in range(0, numbers.shape[0], 4):
        a, b, c, d = inputs[i], inputs[i + 1], inputs[i + 2], inputs[i + 3]
        for r in range(into.shape[0]):
            into[r] += (
                numbers[i, r] * a
                + numbers[i + 1, r] * b
                + numbers[i + 2, r] * c
                + numbers[i + 3, r] * d
            )


@jit_callee
def low_nibble(both: Any) -> Any:
    """Return the quantized value in the low nibble, as float32."""
    return np.float32(np.int32(both & np.uint8(15)))


@jit_callee
def high_nibble(both: Any) -> Any:
    """Return the quantized value in the high nibble, as float32."""
    return np.float32(np.int32(both >> np.uint8(4)))


@jit_callee
def unpack_scale(both: Any) -> Any:
    """Return the bfloat16 in the lower half of 32 bits, as float32."""
    return np.uint32(both << np.uint32(16)).view(np.float32)


@jit_callee
def unpack_offset(both: Any) -> Any:
    """Return the bfloat16 in the upper half of 32 bits, as float32."""
    return np.uint32(both & np.uint32(0xFFFF0000)).view(np.float32)


TILE = 64
"""Rows that are packed together where torch uses AVX-512: each of 32 bytes holds two."""

_NIBBLE_MASK, _BF16_BIAS = 0x000F000F, 0x43004300
_FUSED = ("contract",)
_INT32_TILE = ir.VectorType(ir.IntType(32), TILE)


@jit_callee
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


@jit_callee
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
                    address_of(numbers) + b * numbers.strides[0] + group * GROUP * numbers.itemsize,
                    totals[b, group],
                    address_of(into) + b * into.strides[0] + tile * TILE * into.itemsize,
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
