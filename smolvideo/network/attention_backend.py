"""Attention backends for many queries on a CPU: compiled kernels, or torch.

This is the torch side: addresses and strides of queries, keys and values, and the choice of a
backend by the CPU's instructions. The kernels are in ``kernels``; all other cases are left to
``attention``.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from smolvideo.network.attention import attention
from smolvideo.network.background_compile import CompiledInBackground, has_numba
from smolvideo.network.threads import parallel_call

if TYPE_CHECKING:
    from smolvideo.network.kernels.flash_attention import StridedRows
    from smolvideo.network.kernels.jit import JitFunction


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
    width: int, dtype: torch.dtype
) -> CompiledInBackground[AttentionBackend] | None:
    """Return the fastest backend on this CPU for heads of ``width`` elements, compiled in the
    background; None for dtypes that torch alone computes."""
    return (
        CompiledInBackground(partial(_select_backend, width)) if dtype is torch.bfloat16 else None
    )


def _select_backend(width: int, kept: bool) -> AttentionBackend:
    if not has_numba():
        return TORCH_BACKEND
    from smolvideo.network.kernels import avx512, elementwise, flash_attention, jit

    if not avx512.has_avx512_bf16():
        return TORCH_BACKEND
    if avx512.has_amx():
        # AMX makes oneDNN's products faster than the kernel's. Only the softmax between them is
        # replaced, and only for frames: with two threads torch's own is as fast.
        soften = elementwise.build_softmax(kept=kept)
        _soften(soften, torch.empty(0, 1), torch.empty(0, 1, dtype=torch.bfloat16))
        name = f"softmax, {jit.compiler_version()}"
        return AttentionBackend(
            name, partial(attention, soften=partial(_soften, soften)), attention
        )
    of_a_row = flash_attention.registers_per_row(width)
    if of_a_row not in flash_attention.TILE_ROWS or width % 2:
        return TORCH_BACKEND
    read_rows = flash_attention.build_flash_attention(of_a_row, kept=kept)
    nothing = torch.empty(1, 1, 0, width, dtype=torch.bfloat16)
    flash_attention_cpu(read_rows, nothing, nothing, nothing)
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
