"""Weights as int8 levels with one scale for each output: half the memory of bfloat16.

Symmetric, rounded to nearest: ``weight[o] ≈ levels[o] * scales[o]``. What is multiplied with them
stays in the running dtype, so nothing has to be calibrated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

_LARGEST_LEVEL = 127
"""One of the 256 is left out, so that a weight and its negative differ in the sign alone."""

_BLOCK = 16
"""torch's operator reads so many inputs at a time and, where they are no multiple of it, past
their end; the published widths all are."""

_FEW_ROWS = 32
"""Up to so many rows torch's operator is the faster way, above it a matrix made anew for each
product. Measured in turns on one core with AVX512-BF16, against packed bfloat16 weights: the
operator takes 0.9 to 1.1 times as long for one row and 2.1 to 2.9 times for 32, the matrix made
anew 4 to 18 times and 2.1 to 6.6 times; for 2,048 rows it is 0.9 to 1.2 times."""


@dataclass(frozen=True)
class Int8Weight:
    """``levels`` int8 ``[out, in]`` and ``scales`` ``[out]`` in the dtype that is multiplied in."""

    levels: Tensor
    scales: Tensor

    @classmethod
    def of(cls, weight: Tensor, dtype: torch.dtype) -> "Int8Weight":
        """``weight`` ``[out, in]`` of any floating dtype, each number at most half a scale off.

        A scale rounded to bfloat16 is off by 2⁻⁹ at most, which leaves the largest weight of its
        row at level 127.25 or less: it still rounds to 127.
        """
        weight = weight.detach().float()
        scales = (weight.abs().amax(dim=1) / _LARGEST_LEVEL).to(dtype)
        # A row of zeros, or of numbers so small that their scale would not be a normal one.
        scales = torch.where(scales < torch.finfo(dtype).tiny, torch.ones_like(scales), scales)
        levels = (weight / scales.float()[:, None]).round_()
        levels = levels.clamp_(-_LARGEST_LEVEL, _LARGEST_LEVEL).to(torch.int8)
        return cls(levels, scales)

    @property
    def nbytes(self) -> int:
        return self.levels.nbytes + self.scales.nbytes

    def dequantised(self) -> Tensor:
        """``[out, in]`` in the dtype of the scales."""
        return self.levels.to(self.scales.dtype).mul_(self.scales[:, None])

    def suits(self, x: Tensor) -> bool:
        """Whether ``times`` is faster than a product with ``dequantised``, for the rows of
        ``x``."""
        return x.numel() // x.shape[-1] <= _FEW_ROWS and x.shape[-1] % _BLOCK == 0

    def times(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """``[..., in]`` → ``[..., out]``, as ``F.linear`` with the weights."""
        if not self.suits(x):
            return F.linear(x, self.dequantised(), bias)
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        product = torch._weight_int8pack_mm(rows, self.levels, self.scales)
        if bias is not None:
            product += bias
        return product.view(*x.shape[:-1], -1)


def stacked(parts: Sequence[Int8Weight]) -> Int8Weight:
    """The rows of ``parts``, one after the other."""
    return Int8Weight(
        torch.cat([part.levels for part in parts]), torch.cat([part.scales for part in parts])
    )


@cache
def can_multiply_int8(dtype: torch.dtype) -> bool:
    """Whether this torch multiplies rows in ``dtype`` with int8 weights on the CPU, and rightly."""
    if dtype not in (torch.bfloat16, torch.float32):
        return False
    random = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=random) for shape in ((3, 64), (48, 64)))
    x, quantised = x.to(dtype), Int8Weight.of(weight, dtype)
    try:
        with torch.inference_mode():
            got = quantised.times(x, None)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):  # another torch
        return False
    close = 0.1 if dtype is torch.bfloat16 else 1e-4
    return torch.allclose(
        got.float(), F.linear(x, quantised.dequantised()).float(), rtol=close, atol=close
    )
