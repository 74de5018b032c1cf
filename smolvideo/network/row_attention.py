"""Attention of many rows at once on a CPU, in functions that are compiled for it.

This is the side that knows torch: where queries, keys and values lie, and which processors gain by
it. The functions themselves: ``kernels``. All else is left to ``attention``.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from smolvideo.network.attention import attend
from smolvideo.network.helpers import share
from smolvideo.network.preparing import Prepared, has_compiler

if TYPE_CHECKING:
    from smolvideo.network.kernels.compiling import Compiled
    from smolvideo.network.kernels.row_attention import Rows


class Way(NamedTuple):
    """How rows attend to each other, those of frames, for which there is one thread each, and those
    of prompts, which all threads share. It has a name: other ways round otherwise."""

    name: str
    attend_frames: Callable[..., Tensor]
    attend_prompt: Callable[..., Tensor]


TORCH = Way("torch", attend, attend)


@cache
def prepared(width: int, dtype: torch.dtype) -> Prepared[Way] | None:
    """The fastest way on this CPU for heads of ``width``, which is compiled while the caller goes
    on; None for numbers that torch is left to."""
    return Prepared(partial(_fastest, width)) if dtype is torch.bfloat16 else None


def _fastest(width: int, kept: bool) -> Way:
    if not has_compiler():
        return TORCH
    from smolvideo.network.kernels import compiling, registers, row_attention, softmax

    if not registers.can_multiply_pairs():
        return TORCH
    if registers.has_matrix_registers():
        # oneDNN's products are faster there; what is left is the softmax between them, and torch's
        # own is as fast with two threads.
        soften = softmax.softener(kept=kept)
        _soften(soften, torch.empty(0, 1), torch.empty(0, 1, dtype=torch.bfloat16))
        name = f"softmax, {compiling.compiler()}"
        return Way(name, partial(attend, soften=partial(_soften, soften)), attend)
    of_a_row = row_attention.registers_of(width)
    if of_a_row not in row_attention.TILE_ROWS or width % 2:
        return TORCH
    read_rows = row_attention.reader(of_a_row, kept=kept)
    nothing = torch.empty(1, 1, 0, width, dtype=torch.bfloat16)
    attend_in_tiles(read_rows, nothing, nothing, nothing)
    in_tiles = partial(attend_in_tiles, read_rows)
    return Way(f"tiles, {compiling.compiler()}", in_tiles, in_tiles)


def attend_in_tiles(
    read_rows: "Compiled", q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False
) -> Tensor:
    """As ``attend``, in bfloat16; the same bits with any number of threads."""
    from smolvideo.network.kernels.row_attention import TILE_ROWS, registers_of

    b, heads, rows, width = q.shape
    if 0 < rows < TILE_ROWS[registers_of(width)]:
        return attend(q, k, v, causal=causal)
    assert q.stride(-1) == v.stride(-1) == 1  # nobody checks addresses
    # Laid out [B, L, H, d], so that the caller joins the heads without a copy.
    mixed = q.new_empty(b, rows, heads, width).transpose(1, 2)
    for item in range(b):
        _read_rows(read_rows, q[item], k[item], v[item], mixed[item], causal)
    return mixed


def _read_rows(
    read_rows: "Compiled", q: Tensor, k: Tensor, v: Tensor, into: Tensor, causal: bool
) -> None:
    """``q`` ``[H, L, d]``, ``k`` and ``v`` ``[G, T, d]`` → ``into`` ``[H, L, d]``."""
    from smolvideo.network.kernels.registers import LANES
    from smolvideo.network.kernels.row_attention import (
        BLOCK,
        PHASES_OF_A_GROUP,
        Laid,
        Shape,
        registers_of,
    )
    from smolvideo.network.kernels.sharing import new_counters

    heads, rows, width = q.shape
    groups, length, _ = k.shape
    columns = LANES * registers_of(width)
    # torch's memory begins at a cache line, as numpy's does not.
    keys = torch.empty(-(-length // BLOCK), width // 2, BLOCK, dtype=torch.uint32)
    values = torch.empty(-(-length // 2), columns, dtype=torch.uint32)
    counters = new_counters(PHASES_OF_A_GROUP * groups)
    arguments = (
        _rows(q),
        _rows(k),
        _rows(v),
        Shape(heads, groups, rows, length, width, causal),
        Laid(keys.numpy(), values.numpy()),
        _rows(into),
        counters,
    )
    held = q, k, v, into  # as long as anybody reads or writes there

    def work() -> None:
        assert held is not None
        read_rows(*arguments)

    share(work, torch.get_num_threads(), counters)


def _rows(tensor: Tensor) -> "Rows":
    """Where those of ``tensor`` ``[H, L, d]`` lie."""
    from smolvideo.network.kernels.row_attention import Rows

    size = tensor.element_size()
    return Rows(tensor.data_ptr(), *(stride * size for stride in tensor.stride()))


def _soften(soften: "Compiled", scores: Tensor, weights: Tensor) -> None:
    """Softmax of ``scores`` ``[R, T]``, which do not stay, into ``weights`` ``[R, T]``."""
    soften(scores.numpy(), weights.view(torch.uint16).numpy())
