"""Attention, in three ways with equal results: to be learned through, on a CPU, on a GPU.

Where it can be compiled for the CPU at hand there are others: see ``row_attention``, and
``token_step`` for single tokens.

Heads are grouped (arXiv 2305.13245): H heads of queries share G heads of keys and values, H / G
each. Where rows are causal, the queries are the last rows of the keys.
"""

from collections.abc import Callable
from contextlib import nullcontext
from threading import Lock

import torch
from torch import Tensor
from torch.nn import functional as F

SoftmaxFn = Callable[[Tensor, Tensor], None]

_MAX_SCORES_PER_BLOCK = 1 << 20
"""Scores that are computed, normalised and used before the next: 4 MB stay in the cache, where
torch's own kernel took more than twice as long (1,024 rows of 64, AVX512-BF16)."""

_CAUSAL_BLOCK = 256
"""Query rows of a causal block at most: those before its end are computed although masked."""


def attention_reference(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """``q`` ``[B, H, L, d]``, ``k`` and ``v`` ``[B, G, T, d]`` → ``[B, H, L, d]``.

    ``mask`` is added to the scores ``[B, H, L, T]``. Plain products and softmax: the backward pass
    of torch's fused CPU attention is several times slower at the sizes that are trained here.
    """
    shared = q.shape[1] // k.shape[1]
    if shared > 1:
        k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(dim=-1) @ v


def softmax_into(scores: Tensor, weights: Tensor) -> None:
    """Softmax of ``scores`` ``[R, T]``, which do not stay, into ``weights``, as many, which may be
    the same memory."""
    torch.softmax(scores, dim=-1, out=scores)
    if weights.data_ptr() != scores.data_ptr():
        weights.copy_(scores)


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, soften: SoftmaxFn = softmax_into
) -> Tensor:
    """The same without a backward pass, as fast as torch allows; shapes as above.

    ``softmax_into`` is what a CPU makes weights of scores with.
    """
    if q.device.type == "cpu" and (
        q.dtype is torch.float32 or _supports_fp32_accumulation(q.dtype)
    ):
        return _blockwise_attention(q, k, v, causal=causal, soften=soften)
    if q.shape[2] == 1:
        return _single_query_attention(q, k, v)
    shared = q.shape[1] // k.shape[1]
    rows, length = q.shape[2], k.shape[2]
    mask = None
    if causal and rows < length:
        mask = torch.ones(rows, length, dtype=torch.bool, device=q.device).tril(length - rows)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal and mask is None, enable_gqa=shared > 1
    )


def _single_query_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One query per head, none of it hidden: those that share keys are queries of one head."""
    b, heads, _, width = q.shape
    grouped = q.reshape(b, k.shape[1], -1, width)
    return F.scaled_dot_product_attention(grouped, k, v).view(b, heads, 1, width)


def _blockwise_attention(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool, soften: SoftmaxFn
) -> Tensor:
    b, heads, rows, width = q.shape
    length, shared = k.shape[2], heads // k.shape[1]
    # Laid out [B, L, H, d], so that the caller joins the heads without a copy.
    mixed = q.new_empty(b, rows, heads, width).transpose(1, 2)
    at_most = max(1, min(rows, _MAX_SCORES_PER_BLOCK // (shared * length)))
    if causal:
        at_most = min(at_most, _CAUSAL_BLOCK)
    # Memory that every block writes again: fresh pages cost a seventh of the time of a long prompt.
    score_memory = q.new_empty(shared * at_most * length, dtype=torch.float32)
    later = torch.ones(at_most, at_most, dtype=torch.bool).triu_(1) if causal else None
    weight_memory = score_memory
    if v.dtype is not torch.float32:
        weight_memory = v.new_empty(shared * at_most * length)
    with nullcontext() if q.dtype is torch.float32 else _FLOAT32_SUMS:
        for group in range(b * k.shape[1]):
            item, head = divmod(group, k.shape[1])
            sharing = slice(head * shared, (head + 1) * shared)
            queries = q[item, sharing].float() * width**-0.5
            keys, values = k[item, head].float().t(), v[item, head]
            for start in range(0, rows, at_most):
                end = min(start + at_most, rows)
                seen = length - rows + end if causal else length
                block = queries[:, start:end].reshape(-1, width)
                scores = score_memory[: len(block) * seen].view(len(block), seen)
                torch.mm(block, keys[:, :seen], out=scores)
                if later is not None:
                    _apply_causal_mask(scores.view(shared, end - start, seen), later)
                weights = weight_memory[: scores.numel()].view_as(scores)
                soften(scores, weights)
                mixed[item, sharing, start:end] = (weights @ values[:seen]).view(shared, -1, width)
    return mixed


def _supports_fp32_accumulation(dtype: torch.dtype) -> bool:
    """Whether this torch can multiply in bfloat16 and give the sums in float32."""
    return dtype is torch.bfloat16 and hasattr(torch.backends.mkldnn, "matmul")


class _Float32Sums:
    """Lets float32 matrices that hold bfloat16 numbers be multiplied as such, summed in float32.

    Scores rounded to bfloat16 would err by a fifth more than torch's own attention. torch has this
    as a setting of the process alone, so it holds while any thread is within, and no longer.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._within = 0
        self._before = ""

    def __enter__(self) -> None:
        setting = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # made at run time
        with self._lock:
            if not self._within:
                self._before = setting.fp32_precision
                setting.fp32_precision = "bf16"
            self._within += 1

    def __exit__(self, *_: object) -> None:
        setting = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # made at run time
        with self._lock:
            self._within -= 1
            if not self._within:
                setting.fp32_precision = self._before


_FLOAT32_SUMS = _Float32Sums()


def _apply_causal_mask(scores: Tensor, later: Tensor) -> None:
    """``[..., L, T]``, in place: the last L keys are the rows themselves; no row sees the next.

    ``later`` ``[M, M]``, M at least L, is true where the column's row comes after the row's.
    """
    rows = scores.shape[-2]
    scores[..., -rows:].masked_fill_(later[:rows, :rows], float("-inf"))
