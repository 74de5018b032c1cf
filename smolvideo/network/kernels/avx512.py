"""Registers of 64 bytes (AVX-512) and the product of pairs of bfloat16, in LLVM's language.

``vdpbf16ps`` of AVX512-BF16 multiplies 16 pairs of numbers with 16 others and adds both products of
each to one of 16 sums in float32: twice what other instructions multiply at once. LLVM finds it in
no loop, so what is to use it says so here. It ends the process where it is told to use an
instruction that the processor does not have: ask first.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from smolvideo.network.kernels.jit import compile_target

LANES = 16
"""Numbers of 32 bits in a register."""

REGISTER_BYTES, NUMBER_BYTES = 64, 4


class _BFloat16(ir.Type):  # type: ignore[misc]  # llvmlite has no types
    """The one type of LLVM that llvmlite has no name for."""

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
    """Whether numba compiles for a processor that has the instruction."""
    return _features() >= {"avx512bf16", "avx512bw", "avx512vl"}


def has_avx512_vbmi() -> bool:
    """Whether bytes can go to any place of a register at once (AVX512-VBMI): without that it takes
    many instructions."""
    return "avx512vbmi" in _features()


def has_amx() -> bool:
    """Whether the processor has AMX, with which oneDNN multiplies several times as fast."""
    return "amx-bf16" in _features()


def _features() -> set[str]:
    """Those of the processor but for what numba was told to leave alone (``NUMBA_CPU_FEATURES``,
    ``NUMBA_ENABLE_AVX``)."""
    *_, features = compile_target()
    return {name[1:] for name in features.split(",") if name.startswith("+")}


@intrinsic
def to_bfloat16(typing_context: Any, number: Any) -> Any:
    """float32 as bfloat16, told as uint16: to the nearest, and of two the even one."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.fptrunc(arguments[0], _BFloat16()), _INT16)

    return types.uint16(types.float32), build


def dpbf16ps(builder: Any, sums: Any, pairs: Any, others: Any) -> Any:
    """``sums`` (``FLOATS``) and the products of ``pairs`` with ``others``, told as ``INTS``."""
    function = builder.module.declare_intrinsic(
        "llvm.x86.avx512bf16.dpbf16ps.512", (), ir.FunctionType(FLOATS, (FLOATS, _PAIRS, _PAIRS))
    )
    told = builder.bitcast(pairs, _PAIRS), builder.bitcast(others, _PAIRS)
    return builder.call(function, (sums, *told))


def load(builder: Any, address: Any, offset: int, kind: Any) -> Any:
    """A register of ``kind`` from so many bytes behind ``address``."""
    return builder.load(_place(builder, address, offset, kind), align=1)


def broadcast_load_32(builder: Any, address: Any, offset: int = 0) -> Any:
    """32 bits from there, in all lanes (``INTS``)."""
    return broadcast(builder, load(builder, address, offset, _INT32), INTS)


def store(builder: Any, register: Any, address: Any, offset: int) -> None:
    builder.store(register, _place(builder, address, offset, register.type), align=1)


def broadcast(builder: Any, number: Any, kind: Any) -> Any:
    """A register of ``kind`` with one number in all places."""
    nothing = kind(ir.Undefined)
    first = builder.insert_element(nothing, number, _INT32(0))
    return builder.shuffle_vector(first, nothing, INTS([0] * LANES))


def _place(builder: Any, address: Any, offset: int, kind: Any) -> Any:
    return builder.inttoptr(builder.add(address, INT64(offset)), kind.as_pointer())
