"""Softmax of scores in float32 into weights in bfloat16, in as few passes as there can be."""

from functools import lru_cache
from typing import Any

import numpy as np

from smolvideo.network.kernels.avx512 import to_bfloat16
from smolvideo.network.kernels.elementwise import max_of
from smolvideo.network.kernels.jit import JitFunction, jit, jit_cached, source_checksum

LOG2_E = 1.4426950408889634


@jit
def exp2(x: Any) -> Any:
    """2ˣ of a float32 that is 0 or less, for many numbers at once; a relative error below 3e-6, a
    thousandth of what is lost when it becomes a bfloat16.

    x = n + r; 2ʳ by the polynomial of the least largest error for r in −½…½ (fitted; 1 at 0).
    Numbers below −126 count as −126; NaN stays NaN.
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
    """The first ``count`` of ``weights``: 2 to the power of ``factor`` times what the scores are
    less than the ``largest``; their sum."""
    total = np.float32(0)
    for t in range(count):
        weight = exp2((scores[t] - largest) * factor)
        total += weight
        weights[t] = to_bfloat16(weight)
    return total


@jit
def softmax_row(scores: Any, weights: Any) -> None:
    """All of a row, whose weights add up to 1."""
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
    """The function for whole rows; see ``token.reader``."""
    checksum = source_checksum()

    def soften(scores: Any, weights: Any) -> int:
        """``scores`` ``[R, T]``, which do not stay, into ``weights`` ``[R, T]``, bfloat16 told as
        uint16."""
        for r in range(scores.shape[0]):
            softmax_row(scores[r], weights[r])
        return checksum

    return jit_cached(soften) if kept else jit(soften)
