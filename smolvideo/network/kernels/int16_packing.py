"""Keys and values of int16 attention, quantized row by row and packed for the tiles of the GEMM."""

from typing import Any, NamedTuple

import numpy as np

from smolvideo.network.kernels.elementwise import fmax
from smolvideo.network.kernels.flash_attention import AttentionShape, StridedRows
from smolvideo.network.kernels.int8_rows import MIN_MAGNITUDE, max_magnitude
from smolvideo.network.kernels.int16_matmul import dot_instruction
from smolvideo.network.kernels.jit import jit_callee
from smolvideo.network.kernels.work_sharing import array_from_address

_VALUE_LEVELS = 2047


@jit_callee
def query_levels(head_dim: int) -> Any:
    """Largest level of queries and keys: ``head_dim`` products of two fit int32."""
    return np.float32(np.floor(np.sqrt(2147483647.0 / head_dim)))


class PackedRows(NamedTuple):
    """Buffers for one KV head of T keys and values: ``keys`` ``[blocks, d / 2, columns of a tile]``
    and ``values`` ``[T / 2, columns]``, pairs of int16 (uint32) of consecutive elements or rows;
    float32 ``key_scales`` and ``value_scales`` ``[T]``."""

    keys: Any
    values: Any
    key_scales: Any
    value_scales: Any


@jit_callee
def _level(number: Any, factor: Any) -> Any:
    """Quantize one float32 to the bits of an int16."""
    return np.uint32(np.int32(np.floor(number * factor + np.float32(0.5)))) & np.uint32(0xFFFF)


@jit_callee
def _interleave(first: Any, second: Any) -> Any:
    """Pack the bits of two int16 into a uint32, as they are in memory one after the other."""
    return first | (second << np.uint32(16))


@jit_callee
def pack_keys(k: StridedRows, group: int, first: int, last: int, laid: PackedRows) -> None:
    """Pack keys ``first`` to ``last``, and store their scales."""
    steps, columns = laid.keys.shape[1:]
    most = query_levels(2 * steps)
    base = k.address + group * k.head
    for start in range(first, last, columns):
        count, block = min(columns, last - start), laid.keys[start // columns]
        scales = laid.key_scales[start : start + count]
        place = base + start * k.row
        if k.row == scales.itemsize:
            _pack_transposed_keys(k, place, most, scales, block)
        else:
            _pack_key_rows(k, place, most, scales, block)


@jit_callee
def _pack_key_rows(k: StridedRows, place: int, most: Any, scales: Any, block: Any) -> None:
    """Pack keys whose elements are contiguous, from ``place`` on, to ``block`` ``[d / 2,
    columns]``."""
    pairs = np.empty(block.shape[0], np.uint32)
    for t in range(scales.shape[0]):
        key = array_from_address(place + t * k.row, (2 * pairs.shape[0],), scales)
        largest = max_magnitude(key)
        factor = most / largest
        scales[t] = largest / most
        for i in range(pairs.shape[0]):
            pairs[i] = _interleave(_level(key[2 * i], factor), _level(key[2 * i + 1], factor))
        for i in range(pairs.shape[0]):
            block[i, t] = pairs[i]


@jit_callee
def _pack_transposed_keys(k: StridedRows, place: int, most: Any, scales: Any, block: Any) -> None:
    """Pack keys of ``PagedKV``, where one element of all keys is contiguous."""
    count = scales.shape[0]
    factors = np.empty(count, np.float32)
    for t in range(count):
        scales[t] = np.float32(MIN_MAGNITUDE)
    for i in range(2 * block.shape[0]):
        element = array_from_address(place + i * k.element_stride, (count,), scales)
        for t in range(count):
            scales[t] = fmax(scales[t], np.abs(element[t]))
    for t in range(count):
        factors[t] = most / scales[t]
        scales[t] /= most
    for i in range(block.shape[0]):
        upper = array_from_address(place + 2 * i * k.element_stride, (count,), scales)
        lower = array_from_address(place + (2 * i + 1) * k.element_stride, (count,), scales)
        for t in range(count):
            block[i, t] = _interleave(_level(upper[t], factors[t]), _level(lower[t], factors[t]))


@jit_callee
def pack_values(
    v: StridedRows, group: int, first: int, last: int, width: int, laid: PackedRows
) -> None:
    """Pack the values of rows ``first`` to ``last``, and store their scales. An odd last row is
    paired with 0."""
    most = np.float32(_VALUE_LEVELS)
    base = v.address + group * v.head
    for row in range(first, last, 2):
        into = laid.values[row // 2]
        upper = array_from_address(base + row * v.row, (width,), laid.value_scales)
        largest = max_magnitude(upper)
        laid.value_scales[row] = largest / most
        factor = most / largest
        if row + 1 == last:
            for i in range(width):
                into[i] = _level(upper[i], factor)
            continue
        lower = array_from_address(base + (row + 1) * v.row, (width,), laid.value_scales)
        largest = max_magnitude(lower)
        laid.value_scales[row + 1] = largest / most
        other = most / largest
        for i in range(width):
            into[i] = _interleave(_level(upper[i], factor), _level(lower[i], other))


def new_packed_rows(shape: AttentionShape) -> PackedRows:
    """Allocate the buffers for attention of ``shape``, zero where they are padded."""
    instruction = dot_instruction()
    assert instruction is not None
    columns = instruction.lanes * instruction.registers
    blocks, width = -(-shape.length // columns), -(-shape.head_dim // columns) * columns
    return PackedRows(
        np.zeros((blocks, shape.head_dim // 2, columns), np.uint32),
        np.zeros(((shape.length + 1) // 2, width), np.uint32),
        np.zeros(blocks * columns, np.float32),
        np.zeros(blocks * columns, np.float32),
    )
