"""Linear layer with a fused GELU or addition; for inference packed for oneDNN, or quantized.

oneDNN multiplies by a blocked copy of the weights, and applies GELU or an addition while the result
is in cache. torch keeps those operators private (its compiler uses them), so they are probed once,
and each has a fallback with the same results. Few rows are multiplied with quantized weights by
other operators: see ``int8`` and ``int4``.
"""

from collections.abc import Collection, Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smolvideo.network.int8_arithmetic import MAX_LEVEL, MIN_ROWS, Int8Product, int8_weight_levels
from smolvideo.network.quantized import Int4Weight, Int8Weight


class Linear(nn.Linear):
    """``[..., in]`` → ``[..., out]``; for inference ``pack_for_onednn`` replaces the weight by a
    packed one, and ``quantize`` by a quantized one. ``add_int8_product`` adds a second copy for
    int8 arithmetic on many rows."""

    packed: Tensor | None = None
    quantized_weight: Int8Weight | Int4Weight | None = None
    int8_product: Int8Product | None = None
    uses_int8: bool = True
    """Whether ``int8_product`` is used, if there is one."""

    def int8_for(self, x: Tensor) -> Int8Product | None:
        """Return the int8 product for the rows of ``x``; None where the float weight is used."""
        product = self.int8_product
        if product is None or not self.uses_int8:
            return None
        many = x.numel() >= MIN_ROWS * x.shape[-1]
        return product if many or not self.has_float_weight else None

    @property
    def has_float_weight(self) -> bool:
        """Whether there is a weight for floating-point activations."""
        weight: Tensor | None = self.weight  # None once it is packed or quantized
        return not (weight is self.packed is None and self.quantized_weight is None)

    def add_int8_product(self, weight: Tensor) -> None:
        """Quantize ``weight`` ``[out, in]`` for int8 arithmetic; a weight that is int8 already is
        shared where its products do not saturate."""
        if isinstance(self.quantized_weight, Int8Weight) and int8_weight_levels() == MAX_LEVEL:
            self.int8_product = Int8Product.from_quantized(self.quantized_weight)
        else:
            self.int8_product = Int8Product.from_float(weight)

    def drop_float_weight(self) -> None:
        """Release every weight but that of the int8 product."""
        assert self.int8_product is not None
        self.weight = self.packed = self.quantized_weight = None  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        product = self.int8_for(x)
        if product is not None:
            return product.linear(x)
        weight = self._weight_for_onednn(x)
        if weight is None:
            return self._plain(x)
        return _pointwise(x, weight, self.bias, "none", [], "")

    def forward_gelu(self, x: Tensor) -> Tensor:
        """Linear layer and GELU (tanh approximation), ``[..., in]`` → ``[..., out]``."""
        if self.int8_for(x) is not None:
            return F.gelu(self(x), approximate="tanh")
        weight = self._weight_for_onednn(x)
        if weight is None:
            return F.gelu(self._plain(x), approximate="tanh")
        return _pointwise(x, weight, self.bias, "gelu", [], "tanh")

    def forward_add(self, x: Tensor, to: Tensor) -> Tensor:
        """``to`` ``[..., out]`` plus the linear layer of ``x``."""
        product = self.int8_for(x)
        if product is not None:
            return product.linear(x, to)
        weight = self._weight_for_onednn(x)
        if weight is None:
            return to + self._plain(x)
        # Private operators check little: another shape would be read past its end.
        assert to.shape == (*x.shape[:-1], self.out_features)
        return _pointwise_binary(x, to, weight, self.bias, "add")

    def pack_for_onednn(self, *, in_rows: bool = False) -> None:
        """Pack the weight for oneDNN and release the plain one; for inference only.

        ``in_rows``: leave it row-major, and only let oneDNN fuse GELU and additions.
        """
        if self.int8_product is not None and self.bias is not None:
            self.int8_product = self.int8_product.with_bias(self.bias)
        plain: Tensor | None = self.weight
        if plain is None or not supports_onednn_packing(plain.device, plain.dtype):
            return
        weight = plain.detach()
        self.weight = None  # type: ignore[assignment]  # one copy in memory, not two
        self.packed = weight if in_rows else torch.ops.mkldnn._reorder_linear_weight(weight, 1)

    def quantize(
        self,
        weight: Tensor,
        dtype: torch.dtype,
        weight_format: type[Int8Weight | Int4Weight] = Int8Weight,
    ) -> None:
        """Quantize ``weight`` ``[out, in]`` to ``weight_format``, for activations in ``dtype``."""
        self.weight = None  # type: ignore[assignment]  # replaced by the quantized one
        self.quantized_weight = weight_format.from_float(weight, dtype)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weight that a product reads, in whatever format."""
        if self.quantized_weight is not None:
            return self.quantized_weight.nbytes
        return (self.weight if self.packed is None else self.packed).nbytes

    def _weight_for_onednn(self, x: Tensor) -> Tensor | None:
        """Weight for the fused oneDNN operators; None where they are not used."""
        if self.quantized_weight is None:
            return self.packed
        # Dequantized int4 weights are column-major, which these operators are not probed with.
        if isinstance(self.quantized_weight, Int4Weight) or self.quantized_weight.is_fast_for(x):
            return None
        return (
            self.quantized_weight.dequantize()
            if supports_onednn_packing(x.device, x.dtype)
            else None
        )

    def _plain(self, x: Tensor) -> Tensor:
        """Linear layer without the private oneDNN operators."""
        if self.quantized_weight is None:
            return F.linear(x, self.weight, self.bias)
        if self.quantized_weight.is_fast_for(x):
            return self.quantized_weight.matmul(x, self.bias)
        return F.linear(x, self.quantized_weight.dequantize(), self.bias)


def concat_linear(*parts: Linear) -> Linear:
    """Fuse linear layers of the same input: the outputs of ``parts``, one after the other."""
    with torch.device("meta"):
        whole = Linear(
            parts[0].in_features,
            sum(part.out_features for part in parts),
            bias=parts[0].bias is not None,
        )
    if any(part.quantized_weight is not None for part in parts):
        whole.weight = None  # type: ignore[assignment]  # as after ``quantize``
        whole.quantized_weight = _stacked([part.quantized_weight for part in parts])
    elif not parts[0].has_float_weight:
        whole.weight = None  # type: ignore[assignment]  # int8 products alone
    else:
        whole.weight = _frozen([part.weight for part in parts])
    products = [part.int8_product for part in parts if part.int8_product is not None]
    if products:
        assert len(products) == len(parts)
        if isinstance(whole.quantized_weight, Int8Weight) and products[0].shares(
            parts[0].quantized_weight
        ):
            whole.int8_product = Int8Product.from_quantized(whole.quantized_weight)
        else:
            whole.int8_product = Int8Product.cat(products)
    if parts[0].bias is not None:
        whole.bias = _frozen([part.bias for part in parts if part.bias is not None])
    return whole


def _stacked(
    parts: Sequence[Int8Weight | Int4Weight | None],
) -> Int8Weight | Int4Weight:
    """Concatenate weights of one format, which ``weight_formats`` chooses for layers that are
    fused."""
    eights = [part for part in parts if isinstance(part, Int8Weight)]
    fours = [part for part in parts if isinstance(part, Int4Weight)]
    assert len(parts) in (len(eights), len(fours))
    return Int8Weight.cat(eights) if eights else Int4Weight.cat(fours)


def _frozen(tensors: Sequence[Tensor]) -> nn.Parameter:
    return nn.Parameter(torch.cat([t.detach() for t in tensors]), requires_grad=False)


@cache
def supports_onednn_packing(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this torch multiplies packed weights on this CPU, and correctly."""
    if device.type != "cpu" or dtype not in (torch.bfloat16, torch.float32):
        return False
    random = torch.Generator().manual_seed(0)
    x, weight, bias, to = (
        torch.randn(shape, generator=random).to(dtype) for shape in ((3, 32), (48, 32), 48, (3, 48))
    )
    plain = F.linear(x, weight, bias)
    try:
        with torch.inference_mode():
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, 1)
            got = [
                form
                for matrix in (packed, weight)  # dequantized int8 weights are plain
                for form in (
                    _pointwise(x, matrix, bias, "none", [], ""),
                    _pointwise(x, matrix, bias, "gelu", [], "tanh"),
                    _pointwise_binary(x, to, matrix, bias, "add"),
                )
            ]
    except (AttributeError, RuntimeError, TypeError):  # another torch, or one without oneDNN
        return False
    expected = [plain, F.gelu(plain, approximate="tanh"), to + plain] * 2
    close = 0.1 if dtype is torch.bfloat16 else 1e-4
    return all(
        torch.allclose(a.float(), b.float(), rtol=close, atol=close)
        for a, b in zip(got, expected, strict=True)
    )


