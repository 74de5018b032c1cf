"""Attention: differentiable, blockwise on a CPU, torch's fused one, and compiled kernels.

All of them give equal results. Kernels are compiled where the CPU has the instructions for them:
an ``AttentionBackend`` takes many queries, ``cpu_decode`` single tokens. This is the torch side:
addresses and strides of queries, keys and values; the kernels themselves are in ``kernels``.

Grouped-query attention (arXiv 2305.13245): H query heads share G KV heads, H / G each. With a
causal mask the queries are at the last positions of the keys.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from smolvideo.network.compilation import CompiledInBackground, KernelBuild, has_numba
from smolvideo.network.threads import parallel_call

if TYPE_CHECKING:
    from smolvideo.network.kernels.flash_attention import StridedRows
    from smolvideo.network.kernels.jit import JitFunction
    from smolvideo.network.linear import Linear

SoftmaxFn = Callable[[Tensor, Tensor], None]

_MAX_SCORES_PER_BLOCK = 1 << 20
"""Scores that are computed, normalized and used before the next: 4 MB stay in cache, where torch's
own kernel took more than twice as long (1,024 queries, heads of 64, AVX512-BF16)."""

_CAUSAL_BLOCK = 256
"""Maximum queries of a causal block: keys up to the block's end are multiplied although masked."""


