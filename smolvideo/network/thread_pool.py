"""Thread pool for compiled kernels: its threads join the caller's work late, or not at all."""

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
"""Maximum threads per work, which wait for each other many times. (No more than two cores were
measured.)"""

_STOP_SECONDS = 1.0
"""Seconds that interpreter exit waits for threads that are at work."""

_POISON = 1 << 40
"""More chunks than any phase of any work has: added to the counters, it ends the work."""


class ThreadPool:
    """Daemon threads, as many as were ever requested at once, that take work from a queue.

    The queue is a ``SimpleQueue``, which an interrupt never leaves locked; the end of work is not
    reported. The interpreter does not wait for daemon threads at exit: see ``stop``.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, work: Work, times: int) -> None:
        """Let ``times`` threads run ``work`` concurrently with the caller."""
        with suppress(RuntimeError):  # interpreter shutdown, or no more threads in the system
            while len(self._threads) < times:
                thread = threading.Thread(target=self._help, name="smolvideo-helper", daemon=True)
                thread.start()
                self._threads.append(thread)
        for _ in range(times if self._threads else 0):
            self._queue.put(work)

    def stop(self) -> None:
        """End the threads, and wait a moment for those at work.

        Must be called before the interpreter ends: a thread that drops the last reference to a
        tensor during shutdown ends the process with an error (torch's destructors take the
        interpreter's lock).
        """
        for _ in self._threads:
            self._queue.put(None)
        until = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _help(self) -> None:
        while (work := self._queue.get()) is not None:
            with suppress(Exception):  # the caller runs the same work, and raises
                work()
            del work  # releases the tensors it refers to


@lru_cache(maxsize=1)
def thread_pool(process: int) -> ThreadPool:
    """Return the thread pool of this process. Threads do not survive a fork, so the cache is keyed
    by pid."""
    made = ThreadPool()
    atexit.register(made.stop)
    return made


def max_workers(threads: int) -> int:
    """Number of ``threads`` that share work."""
    return min(threads, _MAX_THREADS)


def parallel_call(work: Work, threads: int, counters: "NDArray[np.int64]") -> None:
    """Run ``work`` on the caller's thread and on pool threads, ``threads`` in all; ``counters`` are
    its work counters (see ``kernels.work_sharing``)."""
    try:
        thread_pool(os.getpid()).submit(work, max_workers(threads) - 1)
        work()
    except BaseException:
        counters += _POISON  # threads still at work find no chunks left
        raise
