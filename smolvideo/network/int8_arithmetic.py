"""Linear layers whose weights and activations are int8 (W8A8), and the MLPs made of them.

Weights are quantized per output, activations per row while the network runs (see
``kernels.int8_rows``), so no calibration is needed. int8 × int8 products are summed exactly in
int32 (``torch._int_mm``: oneDNN with VNNI or AMX instructions); norms, softmax, activation
functions and residuals stay in floating point. A row of results depends on its own row of
activations alone, to the bit, however rows are split.

Without VNNI, oneDNN adds pairs of products in 16 bits, which saturates: weights then get 7 bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from smolvideo.network.compilation import CompiledInBackground, counted, has_numba
from smolvideo.network.quantized import Int4Weight, Int8Weight
from smolvideo.network.threads import parallel_call

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from smolvideo.network.kernels.int8_rows import Int8Columns, Int8RowKernels, Int8Rows
    from smolvideo.network.kernels.jit import JitFunction

MIN_ROWS = 16
"""Minimum rows of activations for an int8 product: fewer are a decode step, which waits for memory
and not for arithmetic."""

MAX_LEVEL = 127
"""Largest magnitude of a level of weights and activations."""
_MAX_ACTIVATIONS = 8 << 20
"""int32 sums that exist at a time in an MLP, 32 MB."""


@cache
def int8_weight_levels() -> int | None:
    """Largest weight level whose products this CPU sums exactly: 127, or 63 where pairs of products
    are added in 16 bits. None where torch has no such product, or a wrong one."""
    activations = torch.full((MIN_ROWS, 64), -MAX_LEVEL, dtype=torch.int8)
    activations[::2] = MAX_LEVEL
    for levels in (MAX_LEVEL, MAX_LEVEL // 2):
        weight = torch.full((48, 64), levels, dtype=torch.int8)
        weight[1::2] = -levels
        try:
            with torch.inference_mode():
                got = torch._int_mm(activations, weight.t())
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):  # another torch
            return None
        if torch.equal(got.long(), activations.long() @ weight.long().t()):
            return levels
    return None


@dataclass(frozen=True)
class QuantizedRows:
    """Activations: ``levels`` int8 ``[R, in]``, ``scales`` and ``offsets`` float32 ``[R]``."""

    levels: Tensor
    scales: Tensor
    offsets: Tensor

    @classmethod
    def empty(cls, rows: int, width: int) -> "QuantizedRows":
        levels = torch.empty(rows, width, dtype=torch.int8)
        return cls(levels, torch.empty(rows), torch.empty(rows))


@dataclass(frozen=True)
class Int8Product:
    """A linear layer: ``levels`` int8 ``[out, in]``; float32 ``[out]``: ``scales``, ``totals``
    (sums of the dequantized weights of an output), and ``bias``."""

    levels: Tensor
    scales: Tensor
    totals: Tensor
    bias: Tensor

    @classmethod
    def from_float(cls, weight: Tensor, bias: Tensor | None = None) -> "Int8Product":
        """Quantize ``weight`` ``[out, in]`` of any floating dtype."""
        most = int8_weight_levels() or MAX_LEVEL
        product = cls.from_quantized(Int8Weight.from_float(weight, torch.float32, max_level=most))
        return product if bias is None else product.with_bias(bias)

    @classmethod
    def from_quantized(cls, quantized: Int8Weight) -> "Int8Product":
        """Share the levels of ``quantized``; sums must not saturate with them, see
        ``int8_weight_levels``."""
        scales = quantized.scales.float()
        totals = quantized.qweight.sum(dim=1, dtype=torch.int32).float() * scales
        return cls(quantized.qweight, scales, totals, torch.zeros_like(scales))

    def shares(self, quantized: Int8Weight | Int4Weight | None) -> bool:
        """Whether the levels are those of ``quantized``, in the same memory."""
        if not isinstance(quantized, Int8Weight):
            return False
        return self.levels.data_ptr() == quantized.qweight.data_ptr()

    def with_bias(self, bias: Tensor) -> "Int8Product":
        """Return the same weights with ``bias`` ``[out]`` of any floating dtype."""
        return replace(self, bias=bias.detach().float())

    @classmethod
    def cat(cls, parts: Sequence["Int8Product"]) -> "Int8Product":
        """Concatenate the outputs of ``parts``, layers of the same input."""
        return cls(
            torch.cat([part.levels for part in parts]),
            torch.cat([part.scales for part in parts]),
            torch.cat([part.totals for part in parts]),
            torch.cat([part.bias for part in parts]),
        )

    @property
    def nbytes(self) -> int:
        columns = self.scales, self.totals, self.bias
        return self.levels.nbytes + sum(numbers.nbytes for numbers in columns)

    def linear(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Multiply ``[..., in]`` → ``[..., out]``, plus ``residual`` of that shape if given."""
        rows = x.reshape(-1, x.shape[-1])
        into = x.new_empty(rows.shape[0], len(self.scales))
        added = None if residual is None else residual.reshape(into.shape)
        passes = row_passes()
        quantized = passes.quantize(rows)
        passes.rescale(self.sums(quantized), quantized, self, added, into)
        return into.view(*x.shape[:-1], -1)

    def sums(self, rows: QuantizedRows) -> Tensor:
        """int32 sums of products of levels ``[R, out]``."""
        return torch._int_mm(rows.levels, self.levels.t())