def _pointwise(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    after: str,
    numbers: list[float],
    weight_format: str,
) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, numbers, weight_format)


def _pointwise_binary(
    x: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None, how: str
) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.binary(x, other, weight, bias, how)


class Embedding(nn.Embedding):
    """``[...]`` ids → ``[..., D]``."""

    def reset_parameters(self) -> None:
        """Initialize the weights, unless they are on the meta device.

        There torch initializes through its compiler, whose import takes a second.
        """
        if not self.weight.is_meta:
            super().reset_parameters()


def int8_linears(network: nn.Module) -> dict[str, Linear]:
    """Name → linear layer that has an int8 product, fused ones under their own name."""
    return {
        name: part
        for name, part in network.named_modules()
        if isinstance(part, Linear) and part.int8_product is not None
    }


def set_int8_arithmetic(network: nn.Module, layers: Collection[str]) -> None:
    """Compute in int8 in ``layers`` of ``int8_linears``, and in floating point in the others."""
    for name, part in int8_linears(network).items():
        part.uses_int8 = name in layers


def drop_unused_weights(network: nn.Module) -> None:
    """Release int8 products that are not used, and weights of the vision tower in whose place one
    is used. Decode steps need those of the decoder."""
    for name, part in int8_linears(network).items():
        if not part.uses_int8:
            part.int8_product = None
        elif ".vision_model." in f".{name}":
            part.drop_float_weight()
