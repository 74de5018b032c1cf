"""A kernel that compiles in a moment, and one whose compilation never ends."""

import threading
from typing import Any

import numpy as np

from smolvideo.network.kernels.jit import JitFunction, jit, jit_cached


def tripled(dtype: str, *, kept: bool) -> tuple[JitFunction, tuple[Any, ...]]:
    """Build the kernel that triples an array of ``dtype``, see ``KernelBuild``."""

    def triple(values: Any) -> None:
        for i in range(values.shape[0]):
            values[i] *= 3

    return (jit_cached if kept else jit)(triple), (np.empty(0, dtype),)


def endless(*, kept: bool) -> tuple[JitFunction, tuple[Any, ...]]:
    """Build nothing, for ever."""
    threading.Event().wait()
    raise AssertionError
