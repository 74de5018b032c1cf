"""How the functions of this package are compiled."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import llvmlite
import numba
from numba import njit
from numba.core.registry import cpu_target
from numba.extending import overload

JitFunction = Callable[..., Any]

_FASTMATH_FLAGS = {"arcp", "contract", "nsz", "reassoc"}
"""Sums may be taken in any order, so that many numbers are added at once. NaN stays NaN: it tells
that a network computes no numbers."""

_OPTIONS = {"nogil": True, "boundscheck": False, "error_model": "numpy"}


def jit(function: JitFunction) -> JitFunction:
    """``function`` in machine code, for the types it is called with."""
    return njit(fastmath=_FASTMATH_FLAGS, **_OPTIONS)(function)


def jit_cached(function: JitFunction) -> JitFunction:
    """The same, kept on disk: beside its file or, where that cannot be, in the user's cache.

    Each function and each processor have files of their own: two processes that compile two of them
    at once would else write one index.
    """
    function.__qualname__ += f"_{crc32(repr(compile_target()).encode()):08x}"
    try:
        return njit(fastmath=_FASTMATH_FLAGS, cache=True, **_OPTIONS)(function)
    except RuntimeError:  # nowhere: then it is compiled each time
        return jit(function)


def compile_target() -> tuple[str, str, str]:
    """What numba compiles for: system, processor, and its features, ``+avx2,-avx512f,…``."""
    told: tuple[str, str, str] = cpu_target.target_context.codegen().magic_tuple()
    return told


def compiler_version() -> str:
    """Another one may take sums in another order."""
    return f"numba {numba.__version__}, llvmlite {llvmlite.__version__}, {compile_target()[1]}"


@cache
def source_checksum() -> int:
    """A checksum of all files of this package.

    numba itself looks whether the file of a kept function has changed, not at those it calls, but
    what the function refers to counts: this number. Returning it is all that is done with it.
    """
    files = sorted(Path(__file__).parent.glob("*.py"))
    return crc32(b"".join(file.read_bytes() for file in files))


def overload_by_type(choose: JitFunction) -> JitFunction:
    """A function for compiled callers: ``choose`` gets the types of the arguments, and returns what
    is compiled for them."""

    def function(*arguments: Any) -> Any:
        raise TypeError(f"`{choose.__name__}` is for compiled callers")

    overload(function)(choose)
    return function