def gelu_mlp(x: Tensor, first: Int8Product, second: Int8Product, residual: Tensor) -> Tensor:
    """``residual`` plus linear, GELU (tanh approximation) and linear layer of ``x``, both
    ``[..., D]``."""
    return _mlp(x, first, second, residual, gated=False)


def swiglu_mlp(x: Tensor, gate_up: Int8Product, down: Int8Product, residual: Tensor) -> Tensor:
    """``residual`` plus the gated MLP (SwiGLU) of ``x``, both ``[..., D]``."""
    return _mlp(x, gate_up, down, residual, gated=True)


def _mlp(
    x: Tensor, first: Int8Product, second: Int8Product, residual: Tensor, *, gated: bool
) -> Tensor:
    passes = row_passes()
    rows, added = x.reshape(-1, x.shape[-1]), residual.reshape(-1, residual.shape[-1])
    into = torch.empty_like(added)
    at_once = max(MIN_ROWS, _MAX_ACTIVATIONS // len(first.scales))
    for part, its_residual, its_into in zip(
        rows.split(at_once), added.split(at_once), into.split(at_once), strict=True
    ):
        quantized = passes.quantize(part)
        between = passes.activate(first.sums(quantized), quantized, first, gated=gated)
        passes.rescale(second.sums(between), between, second, its_residual, its_into)
    return into.view(residual.shape)


class RowPasses:
    """Passes over rows between the products, with torch operators: the reference, used where numba
    is not installed. Formulas: ``kernels.int8_rows``."""

    name = "torch"

    def quantize(self, rows: Tensor) -> QuantizedRows:
        """Quantize ``rows`` ``[R, K]``."""
        exact = rows.float()
        least, most = exact.aminmax(dim=1)
        offsets = (most + least) / 2
        scales = ((most - least) / 2).clamp_min(1e-20) / MAX_LEVEL
        levels = ((exact - offsets[:, None]) / scales[:, None]).round_()
        return QuantizedRows(levels.clamp_(-MAX_LEVEL, MAX_LEVEL).to(torch.int8), scales, offsets)

    def rescale(
        self,
        sums: Tensor,
        given: QuantizedRows,
        product: Int8Product,
        residual: Tensor | None,
        into: Tensor,
    ) -> None:
        """Rescale ``sums`` ``[R, N]`` of the rows ``given``, add bias and ``residual``, and write
        to ``into``."""
        value = self._rescaled(sums, given, product)
        into.copy_(value if residual is None else value + residual.float())

    def activate(
        self, sums: Tensor, given: QuantizedRows, product: Int8Product, *, gated: bool
    ) -> QuantizedRows:
        """Rescale ``sums``, apply GELU, or SwiGLU to its halves (``gated``), and quantize."""
        value = self._rescaled(sums, given, product)
        if not gated:
            return self.quantize(F.gelu(value, approximate="tanh"))
        gate, up = value.chunk(2, dim=-1)
        return self.quantize(F.silu(gate) * up)

    def _rescaled(self, sums: Tensor, given: QuantizedRows, product: Int8Product) -> Tensor:
        value = sums.float().mul_(given.scales[:, None] * product.scales)
        return value.addr_(given.offsets, product.totals).add_(product.bias)


class CompiledRowPasses(RowPasses):
    """The same passes by compiled kernels, on all threads."""

    name = "numba"

    def __init__(self, kernels: "Int8RowKernels") -> None:
        self._kernels = kernels

    def quantize(self, rows: Tensor) -> QuantizedRows:
        quantized = QuantizedRows.empty(*rows.shape)
        _run(self._kernels.quantize, _array(rows), _rows(quantized))
        return quantized

    def rescale(
        self,
        sums: Tensor,
        given: QuantizedRows,
        product: Int8Product,
        residual: Tensor | None,
        into: Tensor,
    ) -> None:
        added = into.new_empty(0, into.shape[1]) if residual is None else residual
        arrays = _rows(given), _columns(product), _array(added), _array(into)
        _run(self._kernels.rescale, sums.numpy(), *arrays)

    def activate(
        self, sums: Tensor, given: QuantizedRows, product: Int8Product, *, gated: bool
    ) -> QuantizedRows:
        rows, width = sums.shape
        quantized = QuantizedRows.empty(rows, width // 2 if gated else width)
        kernel = self._kernels.swiglu_quantize if gated else self._kernels.gelu_quantize
        _run(kernel, sums.numpy(), _rows(given), _columns(product), _rows(quantized))
        return quantized


def _array(tensor: Tensor) -> "NDArray[Any]":
    """View ``tensor`` as an array, bfloat16 as its bits; a copy if it is not contiguous."""
    bits = tensor.view(torch.uint16) if tensor.dtype is torch.bfloat16 else tensor
    return bits.detach().contiguous().numpy()


def _rows(rows: QuantizedRows) -> "Int8Rows":
    from smolvideo.network.kernels.int8_rows import Int8Rows

    return Int8Rows(rows.levels.numpy(), rows.scales.numpy(), rows.offsets.numpy())


def _columns(product: Int8Product) -> "Int8Columns":
    from smolvideo.network.kernels.int8_rows import Int8Columns

    return Int8Columns(product.scales.numpy(), product.totals.numpy(), product.bias.numpy())


def _run(kernel: "JitFunction", *arguments: object) -> None:
    """Run ``kernel`` with torch's number of threads."""
    from smolvideo.network.kernels.work_sharing import new_counters

    counters = new_counters(1)
    parallel_call(lambda: kernel(*arguments, counters), torch.get_num_threads(), counters)


def row_passes() -> RowPasses:
    """Return the compiled passes, or torch's where numba is not installed."""
    compiled = compiled_row_passes()
    return RowPasses() if compiled is None else compiled.get()


@lru_cache
def compiled_row_passes() -> CompiledInBackground[RowPasses] | None:
    """Compile the passes in the background; None without numba."""
    return CompiledInBackground(_compile) if has_numba() else None


def _compile(kept: bool) -> RowPasses:
    from smolvideo.network.kernels.int8_rows import build_int8_rows

    passes = CompiledRowPasses(build_int8_rows(kept=kept))
    product = Int8Product.from_float(torch.ones(2, 2))
    nothing, given = torch.empty(0, 2, dtype=torch.int32), QuantizedRows.empty(0, 2)
    with counted():  # first calls, without rows, compile
        for dtype in (torch.float32, torch.bfloat16):
            into = torch.empty(0, 2, dtype=dtype)
            passes.quantize(into)
            passes.rescale(nothing, given, product, None, into)
        passes.activate(nothing, given, product, gated=False)
        passes.activate(nothing, given, product, gated=True)
    return passes
