"""How many threads read a prompt on a CPU.

Threads that share a product wait for each other after every one, seven times a layer. On free cores
that costs little; where others want the cores, all wait for the one thread that has none. So a
prompt begins with all threads, and where not all of them get a core it goes on with those that do,
for some layers. That is for bfloat16, whose numbers are the same with any threads; in float32 the
last bits are not, and an answer must not hang on how busy a machine is.

A single row is read by a ``TokenStep``, which has threads of its own. Where there is none, products
of a tiny network are too short to be shared: it gets one.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_MIN_PARALLEL_WIDTH = 512
"""Numbers of a row from which on its products are shared: nano has 192, 256M 576."""

_MIN_CPU_SHARE = 0.6
"""Share of the time of all threads in which each had a core, below which some cores count as taken:
even on free ones a thread waits while another has more to do."""
_PROBE_SECONDS = 0.1
"""What that is measured over, at least."""
_BACKOFF_LAYERS = 6
"""Layers until all threads are tried again."""
_HAS_THREAD_CLOCK = sys.platform == "linux"
"""Whether a thread that waits for others counts as one that has a core: with the threads of other
systems it sleeps at once, see ``set_num_threads``."""


class PrefillThreads:
    """The threads of one decoder.

    ``clock`` tells the time, and ``cpu_clock`` what of it all threads of this process had, both in
    seconds. (What others than ours have had counts as ours: then a core may seem free that is not.)
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
        """Let ``x`` ``[1, L, D]`` go through the layers; what this gives is to be called after each
        layer."""
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
        """What keeps the threads of a prompt to those that have a core, layer by layer."""
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
        """The share of their time in which ``threads`` had a core; None until it can be told."""
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


def noop() -> None:
    """Where the number of threads stays as it is."""
