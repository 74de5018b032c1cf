"""Weights quantized to int4 and int8, with the products that read them.

int4: 32 weights share a scale and an offset, a third of bfloat16's memory.
``weight[o, i] ≈ (qweight[o, i] − 8) * scale + offset``, scale and offset by least squares.

int8: one scale per output, half the memory of bfloat16. Symmetric, rounded to nearest:
``weight[o] ≈ qweight[o] * scales[o]``.

Activations are not quantized, so no calibration is needed.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from smolvideo.models.weight_formats import INT4_GROUP_SIZE, INT4_TILE

_LARGEST_LEVEL, _ZERO_POINT = 15, 8

_FITTINGS = 2
"""Times that scale and offset of a group are fitted to its quantized values. Of normal weights the
square error falls by 8 %, 12 % and 13 % with 1, 2 and 3; loading 2.2B takes 5 s longer for each."""

_INT4_MAX_ROWS = 128
"""Maximum rows of activations for the int4 operator; above it the matrix is dequantized for each
product. Measured on one core with AVX512-BF16, widths of 2.2B, against packed weights in bfloat16:
the operator takes 0.5 times as long for one row, 0.9 for 4, 1.3 for 8 and 2 to 3 for 24 to 64;
dequantizing takes 5 times as long for 64 and 1.3 for 2,048."""

_SCALE_DTYPE = torch.bfloat16
"""Dtype of scales and offsets, and of the activations of the int4 operator, whatever the running
dtype: in float32 torch's operator took 400 times as long for 64 rows."""

_MIN_SCALE = torch.finfo(_SCALE_DTYPE).tiny

_MAX_ELEMENTS_PER_CHUNK = 1 << 18
"""Weights that are quantized or multiplied at a time (of int4, at least a tile of rows): 1 MB of
float32 stays in cache."""


