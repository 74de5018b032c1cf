"""Threads that help the caller's: they may come late, or not at all."""

import atexit
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Work = Callable[[], object]

_MAX_THREADS = 16
"""All wait for each other many times. (No more than two cores were measured.)"""

_STOP_SECONDS = 1.0
"""How long an interpreter that ends waits for threads in the midst of work."""

_POISON = 1 << 40
"""More parts than any phase of any work has."""


class ThreadPool:
    """As many threads as were ever asked for at once, each of which takes the next work.

    Work is put where an interrupt leaves no lock behind, and nobody is told that it is done. The
    threads are daemons: an interpreter that ends waits for no work, see ``stop``.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, work: Work, times: int) -> None:
        """Let ``times`` threads do ``work`` beside whatever the caller does."""
        with suppress(RuntimeError):  # the interpreter ends, or the system has no more threads
            while len(self._threads) < times:
                thread = threading.Thread(target=self._help, name="smolvideo-helper", daemon=True)
                thread.start()
                self._threads.append(thread)
        for _ in range(times if self._threads else 0):
            self._queue.put(work)

    def stop(self) -> None:
        """Let the threads end, and wait a moment for those that do.

        To be called before the interpreter ends: a thread that lets go of the last reference to a
        tensor while it does so ends the process with an error (torch's destructors ask for the
        interpreter's lock).
        """
        for _ in self._threads:
            self._queue.put(None)
        until = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _help(self) -> None:
        while (work := self._queue.get()) is not None:
            with suppress(Exception):  # the caller does the same work, and is told
                work()
            del work  # and all that it holds


@lru_cache(maxsize=1)
def thread_pool(process: int) -> ThreadPool:
    """Those of this ``process``: the threads of the one it was forked from are not with it."""
    made = ThreadPool()
    atexit.register(made.stop)
    return made


def max_workers(threads: int) -> int:
    """How many of ``threads`` share work."""
    return min(threads, _MAX_THREADS)


def parallel_call(work: Work, threads: int, counters: "NDArray[np.int64]") -> None:
    """Let the caller's thread do ``work``, and others help it, ``threads`` in all; ``counters`` are
    those of its parts (see ``kernels.sharing``)."""
    try:
        thread_pool(os.getpid()).submit(work, max_workers(threads) - 1)
        work()
    except BaseException:
        counters += _POISON  # whoever still helps finds nothing more to do
        raise
