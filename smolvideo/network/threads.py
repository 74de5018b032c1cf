"""How many threads one token is worth on a CPU.

The products of a single row read their weights once and compute almost nothing. With more threads
they read faster, and pay for it at every product: sleeping threads take tens of microseconds to
wake, and threads that wait awake for others that do not get a core bring a busy machine to a halt.
So more threads are tried only where the cores were free a moment ago, and kept where they pay. The
numbers are the same with any.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch

_BYTES_PER_THREAD = 32 << 20
"""Weights of a layer that keep a thread busy for long: about a millisecond at 30 GB/s. On two busy
virtual cores two threads were slower than one on 7 and on 19 MB per layer (256M, 500M) and as fast
on 128 MB (2.2B)."""

_FREE = 0.9
"""Share of the time of all threads in which each had a core, from which on the cores were free."""
_STRETCH_SECONDS = 0.25
"""What that is measured over, at least: a process's own time is told in steps of up to 16 ms."""
_TRIALS = 3
_GAIN = 0.95
"""Twice as many threads are worth it where a token takes this share of the time, or less."""


class TokenThreads:
    """The threads of one decoder: what was free, and how long a token took with how many.

    ``bytes_of_a_layer`` are what the products of one layer with one row cost; ``clock`` tells the
    time, and ``cpu_clock`` what of it all threads of this process had, both in seconds.
    """

    def __init__(
        self,
        bytes_of_a_layer: int,
        *,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._worth = max(1, bytes_of_a_layer // _BYTES_PER_THREAD)
        self._clock, self._cpu_clock = clock, cpu_clock
        self._free = False
        self._took: dict[int, deque[float]] = {}
        self._stretch = [0.0, 0.0]

    @contextmanager
    def reading(self, rows: int, device: torch.device) -> Iterator[None]:
        """Let ``rows`` go through the layers: many with all threads, one with what it is worth."""
        most = torch.get_num_threads()
        if device.type != "cpu" or most == 1:
            yield
            return
        threads = most if rows > 1 else self._choice(most)
        torch.set_num_threads(threads)
        started, worked = self._clock(), self._cpu_clock()
        try:
            yield
        finally:
            torch.set_num_threads(most)
        seconds = self._clock() - started
        if rows == 1:
            self._took.setdefault(threads, deque(maxlen=_TRIALS)).append(seconds)
        if threads > 1:
            self._look_around(seconds * threads, self._cpu_clock() - worked, threads)

    def _choice(self, most: int) -> int:
        """For one row: as many as it keeps busy, or what has turned out best on free cores."""
        if not self._free:
            return min(most, self._worth)
        best, threads = 1, 1
        while threads <= most:
            took = self._took.get(threads, ())
            if len(took) < _TRIALS:
                return threads
            if threads > 1 and median(took) > _GAIN * median(self._took[best]):
                break
            best, threads = threads, most if threads < most < 2 * threads else 2 * threads
        return best

    def _look_around(self, wanted: float, had: float, threads: int) -> None:
        """Take note of whether ``threads`` had a core each."""
        self._stretch[0] += wanted
        self._stretch[1] += had
        wanted, had = self._stretch
        if wanted >= _STRETCH_SECONDS * threads:
            free = had >= _FREE * wanted
            if free != self._free:
                self._free = free
                self._took.clear()
            self._stretch = [0.0, 0.0]
