"""int8 weights with one scale per output: half the memory of bfloat16.

Symmetric, rounded to nearest: ``weight[o] ≈ qweight[o] * scales[o]``. Activations stay in the
running dtype, so no calibration is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

_MAX_LEVEL = 127
"""-128 is left out, so that a weight and its negative differ in the sign alone."""

_MAX_ROWS = 32
"""Maximum rows of activations for ``matmul``; above it the matrix is dequantized for each product.
Measured in turns on one core with AVX512-BF16, against packed weights of the same dtype, widths of
256M to 2.2B. In bfloat16 ``matmul`` takes 0.8 to 1.1 times as long for one row and 2.1 to 2.9 times
for 32, dequantizing 4 to 18 and 2.1 to 6.6 times, and for 2,048 rows 0.9 to 1.2. In float32
``matmul`` takes 1.0 to 1.1 and 1.8 to 2.0 times, dequantizing 1 to 11 and 1.9 to 6.3 times."""

_BLOCK = 16
"""Inputs that torch's operator reads at a time, past their end where their number is no multiple;
all published widths are multiples."""

_MAX_ELEMENTS_PER_CHUNK = 1 << 18
"""Weights that are converted and used before the next: 1 MB of float32 stays in cache."""


@dataclass(frozen=True)
class Int8Weight:
    """``qweight`` int8 ``[out, in]`` and ``scales`` ``[out]`` in the dtype of the activations."""

    qweight: Tensor
    scales: Tensor

    @classmethod
    def from_float(cls, weight: Tensor, dtype: torch.dtype) -> "Int8Weight":
        """Quantize ``weight`` ``[out, in]`` of any floating dtype; the error is at most half a
        scale.

        A scale rounded to bfloat16 is off by 2⁻⁹ at most, which leaves the largest weight of its
        row at 127.25 scales or less: it still rounds to 127.
        """
        levels = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
        scales = torch.empty(weight.shape[0], dtype=dtype, device=weight.device)
        # In chunks: a float32 copy of a whole head would take noticeable memory.
        at_once = max(1, _MAX_ELEMENTS_PER_CHUNK // weight.shape[1])
        parts = (whole.split(at_once) for whole in (weight.detach(), levels, scales))
        for part, its_levels, its_scales in zip(*parts, strict=True):
            exact = part.float()
            scale = (exact.abs().amax(dim=1) / _MAX_LEVEL).to(dtype)
            # A row of zeros, or of weights whose scale would be subnormal: scale 1.
            scale = torch.where(scale < torch.finfo(dtype).tiny, torch.ones_like(scale), scale)
            rounded = (exact / scale.float()[:, None]).round_()
            its_levels.copy_(rounded.clamp_(-_MAX_LEVEL, _MAX_LEVEL))
            its_scales.copy_(scale)
        return cls(levels, scales)

    @classmethod
    def cat(cls, parts: Sequence["Int8Weight"]) -> "Int8Weight":
        """Concatenate the rows of ``parts``."""
        levels = torch.cat([part.qweight for part in parts])
        return cls(levels, torch.cat([part.scales for part in parts]))

    @property
    def nbytes(self) -> int:
        return self.qweight.nbytes + self.scales.nbytes

    def dequantize(self) -> Tensor:
        """Return the weights ``[out, in]`` in the dtype of the scales."""
        return self.qweight.to(self.scales.dtype).mul_(self.scales[:, None])

    def is_fast_for(self, x: Tensor) -> bool:
        """Whether ``x`` has so few rows that ``matmul`` is faster than dequantizing."""
        return x.numel() // x.shape[-1] <= _MAX_ROWS

    def matmul(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Multiply ``[..., in]`` → ``[..., out]`` as ``F.linear`` does, for few rows."""
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        if x.shape[-1] % _BLOCK == 0 and has_int8_matmul(x.dtype):
            product = torch._weight_int8pack_mm(rows, self.qweight, self.scales)
        else:
            product = self._times_in_parts(rows)
        if bias is not None:
            product += bias
        return product.view(*x.shape[:-1], -1)

    def _times_in_parts(self, rows: Tensor) -> Tensor:
        """Convert and multiply the weights chunk by chunk."""
        product = rows.new_empty(rows.shape[0], self.qweight.shape[0])
        at_once = max(1, _MAX_ELEMENTS_PER_CHUNK // self.qweight.shape[1])
        parts = self.qweight.split(at_once), product.split(at_once, dim=1)
        for levels, place in zip(*parts, strict=True):
            place.copy_(rows @ levels.to(rows.dtype).t())
        return product.mul_(self.scales)


@cache
def has_int8_matmul(dtype: torch.dtype) -> bool:
    """Whether this torch has a CPU operator for int8 weights and activations in ``dtype`` that is
    fast and correct."""
    if dtype is not torch.bfloat16:
        return False  # scalar in float32, 4 to 50 times as long as packed weights
    random = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=random) for shape in ((3, 64), (48, 64)))
    x, quantized = x.to(dtype), Int8Weight.from_float(weight, dtype)
    try:
        with torch.inference_mode():
            got = torch._weight_int8pack_mm(x, quantized.qweight, quantized.scales)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):  # another torch
        return False
    expected = F.linear(x, quantized.dequantize())
    return torch.allclose(got.float(), expected.float(), rtol=0.1, atol=0.1)
