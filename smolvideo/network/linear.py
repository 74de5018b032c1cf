"""One linear map, with what follows it: the same call in training and in packed inference.

oneDNN multiplies from a blocked copy of the weights and applies GELU or an addition while the
result is still in the cache. torch keeps those operators private (its compiler uses them), so each
is asked for once, tried once, and has a plain path beside it that gives the same numbers.
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """``[..., in]`` → ``[..., out]``; ``pack`` trades the weight for a faster one."""

    packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.packed is None:
            return F.linear(x, self.weight, self.bias)
        return _pointwise(x, self.packed, self.bias, "none", [], "")

    def gelu(self, x: Tensor) -> Tensor:
        """The map and then GELU in its tanh form, ``[..., in]`` → ``[..., out]``."""
        if self.packed is None:
            return F.gelu(F.linear(x, self.weight, self.bias), approximate="tanh")
        return _pointwise(x, self.packed, self.bias, "gelu", [], "tanh")

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        """``to`` ``[..., out]`` plus the map of ``x``."""
        if self.packed is None:
            return to + F.linear(x, self.weight, self.bias)
        # Private operators check little: another shape would be read past its end.
        assert to.shape == (*x.shape[:-1], self.out_features)
        return _pointwise_binary(x, to, self.packed, self.bias, "add")

    def pack(self) -> None:
        """Lay the weight out for oneDNN and let go of the plain one; only for inference."""
        if not can_pack(self.weight.device, self.weight.dtype):
            return
        weight = self.weight.detach()
        self.weight = None  # type: ignore[assignment]  # one copy in memory, not two
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, 1)


def joined(*parts: Linear) -> Linear:
    """Maps of one input as one map: the outputs of ``parts``, one after the other."""
    with torch.device("meta"):
        whole = Linear(
            parts[0].in_features,
            sum(part.out_features for part in parts),
            bias=parts[0].bias is not None,
        )
    whole.weight = _frozen([part.weight for part in parts])
    if parts[0].bias is not None:
        whole.bias = _frozen([part.bias for part in parts if part.bias is not None])
    return whole


def _frozen(tensors: Sequence[Tensor]) -> nn.Parameter:
    return nn.Parameter(torch.cat([t.detach() for t in tensors]), requires_grad=False)


@cache
def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this torch and this processor multiply packed weights, and rightly."""
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
                _pointwise(x, packed, bias, "none", [], ""),
                _pointwise(x, packed, bias, "gelu", [], "tanh"),
                _pointwise_binary(x, to, packed, bias, "add"),
            ]
    except (AttributeError, RuntimeError, TypeError):  # another torch, or one without oneDNN
        return False
    expected = [plain, F.gelu(plain, approximate="tanh"), to + plain]
    close = 0.1 if dtype is torch.bfloat16 else 1e-4
    return all(
        torch.allclose(a.float(), b.float(), rtol=close, atol=close)
        for a, b in zip(got, expected, strict=True)
    )


def _pointwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, after: str, numbers: list[float], kind: str
) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, numbers, kind)


def _pointwise_binary(
    x: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None, how: str
) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.binary(x, other, weight, bias, how)
