"""AVX-512 registers, and the tiled GEMM of bfloat16 matrices that is computed in them.

``vdpbf16ps`` multiplies 16 pairs of bfloat16 with 16 others and adds both products of each pair to
one of 16 float32 sums: twice as many products as other instructions. LLVM does not derive it from
loops, so kernels emit it explicitly. LLVM ends the process at an instruction that the target lacks:
check ``has_avx512_bf16`` first.

A tile has as many sums as the registers hold. They stay in registers over the whole inner
dimension, and each loaded element serves many products.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from smolvideo.network.kernels.jit import JitFunction, compile_target

LANES = 16
"""32-bit elements in a register."""

REGISTER_BYTES, NUMBER_BYTES = 64, 4


class _BFloat16(ir.Type):  # type: ignore[misc]  # llvmlite has no types
    """LLVM's ``bfloat``, the one type that llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat16)

    def __hash__(self) -> int:
        return hash(_BFloat16)


_INT16, _INT32, INT64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
INTS, FLOATS = ir.VectorType(_INT32, LANES), ir.VectorType(ir.FloatType(), LANES)
BYTES = ir.VectorType(ir.IntType(8), REGISTER_BYTES)
_PAIRS = ir.VectorType(_BFloat16(), 2 * LANES)


def has_avx512_bf16() -> bool:
    """Whether numba's target CPU has the bfloat16 dot product."""
    return cpu_features() >= {"avx512bf16", "avx512bw", "avx512vl"}


def has_avx512_vbmi() -> bool:
    """Whether one instruction permutes the bytes of a whole register (AVX512-VBMI); without it a
    permutation takes many."""
    return "avx512vbmi" in cpu_features()


def has_amx() -> bool:
    """Whether the CPU has AMX, with which oneDNN's bfloat16 GEMM is several times as fast."""
    return "amx-bf16" in cpu_features()


def cpu_features() -> set[str]:
    """CPU features that numba compiles for, without those disabled by ``NUMBA_CPU_FEATURES`` or
    ``NUMBA_ENABLE_AVX``."""
    *_, features = compile_target()
    return {name[1:] for name in features.split(",") if name.startswith("+")}


@intrinsic
def to_bfloat16(typing_context: Any, number: Any) -> Any:
    """Round float32 to bfloat16 (bits as uint16), ties to even."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.fptrunc(arguments[0], _BFloat16()), _INT16)

    return types.uint16(types.float32), build


def dpbf16ps(builder: Any, sums: Any, pairs: Any, others: Any) -> Any:
    """Add the products of the bfloat16 ``pairs`` and ``others`` (bits as ``INTS``) to ``sums``
    (``FLOATS``)."""
    function = builder.module.declare_intrinsic(
        "llvm.x86.avx512bf16.dpbf16ps.512", (), ir.FunctionType(FLOATS, (FLOATS, _PAIRS, _PAIRS))
    )
    converted = builder.bitcast(pairs, _PAIRS), builder.bitcast(others, _PAIRS)
    return builder.call(function, (sums, *converted))


def load(builder: Any, address: Any, offset: int, kind: Any) -> Any:
    """Load a register of ``kind`` from ``address`` plus ``offset`` bytes, unaligned."""
    return builder.load(_place(builder, address, offset, kind), align=1)


def broadcast_load_32(builder: Any, address: Any, offset: int = 0) -> Any:
    """Load 32 bits and broadcast them to all lanes (``INTS``)."""
    return broadcast(builder, load(builder, address, offset, _INT32), INTS)


def store(builder: Any, register: Any, address: Any, offset: int) -> None:
    builder.store(register, _place(builder, address, offset, register.type), align=1)


def broadcast(builder: Any, number: Any, kind: Any) -> Any:
    """Broadcast one element to all lanes of a register of ``kind``."""
    nothing = kind(ir.Undefined)
    first = builder.insert_element(nothing, number, _INT32(0))
    return builder.shuffle_vector(first, nothing, INTS([0] * LANES))


def _place(builder: Any, address: Any, offset: int, kind: Any) -> Any:
    return builder.inttoptr(builder.add(address, INT64(offset)), kind.as_pointer())


def build_gemm_tile(rows: int, registers: int, *, adds: bool) -> JitFunction:
    """Build the GEMM kernel for tiles of ``rows`` rows and 16 · ``registers`` columns.

    With ``adds`` it adds to the output, else it overwrites it.
    """

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
        """Multiply ``left`` ``[rows, 2 steps]`` by ``right`` into ``into`` ``[rows, columns]``,
        float32.

        ``right`` is ``[steps, columns, 2]``, contiguous: the two elements of a column that meet a
        pair of ``left`` are adjacent. All three are addresses; strides are in bytes.
        """

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _build_tile(builder, rows, registers, adds, arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), build

    return multiply_tile


def _build_tile(builder: Any, rows: int, registers: int, adds: bool, arguments: Any) -> None:
    """Emit the instructions of ``multiply_tile`` for its ``arguments``."""
    left, left_stride, right, steps, into, into_stride = arguments

    def behind(address: Any, count: Any, stride: Any) -> Any:
        return builder.add(address, builder.mul(count, stride))

    # accumulators: LLVM promotes these stack slots to registers
    sums = {}
    for row in range(rows):
        for register in range(registers):
            place = behind(into, INT64(row), into_stride), register * REGISTER_BYTES
            first = load(builder, *place, FLOATS) if adds else FLOATS([0.0] * LANES)
            sums[row, register] = cgutils.alloca_once(builder, FLOATS)
            builder.store(first, sums[row, register])
    # inner dimension: one bfloat16 pair per row and column a step
    with cgutils.for_range(builder, steps) as loop:
        pairs = behind(left, loop.index, INT64(NUMBER_BYTES))
        step = behind(right, loop.index, INT64(registers * REGISTER_BYTES))
        columns = [
            load(builder, step, register * REGISTER_BYTES, INTS) for register in range(registers)
        ]
        # broadcast a pair of each row, multiply it with all columns
        for row in range(rows):
            pair = broadcast_load_32(builder, behind(pairs, INT64(row), left_stride))
            for register in range(registers):
                held = sums[row, register]
                more = dpbf16ps(builder, builder.load(held), pair, columns[register])
                builder.store(more, held)
    # write the tile
    for (row, register), held in sums.items():
        place = behind(into, INT64(row), into_stride), register * REGISTER_BYTES
        store(builder, builder.load(held), *place)
