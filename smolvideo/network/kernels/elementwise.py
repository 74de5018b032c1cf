"""Dtype conversion and elementwise operations in float32: exp, max, RMSNorm, SwiGLU, RoPE.

Softmax takes float32 scores to bfloat16 probabilities, in as few passes as possible.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from smolvideo.network.kernels.avx512 import to_bfloat16
from smolvideo.network.kernels.jit import (
    JitFunction,
    jit,
    jit_cached,
    jit_callee,
    overload_by_type,
    source_checksum,
)


@overload_by_type
def to_float32(kept: Any) -> Any:
    """Convert bfloat16 (bits as uint16), int8 or float32 to float32."""

    def widened(kept: Any) -> Any:
        """bfloat16 is the upper half of a float32."""
        return np.uint32(np.uint32(kept) << np.uint32(16)).view(np.float32)

    def converted(kept: Any) -> Any:
        return np.float32(kept)

    return widened if kept == types.uint16 else converted


@overload_by_type
def to_storage_dtype(number: Any, like: Any) -> Any:
    """Convert float32 to the dtype of the array ``like``: bfloat16 (bits as uint16) or float32."""

    def rounded(number: Any, like: Any) -> Any:
        """Round to nearest, ties to even."""
        bits = np.float32(number).view(np.uint32)
        upper = bits >> np.uint32(16)
        return np.uint16((bits + np.uint32(0x7FFF) + (upper & np.uint32(1))) >> np.uint32(16))

    def converted(number: Any, like: Any) -> Any:
        return np.float32(number)

    return rounded if like.dtype == types.uint16 else converted


@jit_callee
def exp(x: Any) -> Any:
    """eˣ of a float32, vectorizable, at most 2 units in the last place off.

    x = n · ln 2 + r; eʳ by the polynomial of Cephes (S. Moshier, ``expf``). x is clamped to −87…88;
    NaN stays NaN.
    """
    x = np.float32(-87) if x < np.float32(-87) else x
    x = np.float32(88) if x > np.float32(88) else x
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + np.float32(1)
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return p * power


@intrinsic
def fmax(typing_context: Any, one: Any, other: Any) -> Any:
    """Maximum of two float32, NaN if one is NaN. Reductions with it vectorize; with comparisons
    they would not."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = ir.FloatType()
        function = ir.FunctionType(number, (number, number))
        maximum = builder.module.declare_intrinsic("llvm.maximum", (number,), function)
        return builder.call(maximum, arguments)

    return types.float32(types.float32, types.float32), build


@jit_callee
def max_of(numbers: Any, count: int) -> Any:
    """Maximum of the first ``count`` elements; NaN if one is NaN."""
    largest = numbers[0]
    for t in range(count):
        largest = fmax(largest, numbers[t])
    return largest


@jit_callee
def rms_norm(rows: Any, weights: Any, epsilon: Any, out: Any) -> None:
    """RMSNorm (arXiv 1910.07467) of ``rows`` ``[B, D]``, times ``weights`` ``[D]``, into
    ``out``."""
    width = rows.shape[1]
    for b in range(rows.shape[0]):
        squares = np.float32(0)
        for i in range(width):
            squares += rows[b, i] * rows[b, i]
        factor = np.float32(1) / np.sqrt(squares / np.float32(width) + epsilon)
        for i in range(width):
            out[b, i] = rows[b, i] * factor * weights[i]


@jit_callee
def swiglu(both: Any, out: Any) -> None:
    """SwiGLU: the first half of ``both`` ``[B, 2 I]`` through SiLU, times the second half, into
    ``out``."""
    width = out.shape[1]
    for b in range(both.shape[0]):
        for i in range(width):
            x = both[b, i]
            out[b, i] = x / (np.float32(1) + exp(-x)) * both[b, width + i]


@jit_callee
def apply_rope(head: Any, cosines: Any, sines: Any, factor: Any, out: Any) -> None:
    """Rotate ``head`` ``[d]`` by one row of ``rope_cos_sin`` and scale it by ``factor``, into
    ``out``."""
    half = head.shape[0] // 2
    for i in range(half):
        first, second = head[i], head[half + i]
        out[i] = (first * cosines[i] + second * sines[i]) * factor
        out[half + i] = (second * cosines[half + i] + first * sines[half + i]) * factor


LOG2_E = 1.4426950408889634


@jit_callee
def exp2(x: Any) -> Any:
    """2ˣ of a float32 x ≤ 0, vectorizable; relative error below 3e-6.

    That is a thousandth of what the rounding to bfloat16 loses. x = n + r; 2ʳ by the minimax
    polynomial on −½…½ (fitted; 1 at 0). x is clamped to −126; NaN stays NaN.
    """
    x = np.float32(-126) if x < np.float32(-126) else x
    n = np.floor(x + np.float32(0.5))
    r = x - n
    p = np.float32(9.582854e-3)
    p = p * r + np.float32(5.5906426e-2)
    p = p * r + np.float32(2.4024099e-1)
    p = p * r + np.float32(6.9312418e-1)
    p = p * r + np.float32(1)
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@jit_callee
def exp2_and_sum(scores: Any, count: int, factor: Any, largest: Any, weights: Any) -> Any:
    """Write 2^(``factor`` · (score − ``largest``)) of the first ``count`` scores to ``weights``;
    return their sum."""
    total = np.float32(0)
    for t in range(count):
        weight = exp2((scores[t] - largest) * factor)
        total += weight
        weights[t] = to_bfloat16(weight)
    return total


@jit_callee
def softmax_row(scores: Any, weights: Any) -> None:
    """Softmax of one row, normalized; ``scores`` is overwritten."""
    count = scores.shape[0]
    largest, total = max_of(scores, count), np.float32(0)
    for t in range(count):
        scores[t] = exp2((scores[t] - largest) * np.float32(LOG2_E))
        total += scores[t]
    share = np.float32(1) / total
    for t in range(count):
        weights[t] = to_bfloat16(scores[t] * share)


def softmax_for_any(*, kept: bool) -> tuple[JitFunction, tuple[Any, ...]]:
    """Build the kernel for whole rows, see ``KernelBuild``; the arguments have no rows."""
    scores, weights = np.empty((0, 1), np.float32), np.empty((0, 1), np.uint16)
    return build_softmax(kept=kept), (scores, weights)


@lru_cache
def build_softmax(*, kept: bool = True) -> JitFunction:
    """Build the kernel for whole rows; for the checksum see ``build_decode``."""
    checksum = source_checksum()

    def soften(scores: Any, weights: Any) -> int:
        """Softmax of ``scores`` ``[R, T]`` (overwritten) into ``weights`` ``[R, T]``, bfloat16 bits
        as uint16."""
        for r in range(scores.shape[0]):
            softmax_row(scores[r], weights[r])
        return checksum

    return jit_cached(soften) if kept else jit(soften)
