"""Dynamic work sharing: threads claim chunks of work from atomic counters.

Work has phases of independent chunks (``parts``), and a phase begins when the one before has ended.
Threads wait only for chunks that were claimed: a thread without a core leaves its share to the
others, and a thread that starts after the end finds nothing to do.

A phase has two counters, each in a cache line of its own: chunks claimed, and chunks done.
"""

import sys
from typing import Any

import numpy as np
from numba import types

from smolvideo.network.kernels.jit import jit
from smolvideo.network.kernels.memory import atomic_add, atomic_load

COUNTERS_PER_PHASE = 32
_BYTES_PER_PHASE = 8 * COUNTERS_PER_PHASE
_DONE = _BYTES_PER_PHASE // 2

_SPINS_BEFORE_YIELD = 2000
"""Polls of the counter before a waiting thread yields its core."""

if sys.platform == "win32":  # it has no such function in its C library

    @jit
    def _sched_yield() -> None:
        pass

else:
    _sched_yield = types.ExternalFunction("sched_yield", types.int32())


@jit
def claim(counters: int, phase: int, parts: int) -> Any:
    """Claim a chunk of ``phase``; −1 when all are taken."""
    place = counters + phase * _BYTES_PER_PHASE
    if atomic_load(place) >= parts:
        return -1
    part = atomic_add(place, 1)
    return part if part < parts else np.int64(-1)


@jit
def mark_done(counters: int, phase: int) -> None:
    """Count a claimed chunk as done."""
    atomic_add(counters + phase * _BYTES_PER_PHASE + _DONE, 1)


@jit
def is_phase_done(counters: int, phase: int, parts: int) -> bool:
    return atomic_load(counters + phase * _BYTES_PER_PHASE + _DONE) >= parts


@jit
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
