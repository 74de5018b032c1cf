"""Threads on a CPU: of torch's prefill, and of the compiled kernels.

torch's threads meet at a barrier after every product, seven times a layer. On free cores that costs
little; on a busy machine all wait for the one thread without a core. So a prefill begins with all
threads; where not all of them get a core, it continues for some layers with as many as do. That is
for bfloat16, whose results are the same with any number of threads; in float32 the last bits are
not, and an answer must not depend on how busy a machine is.

A single token is decoded by a ``CpuDecoder``, which has threads of its own. Where there is none,
products of a tiny network are too short to be shared, and run on one thread.
"""

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from queue import SimpleQueue
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_MIN_PARALLEL_WIDTH = 512
"""Minimum hidden size for products of one token on several threads: nano has 192, 256M 576."""

_MIN_CPU_SHARE = 0.6
"""CPU time per wall time and thread below which some cores count as taken: even on free cores a
thread waits while another has more to do."""
_PROBE_SECONDS = 0.1
"""Minimum wall time over which the share is measured."""
_BACKOFF_LAYERS = 6
"""Layers until all threads are tried again."""
_HAS_THREAD_CLOCK = sys.platform == "linux"
"""Whether a thread at a barrier spins, so that its CPU time shows that it has a core: on other
systems it sleeps at once, see ``set_num_threads``."""


class PrefillThreads:
    """Adapt the number of torch threads to the cores that are free, for one decoder.

    ``clock`` is wall time, ``cpu_clock`` the CPU time of all threads of this process, both in
    seconds. (Threads other than torch's count, too: then a core may seem free that is not.)
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock, self._cpu_clock = clock, cpu_clock
        self._wanted = self._had = 0.0
        self._since = 0.0, 0.0

    @contextmanager
    def limit(self, x: Tensor) -> Iterator[Callable[[], None]]:
        """Set the threads while ``x`` ``[1, L, D]`` goes through the layers; the yielded function
        must be called after each layer."""
        most, one = torch.get_num_threads(), x.shape[1] == 1
        if x.device.type != "cpu" or most == 1:
            yield noop
            return
        try:
            if one and x.shape[2] < _MIN_PARALLEL_WIDTH:
                torch.set_num_threads(1)
            yield noop if one or x.dtype is not torch.bfloat16 else self._steps(most)
        finally:
            torch.set_num_threads(most)

    def _steps(self, most: int) -> Callable[[], None]:
        """Return the function that adapts the number of threads after each layer."""
        layers_with_fewer = 0
        self._wanted = self._had = 0.0
        self._begin()

        def after_layer() -> None:
            nonlocal layers_with_fewer
            if layers_with_fewer == 0:
                share = self._share_had(most)
                if share is not None and share < _MIN_CPU_SHARE:
                    torch.set_num_threads(max(1, min(most - 1, round(most * share))))
                    layers_with_fewer = _BACKOFF_LAYERS
                return
            layers_with_fewer -= 1
            if layers_with_fewer == 0:
                torch.set_num_threads(most)
                self._begin()

        return after_layer

    def _begin(self) -> None:
        self._since = self._clock(), self._cpu_clock()

    def _share_had(self, threads: int) -> float | None:
        """Share of their time in which ``threads`` had a core; None until enough time was
        measured."""
        if not _HAS_THREAD_CLOCK:
            return None
        started, worked = self._since
        self._begin()
        self._wanted += (self._since[0] - started) * threads
        self._had += self._since[1] - worked
        if self._wanted < _PROBE_SECONDS * threads:
            return None
        share, self._wanted, self._had = self._had / self._wanted, 0.0, 0.0
        return share


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run torch's operators on one thread: those of many short operators, one after the other, take
    2 to 3 times as long where they meet after each on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def noop() -> None:
    """Leave the number of threads as it is."""


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
