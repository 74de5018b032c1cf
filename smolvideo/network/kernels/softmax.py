"""Softmax of float32 scores to bfloat16 probabilities, in as few passes as possible."""

from functools import lru_cache
from typing import Any

import numpy as np

from smolvideo.network.kernels.avx512 import to_bfloat16
from smolvideo.network.kernels.elementwise import max_of
from smolvideo.network.kernels.jit import JitFunction, jit, jit_cached, source_checksum

LOG2_E = 1.4426950408889634


@jit
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


@jit
def exp2_and_sum(scores: Any, count: int, factor: Any, largest: Any, weights: Any) -> Any:
    """Write 2^(``factor`` · (score − ``largest``)) of the first ``count`` scores to ``weights``;
    return their sum."""
    total = np.float32(0)
    for t in range(count):
        weight = exp2((scores[t] - largest) * factor)
        total += weight
        weights[t] = to_bfloat16(weight)
    return total


@jit
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