@dataclass(frozen=True)
class Int4Packing:
    """Layout that torch's operator reads: tiles of ``rows`` rows, input by input, two rows per
    byte.

    The low nibble belongs to a row in the first half of the tile, the high nibble to the row half a
    tile further.
    """

    rows: int

    def pack(self, levels: Tensor) -> Tensor:
        """Pack quantized values ``[out, in]``, a byte each, to ``[out, in / 2]``."""
        tiles = levels.view(-1, 2, self.rows // 2, levels.shape[1])
        low, high = tiles.permute(0, 3, 1, 2).unbind(2)
        return (low | high << 4).reshape(levels.shape[0], -1)

    def unpack(self, packed: Tensor, dtype: torch.dtype) -> Tensor:
        """Unpack ``[out, in / 2]`` to ``[in, out]`` in ``dtype``: transposed, so that whole runs of
        rows are copied."""
        tiles = packed.view(-1, packed.shape[1] * 2, self.rows // 2).transpose(0, 1)
        levels = torch.empty((*tiles.shape[:2], self.rows), dtype=dtype, device=packed.device)
        low, high = levels.chunk(2, dim=2)
        low.copy_(tiles & 15)
        high.copy_(tiles >> 4)
        return levels.flatten(1)


INT4_PACKINGS = (Int4Packing(64), Int4Packing(32))
"""Layouts of torch's operator on CPUs with AVX-512 and with AVX2. On others the operator is scalar,
and slower than dequantizing the matrix."""


@dataclass(frozen=True)
class Int4Weight:
    """``qweight`` ``[out, in / 2]`` packed by ``int4_packing()``; ``scales``
    ``[in / INT4_GROUP_SIZE, out, 2]``, scale and offset in bfloat16; ``dtype`` of the activations.

    Few rows are always multiplied in bfloat16, so in float32 their products differ from those of
    many rows by bfloat16's rounding.
    """

    qweight: Tensor
    scales: Tensor
    dtype: torch.dtype

    @classmethod
    def from_float(cls, weight: Tensor, dtype: torch.dtype) -> "Int4Weight":
        """Quantize ``weight`` ``[out, in]`` of any floating dtype; its shape must be
        ``is_int4_packable``."""
        out, width = weight.shape
        levels = torch.empty(out, width // 2, dtype=torch.uint8, device=weight.device)
        scales = torch.empty(
            width // INT4_GROUP_SIZE, out, 2, dtype=_SCALE_DTYPE, device=weight.device
        )
        # In chunks: a float32 copy of a whole matrix would take noticeable memory.
        at_once = max(1, _MAX_ELEMENTS_PER_CHUNK // width // INT4_TILE) * INT4_TILE
        parts = (weight.detach().split(at_once), levels.split(at_once), scales.split(at_once, 1))
        for part, its_levels, its_scales in zip(*parts, strict=True):
            groups = part.float().unflatten(1, (-1, INT4_GROUP_SIZE))
            level, scale, offset = _quantize_groups(groups)
            its_levels.copy_(
                int4_packing().pack(level.add_(_ZERO_POINT).to(torch.uint8).flatten(1))
            )
            its_scales.copy_(torch.stack((scale.t(), offset.t()), dim=2))
        return cls(levels, scales, dtype)

    @classmethod
    def cat(cls, parts: Sequence["Int4Weight"]) -> "Int4Weight":
        """Concatenate the rows of ``parts``."""
        levels = torch.cat([part.qweight for part in parts])
        return cls(levels, torch.cat([part.scales for part in parts], dim=1), parts[0].dtype)

    @property
    def nbytes(self) -> int:
        return self.qweight.nbytes + self.scales.nbytes

    def dequantize(self) -> Tensor:
        """Return the weights ``[out, in]``, column-major."""
        numbers = (
            int4_packing().unpack(self.qweight, self.dtype).unflatten(0, (-1, INT4_GROUP_SIZE))
        )
        scale, offset = (part.to(self.dtype).contiguous() for part in self.scales.unbind(2))
        lowest = (offset - scale * _ZERO_POINT).unsqueeze(1)
        torch.addcmul(lowest, numbers, scale.unsqueeze(1), out=numbers)
        return numbers.flatten(0, 1).t()

    def is_fast_for(self, x: Tensor) -> bool:
        """Whether ``x`` has so few rows that ``matmul`` is faster than dequantizing."""
        return x.numel() // x.shape[-1] <= _INT4_MAX_ROWS

    def matmul(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Multiply ``[..., in]`` → ``[..., out]`` as ``F.linear`` does, by torch's int4
        operator."""
        rows = x.reshape(-1, x.shape[-1]).to(_SCALE_DTYPE).contiguous()
        multiply = torch.ops.aten._weight_int4pack_mm_for_cpu
        product: Tensor = multiply(rows, self.qweight, INT4_GROUP_SIZE, self.scales).to(x.dtype)
        if bias is not None:
            product += bias
        return product.view(*x.shape[:-1], -1)


def _quantize_groups(groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantize ``groups`` ``[out, groups, INT4_GROUP_SIZE]``, float32: quantized values minus the
    zero point, scales and offsets ``[out, groups]`` in bfloat16's precision.

    At first the extremes of a group are at the two ends. Then scale and offset are fitted to the
    quantized values by least squares, and the weights rounded anew, as in Lloyd's algorithm; what
    has the smaller square error is kept.
    """
    low, high = groups.amin(2), groups.amax(2)
    scale = _round_scale((high - low) / _LARGEST_LEVEL)
    # Equal weights, or a range below the smallest normal scale: the offset represents all.
    scale = torch.where(scale < _MIN_SCALE, torch.zeros_like(scale), scale)
    offset = _round_scale(low + scale * _ZERO_POINT)
    # in units of this scale, from this offset: squares neither cancel nor overflow
    unit, origin = torch.where(scale == 0, torch.ones_like(scale), scale), offset
    units = (groups - origin.unsqueeze(2)).div_(unit.unsqueeze(2))
    total = units.sum(2)
    level = _nearest_levels(units)
    first, sums = level, _sums(units, level)
    error = _square_error(torch.ones_like(scale), torch.zeros_like(scale), total, *sums)
    for _ in range(_FITTINGS):
        slope, shift = _fit(total, *sums)
        fitted = _round_scale(slope * unit)
        fitted_offset = _round_scale(origin + shift * unit)
        slope, shift = fitted / unit, (fitted_offset - origin) / unit
        level = _nearest_levels((units - shift.unsqueeze(2)).div_(slope.unsqueeze(2)))
        sums = _sums(units, level)
    is_better = _square_error(slope, shift, total, *sums) < error
    is_better &= fitted >= _MIN_SCALE
    scale = torch.where(is_better, fitted, scale)
    offset = torch.where(is_better, fitted_offset, offset)
    return torch.where(is_better.unsqueeze(2), level, first), scale, offset


def _round_scale(scale: Tensor) -> Tensor:
    return scale.to(_SCALE_DTYPE).float()


def _nearest_levels(units: Tensor) -> Tensor:
    """Round to the nearest quantized values, minus the zero point."""
    return units.round().clamp_(-_ZERO_POINT, _LARGEST_LEVEL - _ZERO_POINT)


def _sums(units: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of the quantized values, of their squares, and of their products with the weights."""
    products = torch.linalg.vecdot(level, units)
    return level.sum(2), torch.linalg.vecdot(level, level), products


def _fit(total: Tensor, levels: Tensor, squares: Tensor, products: Tensor) -> tuple[Tensor, Tensor]:
    """Fit scale and offset to weights and quantized values by linear regression."""
    mean = levels / INT4_GROUP_SIZE
    slope = (products - mean * total) / (squares - mean * levels)
    return slope, total / INT4_GROUP_SIZE - slope * mean


def _square_error(
    slope: Tensor,
    shift: Tensor,
    total: Tensor,
    levels: Tensor,
    squares: Tensor,
    products: Tensor,
) -> Tensor:
    """Sum of the square errors of each group, minus the sum of its squares."""
    shifted = shift * (INT4_GROUP_SIZE * shift + 2 * slope * levels - 2 * total)
    return shifted + slope * (slope * squares - 2 * products)


@cache
def int4_packing() -> Int4Packing:
    """Return the layout that torch's operator reads on this CPU; any where ``has_int4_matmul`` is
    false."""
    return next((one for one in INT4_PACKINGS if _is_read_in(one)), INT4_PACKINGS[0])


@cache
def has_int4_matmul() -> bool:
    """Whether this CPU and this torch have an int4 operator that is fast and correct."""
    return is_known_processor() and _is_read_in(int4_packing())


def is_known_processor() -> bool:
    """Whether torch's int4 operator supports the CPU: x86 with AVX2 or AVX-512.

    The operator is registered on every machine; elsewhere it reads another layout, which is not in
    ``INT4_PACKINGS``.
    """
    return platform.machine() in ("x86_64", "AMD64") and (
        torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    )


def _is_read_in(layout: Int4Packing) -> bool:
    """Whether torch's operator multiplies weights in ``layout`` correctly."""
    random = torch.Generator().manual_seed(0)
    levels = torch.randint(
        0, 16, (2 * INT4_TILE, 2 * INT4_GROUP_SIZE), generator=random, dtype=torch.uint8
    )
    scales = torch.rand((2, 2 * INT4_TILE, 2), generator=random).add(0.5).to(_SCALE_DTYPE)
    x = torch.randn((3, 2 * INT4_GROUP_SIZE), generator=random).to(_SCALE_DTYPE)
    try:
        with torch.inference_mode():
            multiply = torch.ops.aten._weight_int4pack_mm_for_cpu
            got = multiply(x, layout.pack(levels), INT4_GROUP_SIZE, scales)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):  # another torch
        return False
    scale, offset = scales.float().permute(2, 1, 0).unsqueeze(3)
    weight = (levels.float().unflatten(1, (-1, INT4_GROUP_SIZE)) - _ZERO_POINT) * scale + offset
    expected = F.linear(x.float(), weight.flatten(1))
    return torch.allclose(got.float(), expected, rtol=0.05, atol=0.5)


_MAX_LEVEL = 127
"""-128 is left out, so that a weight and its negative differ in the sign alone."""

_INT8_MAX_ROWS = 32
"""Maximum rows of activations for ``matmul``; above it the matrix is dequantized for each product.
Measured in turns on one core with AVX512-BF16, against packed weights of the same dtype, widths of
256M to 2.2B. In bfloat16 ``matmul`` takes 0.8 to 1.1 times as long for one row and 2.1 to 2.9 times
for 32, dequantizing 4 to 18 and 2.1 to 6.6 times, and for 2,048 rows 0.9 to 1.2. In float32
``matmul`` takes 1.0 to 1.1 and 1.8 to 2.0 times, dequantizing 1 to 11 and 1.9 to 6.3 times."""

_BLOCK = 16
"""Inputs that torch's operator reads at a time, past their end where their number is no multiple;
all published widths are multiples."""


@dataclass(frozen=True)
class Int8Weight:
    """``qweight`` int8 ``[out, in]`` and ``scales`` ``[out]`` in the dtype of the activations."""

    qweight: Tensor
    scales: Tensor

    @classmethod
    def from_float(
        cls, weight: Tensor, dtype: torch.dtype, max_level: int = _MAX_LEVEL
    ) -> "Int8Weight":
        """Quantize ``weight`` ``[out, in]`` of any floating dtype to levels up to ``max_level``;
        the error is at most half a scale.

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
            scale = (exact.abs().amax(dim=1) / max_level).to(dtype)
            # A row of zeros, or of weights whose scale would be subnormal: scale 1.
            scale = torch.where(scale < torch.finfo(dtype).tiny, torch.ones_like(scale), scale)
            rounded = (exact / scale.float()[:, None]).round_()
            its_levels.copy_(rounded.clamp_(-max_level, max_level))
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
        return x.numel() // x.shape[-1] <= _INT8_MAX_ROWS

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
