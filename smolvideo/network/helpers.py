"""Threads that help the caller's: they may come late, or not at all."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Work = Callable[[], object]

_MOST_THREADS = 16
"""All wait for each other many times. (No more than two cores were measured.)"""

_ALL_DONE = 1 << 40
"""More parts than any phase of any work has."""


class Helpers:
    """As many threads as were ever asked for at once, each of which takes the next work.

    Work is put where an interrupt leaves no lock behind, and nobody is told that it is done. The
    threads are daemons: an interpreter that ends does not wait for them.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Work] = SimpleQueue()
        self._threads = 0

    def ask(self, work: Work, times: int) -> None:
        """Let ``times`` threads do ``work`` beside whatever the caller does."""
        with suppress(RuntimeError):  # the interpreter ends, or the system has no more threads
            while self._threads < times:
                threading.Thread(target=self._help, name="smolvideo-helper", daemon=True).start()
                self._threads += 1
        for _ in range(times if self._threads else 0):
            self._queue.put(work)

    def _help(self) -> None:
        while True:
            work = self._queue.get()
            with suppress(Exception):  # the caller does the same work, and is told
                work()
            del work  # and all that it holds


@lru_cache(maxsize=1)
def helpers(process: int) -> Helpers:
    """Those of this ``process``: the threads of the one it was forked from are not with it."""
    return Helpers()


def most_threads(threads: int) -> int:
    """How many of ``threads`` share work."""
    return min(threads, _MOST_THREADS)


def share(work: Work, threads: int, counters: "NDArray[np.int64]") -> None:
    """Let the caller's thread do ``work``, and others help it, ``threads`` in all; ``counters`` are
    those of its parts (see ``kernels.sharing``)."""
    try:
        helpers(os.getpid()).ask(work, most_threads(threads) - 1)
        work()
    except BaseException:
        counters += _ALL_DONE  # whoever still helps finds nothing more to do
        raise
