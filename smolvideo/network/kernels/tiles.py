"""Products of bfloat16 matrices, a tile at a time, for processors that have an instruction for it.

``vdpbf16ps`` of AVX512-BF16 multiplies 16 pairs of numbers with 16 others and adds both products of
each to one of 16 sums in float32. A tile is as many sums as registers hold: they stay there while
the numbers of both matrices pass, each of which is then read once for many products.

LLVM finds this instruction in no loop, so the tile is written in its language.
"""

from typing import Any

from llvmlite import binding, ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from smolvideo.network.kernels.compiling import Compiled

LANES = 16
"""Sums in a register."""

_FLOAT, _INT16, _INT32, _INT64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_REGISTER_BYTES, _PAIR_BYTES = 64, 4


class _BFloat16(ir.Type):  # type: ignore[misc]  # llvmlite has no types
    """The one type of LLVM that llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat16)

    def __hash__(self) -> int:
        return hash(_BFloat16)


_SUMS = ir.VectorType(_FLOAT, LANES)
_PAIRS = ir.VectorType(_BFloat16(), 2 * LANES)
_PAIRS_AS_INTS = ir.VectorType(_INT32, LANES)


def can_multiply() -> bool:
    """Whether the processor has the instruction, and numba compiles for that processor."""
    chosen = config.CPU_NAME is not None or config.CPU_FEATURES is not None
    return not chosen and "avx512bf16" in _features()


def has_matrix_registers() -> bool:
    """Whether the processor has AMX, with which oneDNN multiplies several times as fast."""
    return "amx-bf16" in _features()


def _features() -> set[str]:
    return {name for name, has in binding.get_host_cpu_features().items() if has}


@intrinsic
def rounded(typing_context: Any, number: Any) -> Any:
    """float32 as bfloat16, told as uint16: to the nearest, and of two the even one."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.fptrunc(arguments[0], _BFloat16()), _INT16)

    return types.uint16(types.float32), build


def tile_of(rows: int, registers: int, *, adds: bool) -> Compiled:
    """A function that multiplies ``rows`` rows with 16 · ``registers`` columns; ``adds``: to what
    there is."""

    @intrinsic
    def multiply_tile(
        typing_context: Any,
        left: Any,
        left_stride: Any,
        right: Any,
        steps: Any,
        into: Any,
        into_stride: Any,
    ) -> Any:
        """``left`` ``[rows, 2 steps]`` times ``right`` into ``into`` ``[rows, columns]``, float32.

        ``right`` is ``[steps, columns, 2]`` without gaps: the two numbers of a column that meet a
        pair of ``left`` lie together. All three are addresses; strides count bytes.
        """

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _build_tile(builder, rows, registers, adds, *arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), build

    return multiply_tile


def _build_tile(
    builder: Any,
    rows: int,
    registers: int,
    adds: bool,
    left: Any,
    left_stride: Any,
    right: Any,
    steps: Any,
    into: Any,
    into_stride: Any,
) -> None:
    """The instructions of ``multiply_tile``."""
    multiply_pairs = builder.module.declare_intrinsic(
        "llvm.x86.avx512bf16.dpbf16ps.512", (), ir.FunctionType(_SUMS, (_SUMS, _PAIRS, _PAIRS))
    )

    def place(address: Any, stride: Any, row: int, register: int, kind: Any) -> Any:
        behind = builder.add(builder.mul(stride, _INT64(row)), _INT64(register * _REGISTER_BYTES))
        return builder.inttoptr(builder.add(address, behind), kind.as_pointer())

    def load(*where: Any) -> Any:
        return builder.load(place(*where), align=4)

    # LLVM keeps in registers what is written here as variables.
    sums = {}
    for row in range(rows):
        for register in range(registers):
            where = into, into_stride, row, register, _SUMS
            first = load(*where) if adds else _SUMS([0.0] * LANES)
            sums[row, register] = cgutils.alloca_once(builder, _SUMS)
            builder.store(first, sums[row, register])
    with cgutils.for_range(builder, steps) as loop:
        pairs = builder.add(left, builder.mul(loop.index, _INT64(_PAIR_BYTES)))
        step_bytes = _INT64(registers * _REGISTER_BYTES)
        step = builder.add(right, builder.mul(loop.index, step_bytes))
        columns = [
            builder.bitcast(load(step, _INT64(0), 0, register, _PAIRS_AS_INTS), _PAIRS)
            for register in range(registers)
        ]
        for row in range(rows):
            pair = _in_all_lanes(builder, load(pairs, left_stride, row, 0, _INT32))
            for register in range(registers):
                held = sums[row, register]
                products = builder.load(held), pair, columns[register]
                builder.store(builder.call(multiply_pairs, products), held)
    for (row, register), held in sums.items():
        kept = place(into, into_stride, row, register, _SUMS)
        builder.store(builder.load(held), kept, align=4)


def _in_all_lanes(builder: Any, pair: Any) -> Any:
    nothing = _PAIRS_AS_INTS(ir.Undefined)
    first = builder.insert_element(nothing, pair, _INT32(0))
    everywhere = builder.shuffle_vector(first, nothing, _PAIRS_AS_INTS([0] * LANES))
    return builder.bitcast(everywhere, _PAIRS)
