"""Number of torch threads for a prefill on a CPU.

torch's threads meet at a barrier after every product, seven times a layer. On free cores that costs
little; on a busy machine all wait for the one thread without a core. So a prefill begins with all
threads; where not all of them get a core, it continues for some layers with as many as do. That is
for bfloat16, whose results are the same with any number of threads; in float32 the last bits are
not, and an answer must not depend on how busy a machine is.

A single token is decoded by a ``CpuDecoder``, which has threads of its own. Where there is none,
products of a tiny network are too short to be shared, and run on one thread.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

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


def noop() -> None:
    """Leave the number of threads as it is."""
