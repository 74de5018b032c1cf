"""numba compilation of the kernels: flags, on-disk cache, target CPU."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import llvmlite
import numba
from numba import njit
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.extending import overload

JitFunction = Callable[..., Any]

_FASTMATH_FLAGS = {"arcp", "contract", "nsz", "reassoc"}
"""Sums may be reordered, so that they vectorize. NaN stays NaN: NaN logits show that a network
fails."""

_OPTIONS = {"nogil": True, "boundscheck": False, "error_model": "numpy"}


def jit(function: JitFunction) -> JitFunction:
    """Compile ``function`` for the argument types it is called with."""
    return njit(fastmath=_FASTMATH_FLAGS, **_OPTIONS)(function)


def jit_callee(function: JitFunction) -> JitFunction:
    """Compile as ``jit`` does, for compiled callers alone: the wrappers by which Python and C would
    call it take a sixth of the time of compilation."""
    wrappers = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return njit(fastmath=_FASTMATH_FLAGS, **_OPTIONS, **wrappers)(function)


def jit_cached(function: JitFunction) -> JitFunction:
    """Compile as ``jit`` does, cached on disk next to the source file or in the user's cache
    folder.

    Each function and target CPU has index files of its own: two processes that compile at the same
    time would otherwise write one index.
    """
    function.__qualname__ += f"_{crc32(repr(compile_target()).encode()):08x}"
    try:
        return njit(fastmath=_FASTMATH_FLAGS, cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no writable cache folder: compile in every process
        return jit(function)


def compile_target() -> tuple[str, str, str]:
    """Return numba's target: system, CPU, and its features, ``+avx2,-avx512f,…``."""
    with global_compiler_lock:  # the first call makes numba's contexts
        target_triple: tuple[str, str, str] = cpu_target.target_context.codegen().magic_tuple()
    return target_triple


def compiler_version() -> str:
    """Versions of numba and llvmlite, and the CPU: another of them may order sums differently."""
    return f"numba {numba.__version__}, llvmlite {llvmlite.__version__}, {compile_target()[1]}"


@cache
def source_checksum() -> int:
    """Checksum of all kernel sources.

    numba's cache only watches the file of the cached function, not those it calls, but compares its
    closure variables, one of which is this checksum. Kernels return it, so that they refer to it;
    the return value is unused.
    """
    files = sorted(Path(__file__).parent.glob("*.py"))
    return crc32(b"".join(file.read_bytes() for file in files))


def overload_by_type(choose: JitFunction) -> JitFunction:
    """Make a function for compiled callers: ``choose`` gets the argument types and returns the
    implementation that is compiled for them."""

    def function(*arguments: Any) -> Any:
        raise TypeError(f"`{choose.__name__}` is for compiled callers")

    overload(function)(choose)
    return function