def attention_reference(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Differentiable attention: ``q`` ``[B, H, L, d]``, ``k`` and ``v`` ``[B, G, T, d]`` →
    ``[B, H, L, d]``.

    ``mask`` is added to the scores ``[B, H, L, T]``. Plain products and softmax, because the
    backward pass of torch's fused CPU attention is several times slower at the sizes that are
    trained here.
    """
    shared = q.shape[1] // k.shape[1]
    if shared > 1:
        k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(dim=-1) @ v


def softmax_into(scores: Tensor, weights: Tensor) -> None:
    """Softmax of ``scores`` ``[R, T]`` (overwritten) into ``weights`` ``[R, T]``, which may be the
    same memory."""
    torch.softmax(scores, dim=-1, out=scores)
    if weights.data_ptr() != scores.data_ptr():
        weights.copy_(scores)


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, soften: SoftmaxFn = softmax_into
) -> Tensor:
    """Attention without a backward pass, as fast as torch allows.

    Shapes are those of ``attention_reference``. ``soften`` is the softmax of the blockwise path on
    a CPU.
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
    """Unmasked attention of one query per head: query heads that share a KV head become queries of
    one head."""
    b, heads, _, width = q.shape
    grouped = q.reshape(b, k.shape[1], -1, width)
    return F.scaled_dot_product_attention(grouped, k, v).view(b, heads, 1, width)


def _blockwise_attention(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool, soften: SoftmaxFn
) -> Tensor:
    """Attention on a CPU, a block of queries at a time, so that its scores stay in cache."""
    b, heads, rows, width = q.shape
    length, shared = k.shape[2], heads // k.shape[1]
    # Laid out [B, L, H, d], so that the caller joins the heads without a copy.
    mixed = q.new_empty(b, rows, heads, width).transpose(1, 2)
    # queries of a block
    at_most = max(1, min(rows, _MAX_SCORES_PER_BLOCK // (shared * length)))
    if causal:
        at_most = min(at_most, _CAUSAL_BLOCK)
    # Buffers that every block overwrites: fresh pages cost a seventh of the time of a long prompt.
    score_memory = q.new_empty(shared * at_most * length, dtype=torch.float32)
    later = torch.ones(at_most, at_most, dtype=torch.bool).triu_(1) if causal else None
    weight_memory = score_memory
    if v.dtype is not torch.float32:
        weight_memory = v.new_empty(shared * at_most * length)
    with nullcontext() if q.dtype is torch.float32 else _FLOAT32_SUMS:
        # one KV head at a time, with all query heads that share it
        for group in range(b * k.shape[1]):
            item, head = divmod(group, k.shape[1])
            sharing = slice(head * shared, (head + 1) * shared)
            queries = q[item, sharing].float() * width**-0.5
            keys, values = k[item, head].float().t(), v[item, head]
            for start in range(0, rows, at_most):
                end = min(start + at_most, rows)
                # scores, masked after the position of each query
                seen = length - rows + end if causal else length
                block = queries[:, start:end].reshape(-1, width)
                scores = score_memory[: len(block) * seen].view(len(block), seen)
                torch.mm(block, keys[:, :seen], out=scores)
                if later is not None:
                    _apply_causal_mask(scores.view(shared, end - start, seen), later)
                # probabilities, and the sum of values weighted by them
                weights = weight_memory[: scores.numel()].view_as(scores)
                soften(scores, weights)
                mixed[item, sharing, start:end] = (weights @ values[:seen]).view(shared, -1, width)
    return mixed


def _supports_fp32_accumulation(dtype: torch.dtype) -> bool:
    """Whether this torch multiplies in bfloat16 and returns the sums in float32."""
    return dtype is torch.bfloat16 and hasattr(torch.backends.mkldnn, "matmul")


class _Float32Sums:
    """Context manager: float32 matrices that hold bfloat16 values are multiplied in bfloat16.

    Sums stay in float32: scores rounded to bfloat16 would have a fifth more error than torch's own
    attention. torch has this setting for the whole process only, so it is set while any thread is
    inside, and then restored.
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
    """Mask scores ``[..., L, T]`` in place: the last L keys are at the queries' own positions, and
    no query attends to a later one.

    ``later`` ``[M, M]``, M at least L, is true where the column's position is after the row's.
    """
    rows = scores.shape[-2]
    scores[..., -rows:].masked_fill_(later[:rows, :rows], float("-inf"))


class AttentionBackend(NamedTuple):
    """An attention backend: ``vision_attention`` runs on one thread per frame,
    ``prefill_attention`` on all threads. ``name`` enters the feature-cache key, because backends
    round differently."""

    name: str
    vision_attention: Callable[..., Tensor]
    prefill_attention: Callable[..., Tensor]


TORCH_BACKEND = AttentionBackend("torch", attention, attention)


@cache
def attention_backend(
    width: int, dtype: torch.dtype, *, in_int16: bool = False
) -> CompiledInBackground[AttentionBackend] | None:
    """Return the fastest backend on this CPU for heads of ``width`` elements, compiled in the
    background; None where torch alone computes.

    ``in_int16``: in float32, too, by int16 products, with a relative error of 5e-4.
    """
    if dtype is torch.bfloat16:
        return CompiledInBackground(partial(_select_backend, width))
    if dtype is torch.float32 and in_int16 and width % 2 == 0:
        return CompiledInBackground(_select_int16_backend)
    return None


class LayerBackend:
    """Attention backend of one layer, for inference on a CPU: heads of ``width`` elements.

    In float32 it is the compiled one only while ``output``, the layer's last projection, computes
    in int8: that may be decided, and changed, after loading.
    """

    def __init__(self, width: int, dtype: torch.dtype, output: "Linear") -> None:
        self._output = output
        self._in_int16 = dtype is torch.float32 and output.int8_product is not None
        self.compiled = attention_backend(width, dtype, in_int16=self._in_int16)

    def get(self) -> AttentionBackend:
        """Return the backend; waits for compilation."""
        is_exact = self._output.int8_product is None or not self._output.uses_int8
        if self.compiled is None or (self._in_int16 and is_exact):
            return TORCH_BACKEND
        return self.compiled.get()


def _select_int16_backend(kept: bool) -> AttentionBackend:
    if not has_numba():
        return TORCH_BACKEND
    from smolvideo.network.kernels import int16_attention, int16_matmul, jit

    if int16_matmul.dot_instruction() is None:
        return TORCH_BACKEND
    build = KernelBuild(f"{int16_attention.__name__}:attention_for_cpu")
    run = partial(int16_attention_cpu, build.compile(kept=kept))
    return AttentionBackend(f"int16, {jit.compiler_version()}", run, run)


def int16_attention_cpu(
    attend_rows: "JitFunction", q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False
) -> Tensor:
    """Compute ``attention`` in float32 by the compiled kernel of int16 products; the same bits with
    any number of threads, and for any split of the queries."""
    from smolvideo.network.kernels.flash_attention import AttentionShape
    from smolvideo.network.kernels.int16_attention import PHASES_PER_GROUP
    from smolvideo.network.kernels.int16_packing import new_packed_rows
    from smolvideo.network.kernels.work_sharing import new_counters

    b, heads, rows, width = q.shape
    groups, length = k.shape[1:3]
    assert q.stride(-1) == v.stride(-1) == 1  # the kernel cannot check addresses
    # Laid out [B, L, H, d], so that the caller joins the heads without a copy.
    mixed = q.new_empty(b, rows, heads, width).transpose(1, 2)
    shape = AttentionShape(heads, groups, rows, length, width, causal)
    laid = new_packed_rows(shape)
    for item in range(b):
        counters = new_counters(PHASES_PER_GROUP * groups)
        held = q[item], k[item], v[item], mixed[item]
        arguments = (*map(_rows, held[:3]), shape, laid, _rows(held[3]), counters)

        def work(arguments: tuple[object, ...] = arguments, held: object = held) -> None:
            assert held is not None  # keeps the tensors alive while a thread uses their addresses
            attend_rows(*arguments)

        parallel_call(work, torch.get_num_threads(), counters)
    return mixed


def _select_backend(width: int, kept: bool) -> AttentionBackend:
    if not has_numba():
        return TORCH_BACKEND
    from smolvideo.network.kernels import avx512, elementwise, flash_attention, jit

    if not avx512.has_avx512_bf16():
        return TORCH_BACKEND
    if avx512.has_amx():
        # AMX makes oneDNN's products faster than the kernel's. Only the softmax between them is
        # replaced, and only for frames: with two threads torch's own is as fast.
        soften = KernelBuild(f"{elementwise.__name__}:softmax_for_any").compile(kept=kept)
        name = f"softmax, {jit.compiler_version()}"
        return AttentionBackend(
            name, partial(attention, soften=partial(_soften, soften)), attention
        )
    of_a_row = flash_attention.registers_per_row(width)
    if of_a_row not in flash_attention.TILE_ROWS or width % 2:
        return TORCH_BACKEND
    build = KernelBuild(f"{flash_attention.__name__}:attention_for_registers", (of_a_row,))
    read_rows = build.compile(kept=kept)
    in_tiles = partial(flash_attention_cpu, read_rows)
    return AttentionBackend(f"tiles, {jit.compiler_version()}", in_tiles, in_tiles)


def flash_attention_cpu(
    read_rows: "JitFunction", q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False
) -> Tensor:
    """Compute ``attention`` by the compiled kernel, in bfloat16; the same bits with any number of
    threads."""
    from smolvideo.network.kernels.flash_attention import TILE_ROWS, registers_per_row

    b, heads, rows, width = q.shape
    if 0 < rows < TILE_ROWS[registers_per_row(width)]:
        return attention(q, k, v, causal=causal)
    assert q.stride(-1) == v.stride(-1) == 1  # the kernel cannot check addresses
    # Laid out [B, L, H, d], so that the caller joins the heads without a copy.
    mixed = q.new_empty(b, rows, heads, width).transpose(1, 2)
    for item in range(b):
        _read_rows(read_rows, q[item], k[item], v[item], mixed[item], causal)
    return mixed


def _read_rows(
    read_rows: "JitFunction", q: Tensor, k: Tensor, v: Tensor, into: Tensor, causal: bool
) -> None:
    """Run the kernel: ``q`` ``[H, L, d]``, ``k`` and ``v`` ``[G, T, d]`` → ``into``
    ``[H, L, d]``."""
    from smolvideo.network.kernels.avx512 import LANES
    from smolvideo.network.kernels.flash_attention import (
        BLOCK,
        PHASES_PER_GROUP,
        AttentionShape,
        PackedKV,
        registers_per_row,
    )
    from smolvideo.network.kernels.work_sharing import new_counters

    heads, rows, width = q.shape
    groups, length, _ = k.shape
    columns = LANES * registers_per_row(width)
    # Buffers for packed keys and values: torch aligns memory to cache lines, numpy does not.
    keys = torch.empty(-(-length // BLOCK), width // 2, BLOCK, dtype=torch.uint32)
    values = torch.empty(-(-length // 2), columns, dtype=torch.uint32)
    counters = new_counters(PHASES_PER_GROUP * groups)
    arguments = (
        _rows(q),
        _rows(k),
        _rows(v),
        AttentionShape(heads, groups, rows, length, width, causal),
        PackedKV(keys.numpy(), values.numpy()),
        _rows(into),
        counters,
    )
    held = q, k, v, into  # keep alive while a thread may use the addresses

    def work() -> None:
        assert held is not None
        read_rows(*arguments)

    parallel_call(work, torch.get_num_threads(), counters)


def _rows(tensor: Tensor) -> "StridedRows":
    """Address and byte strides of ``tensor`` ``[H, L, d]``."""
    from smolvideo.network.kernels.flash_attention import StridedRows

    size = tensor.element_size()
    return StridedRows(tensor.data_ptr(), *(stride * size for stride in tensor.stride()))


def _soften(soften: "JitFunction", scores: Tensor, weights: Tensor) -> None:
    """Softmax of ``scores`` ``[R, T]`` (overwritten) into ``weights`` ``[R, T]``, by the compiled
    ``soften``."""
    soften(scores.numpy(), weights.view(torch.uint16).numpy())
