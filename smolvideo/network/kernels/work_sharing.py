"""Memory that threads share: array views by address, atomic counters, and claims of work.

Work has phases of independent chunks (``parts``), and a phase begins when the one before has ended.
Threads wait only for chunks that were claimed: a thread without a core leaves its share to the
others, and a thread that starts after the end finds nothing to do.

A phase has two counters, each in a cache line of its own: chunks claimed, and chunks done.
"""

import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from smolvideo.network.kernels.jit import jit_callee

_INT64 = ir.IntType(64)
_CACHE_LINE = 64


@intrinsic
def _pointer(typing_context: Any, address: Any, like: Any) -> Any:
    """Cast ``address`` to a pointer to elements of the dtype of the array ``like``."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(types.int64, like), build


@jit_callee
def array_from_address(address: int, shape: tuple[int, ...], like: Any) -> Any:
    """View memory at ``address`` as an array of ``shape``, in the dtype of ``like``."""
    return carray(_pointer(address, like), shape)


@jit_callee
def address_of(array: Any) -> Any:
    """Address of an array as int64: numba's own is uint64, whose sum with an int64 is float64."""
    return np.int64(array.ctypes.data)


@intrinsic
def atomic_add(typing_context: Any, address: Any, number: Any) -> Any:
    """Add to the int64 at ``address`` atomically, and return its value before."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _INT64.as_pointer())
        return builder.atomic_rmw("add", place, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), build


@intrinsic
def atomic_load(typing_context: Any, address: Any) -> Any:
    """Load the int64 at ``address`` (acquire): whatever other threads wrote before their
    ``atomic_add`` is visible."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _INT64.as_pointer())
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(types.int64), build


@intrinsic
def _prefetch_line(typing_context: Any, address: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, int32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        fetch = builder.module.declare_intrinsic(
            "llvm.prefetch",
            (byte,),
            ir.FunctionType(ir.VoidType(), (byte, int32, int32, int32)),
        )
        place = builder.inttoptr(arguments[0], byte)
        # read, locality 2 (L2 cache), data
        builder.call(fetch, (place, int32(0), int32(2), int32(1)))
        return context.get_dummy_value()

    return types.void(types.int64), build


@jit_callee
def prefetch(address: int, count: int) -> None:
    """Prefetch ``count`` bytes; invalid addresses are harmless."""
    for offset in range(0, count, _CACHE_LINE):
        _prefetch_line(address + offset)


COUNTERS_PER_PHASE = 32
_BYTES_PER_PHASE = 8 * COUNTERS_PER_PHASE
_DONE = _BYTES_PER_PHASE // 2

_SPINS_BEFORE_YIELD = 2000
"""Polls of the counter before a waiting thread yields its core."""

if sys.platform == "win32":  # it has no such function in its C library

    @jit_callee
    def _sched_yield() -> None:
        pass

else:
    _sched_yield = types.ExternalFunction("sched_yield", types.int32())


@jit_callee
def claim(counters: int, phase: int, parts: int) -> Any:
    """Claim a chunk of ``phase``; −1 when all are taken."""
    place = counters + phase * _BYTES_PER_PHASE
    if atomic_load(place) >= parts:
        return -1
    part = atomic_add(place, 1)
    return part if part < parts else np.int64(-1)


@jit_callee
def mark_done(counters: int, phase: int) -> None:
    """Count a claimed chunk as done."""
    atomic_add(counters + phase * _BYTES_PER_PHASE + _DONE, 1)


@jit_callee
def is_phase_done(counters: int, phase: int, parts: int) -> bool:
    return atomic_load(counters + phase * _BYTES_PER_PHASE + _DONE) >= parts


@jit_callee
def wait_for_phase(counters: int, phase: int, parts: int) -> int:
    """Wait until all chunks of ``phase`` are done; return the number of the next phase."""
    looks = 0
    while not is_phase_done(counters, phase, parts):
        looks += 1
        if looks > _SPINS_BEFORE_YIELD:
            _sched_yield()
    return phase + 1


def new_counters(phases: int) -> Any:
    """Make zeroed counters for ``phases`` phases."""
    return np.zeros((phases, COUNTERS_PER_PHASE), dtype=np.int64)
