"""Tiled GEMM of int16 matrices with int32 sums, for attention on CPUs without bfloat16 products.

``vpdpwssd`` (AVX512-VNNI, AVX-VNNI) multiplies pairs of int16 and adds both products of each pair
to an int32; before it ``vpmaddwd`` and ``vpaddd`` do (AVX2, AVX512-BW). LLVM does not derive them
from loops, so they are emitted explicitly. LLVM ends the process at an instruction that the target
lacks: see ``dot_instruction``.
"""

from functools import lru_cache
from typing import Any, NamedTuple

from llvmlite import ir
from llvmlite.binding import initialize_native_asmparser
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from smolvideo.network.kernels.avx512 import cpu_features
from smolvideo.network.kernels.jit import JitFunction

_INT16, _INT32, _INT64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)


class DotInstruction(NamedTuple):
    """Instruction set of the products: ``lanes`` int32 in a register, ``fused`` with the addition;
    a tile is ``rows`` queries and ``registers`` registers of columns."""

    lanes: int
    fused: bool
    rows: int
    registers: int


def dot_instruction() -> DotInstruction | None:
    """Instruction for pairs of int16 on numba's target CPU; None without AVX2."""
    features = cpu_features()
    if "avx512bw" in features:
        return DotInstruction(16, "avx512vnni" in features, rows=12, registers=2)
    if features >= {"avx2", "fma"}:  # softmax between the products uses FMA
        return DotInstruction(8, "avxvnni" in features, rows=6, registers=2)
    return None


def _dot(builder: Any, how: DotInstruction, sums: Any, pairs: Any, others: Any) -> Any:
    """Add the products of the int16 ``pairs`` and ``others`` to the int32 ``sums``."""
    wide, narrow = ir.VectorType(_INT32, how.lanes), ir.VectorType(_INT16, 2 * how.lanes)
    if how.fused:
        # not the intrinsic: LLVM replaces most of them by vpmaddwd and vpaddd, to shorten chains
        function = ir.FunctionType(wide, (wide, wide, wide))
        encoding = "" if how.lanes == 16 else "{vex} "  # AVX-VNNI has no EVEX encoding
        instruction = ir.InlineAsm(function, f"{encoding}vpdpwssd $2, $1, $0", "=v,v,v,0")
        return builder.call(instruction, (others, pairs, sums))
    name = "llvm.x86.avx512.pmaddw.d.512" if how.lanes == 16 else "llvm.x86.avx2.pmadd.wd"
    function = ir.FunctionType(wide, (narrow, narrow))
    given = builder.bitcast(pairs, narrow), builder.bitcast(others, narrow)
    products = builder.call(builder.module.declare_intrinsic(name, (), function), given)
    return builder.add(sums, products)


def _emit_dot_tile(builder: Any, how: DotInstruction, arguments: Any) -> None:
    """Emit the instructions of ``multiply_tile`` for its ``arguments``."""
    register = ir.VectorType(_INT32, how.lanes)
    register_bytes = 4 * how.lanes
    left, left_stride, right, right_stride, steps, into, into_stride = arguments

    def place(address: Any, count: Any, stride: Any, offset: int, kind: Any) -> Any:
        shifted = builder.add(address, builder.mul(count, stride))
        return builder.inttoptr(builder.add(shifted, _INT64(offset)), kind.as_pointer())

    # accumulators: LLVM promotes these stack slots to registers
    sums = {}
    for row in range(how.rows):
        for column in range(how.registers):
            sums[row, column] = cgutils.alloca_once(builder, register)
            builder.store(register([0] * how.lanes), sums[row, column])
    with cgutils.for_range(builder, steps) as loop:
        columns = [
            builder.load(
                place(right, loop.index, right_stride, column * register_bytes, register),
                align=1,
            )
            for column in range(how.registers)
        ]
        pairs = builder.add(left, builder.mul(loop.index, _INT64(4)))
        # broadcast a pair of each row, multiply it with all columns
        for row in range(how.rows):
            pair = builder.load(place(pairs, _INT64(row), left_stride, 0, _INT32), align=1)
            nothing = register(ir.Undefined)
            first = builder.insert_element(nothing, pair, _INT32(0))
            zeros = ir.VectorType(_INT32, how.lanes)([0] * how.lanes)
            spread = builder.shuffle_vector(first, nothing, zeros)
            for column in range(how.registers):
                held = sums[row, column]
                more = _dot(builder, how, builder.load(held), spread, columns[column])
                builder.store(more, held)
    for (row, column), held in sums.items():
        where = place(into, _INT64(row), into_stride, column * register_bytes, register)
        builder.store(builder.load(held), where, align=1)


@lru_cache
def build_dot_tile(how: DotInstruction) -> JitFunction:
    """Build the int16 GEMM of a tile of ``how.rows`` rows and ``how.registers`` registers."""
    initialize_native_asmparser()  # numba does not, and ``_dot`` has assembly

    @intrinsic
    def multiply_tile(
        typing_context: Any,
        left: Any,
        left_stride: Any,
        right: Any,
        right_stride: Any,
        steps: Any,
        into: Any,
        into_stride: Any,
    ) -> Any:
        """Multiply ``left`` ``[rows, 2 steps]`` by ``right`` ``[steps, columns, 2]`` into ``into``
        ``[rows, columns]``, int32. All three are addresses; strides are in bytes."""

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _emit_dot_tile(builder, how, arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), build

    return multiply_tile
