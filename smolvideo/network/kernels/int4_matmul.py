"""Multiply int4 weights with the activations of a few tokens, on any CPU.

The weights are packed as ``Int4Packing`` says: tiles of 64 or 32 rows, in which each byte holds two
quantized values of one input. The low nibble belongs to a row in the first half of the tile, the
high nibble to the row half a tile further.
"""

from typing import Any

import numpy as np

from smolvideo.network.kernels.jit import JitFunction, jit
from smolvideo.network.kernels.memory import array_from_address

GROUP, ZERO_POINT = 32, 8
"""As ``GROUP_SIZE`` and the zero point of ``network.int4``."""


@jit
def int4_matmul(matrix: Any, layer: int, first: int, last: int, vectors: Any, into: Any) -> None:
    """Add the product of rows ``first`` to ``last`` and ``vectors`` ``[B, in]`` to ``into``
    ``[B, out]``."""
    size, groups = matrix.tile, matrix.inputs // GROUP
    numbers = np.empty((GROUP, size), np.float32)
    tiles = array_from_address(
        matrix.weights[layer],
        (matrix.outputs // size, groups, GROUP, size // 2),
        matrix.dtype_witness,
    )
    scales = array_from_address(
        matrix.scales[layer], (groups, matrix.outputs), matrix.scale_dtype_witness
    )
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

    @jit
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


@jit
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


@jit
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


@jit
def low_nibble(both: Any) -> Any:
    """Return the quantized value in the low nibble, as float32."""
    return np.float32(np.int32(both & np.uint8(15)))


@jit
def high_nibble(both: Any) -> Any:
    """Return the quantized value in the high nibble, as float32."""
    return np.float32(np.int32(both >> np.uint8(4)))


@jit
def unpack_scale(both: Any) -> Any:
    """Return the bfloat16 in the lower half of 32 bits, as float32."""
    return np.uint32(both << np.uint32(16)).view(np.float32)


@jit
def unpack_offset(both: Any) -> Any:
    """Return the bfloat16 in the upper half of 32 bits, as float32."""
    return np.uint32(both & np.uint32(0xFFFF0000)).view(np.float32)
