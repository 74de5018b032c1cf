"""Threads that share work: whoever is free takes the next part.

Work comes in phases, each of some parts that need nothing of each other, and a phase begins when
the one before has ended. No thread is waited for that has not taken a part: one that gets no core
leaves its share to the others, and one that comes when all is done finds nothing to do.

A phase has two counters, each in a cache line of its own: parts that were taken, and parts that
are done.
"""

import sys
from typing import Any

import numpy as np
from numba import types

from smolvideo.network.kernels.compiling import compiled
from smolvideo.network.kernels.memory import add_at, read_at

INT64S_OF_A_PHASE = 32
_BYTES_OF_A_PHASE = 8 * INT64S_OF_A_PHASE
_DONE = _BYTES_OF_A_PHASE // 2

_LOOKS = 2000
"""How often a thread looks whether the others are done before it offers its core to them."""

if sys.platform == "win32":  # it has no such function in its C library

    @compiled
    def _offer_core() -> None:
        pass

else:
    _offer_core = types.ExternalFunction("sched_yield", types.int32())


@compiled
def taken(counters: int, phase: int, parts: int) -> Any:
    """A part of ``phase`` that is the caller's to do, or −1 when all are taken."""
    place = counters + phase * _BYTES_OF_A_PHASE
    if read_at(place) >= parts:
        return -1
    part = add_at(place, 1)
    return part if part < parts else np.int64(-1)


@compiled
def done(counters: int, phase: int) -> None:
    """Tell that a part was done."""
    add_at(counters + phase * _BYTES_OF_A_PHASE + _DONE, 1)


@compiled
def are_done(counters: int, phase: int, parts: int) -> bool:
    return read_at(counters + phase * _BYTES_OF_A_PHASE + _DONE) >= parts


@compiled
def wait(counters: int, phase: int, parts: int) -> int:
    """Until all parts of ``phase`` are done; the number of the next."""
    looks = 0
    while not are_done(counters, phase, parts):
        looks += 1
        if looks > _LOOKS:
            _offer_core()
    return phase + 1


def new_counters(phases: int) -> Any:
    """For work of so many phases."""
    return np.zeros((phases, INT64S_OF_A_PHASE), dtype=np.int64)
