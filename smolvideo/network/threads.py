"""How many threads read a prompt and its tokens on a CPU.

Threads that share a product wait for each other after every one, a hundred times and more per
token. On free cores that costs little; where others want the cores, all wait for the one thread
that has none. So a prompt begins with all threads, and where not all of them get a core it goes on
with those that do, for some layers. The products of a single row read their weights once and
compute almost nothing: for one token more threads are tried only where cores were free in the
prompt before it, and kept where they pay. Where they do not, they are tried again, ever more
rarely: one busy moment must not slow a whole answer. That is for bfloat16, whose numbers are the
same with any threads; in float32 the last bits are not, and an answer must not hang on how busy a
machine is.
"""

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch
from torch import Tensor

_BYTES_PER_THREAD = 32 << 20
"""Weights of a layer that keep a thread busy for long: about a millisecond at 30 GB/s. On two busy
virtual cores two threads were slower than one on 7 and on 19 MB per layer (256M, 500M) and as fast
on 128 MB (2.2B)."""

_FREE = 0.8
"""Share of the time of all threads in which each had a core, from which on cores count as free."""
_TAKEN = 0.6
"""That below which some count as taken. In between are free cores, too, where one thread has more
to do than the others."""
_STRETCH_SECONDS = 0.1
"""What that is measured over, at least."""
_LAYERS_WITH_FEWER = 6
"""Layers until all threads are tried again."""
_TELLS = sys.platform == "linux"
"""Whether a thread that waits for others counts as one that has a core: with the threads of other
systems it sleeps at once, see ``use_usable_cores``."""

_TRIALS = 3
_GAIN = 0.95
"""Twice as many threads are worth it where a token takes this share of the time, or less."""
_TOKENS_WITH_FEWER = 32
"""Tokens until more threads are tried again for the first time; then twice as many, and so on."""


class ReadingThreads:
    """The threads of one decoder: whether cores are free, and how long a token takes with how many.

    ``bytes_of_a_layer`` are what the products of one layer with one row cost; ``clock`` tells the
    time, and ``cpu_clock`` what of it all threads of this process had, both in seconds. (What
    others than ours have had counts as ours: then a core may seem free that is not.)
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
        self._free = self._were_free = False
        self._patience = _TOKENS_WITH_FEWER
        self._with_fewer = 0
        self._took: dict[int, deque[float]] = {}
        self._wanted = self._had = 0.0
        self._since = 0.0, 0.0

    @contextmanager
    def reading(self, x: Tensor) -> Iterator[Callable[[], None]]:
        """Let ``x`` ``[1, L, D]`` go through the layers; what this gives is to be called after each
        layer."""
        most, one = torch.get_num_threads(), x.shape[1] == 1
        if x.device.type != "cpu" or most == 1:
            yield nothing
            return
        try:
            if x.dtype is not torch.bfloat16:
                torch.set_num_threads(min(most, self._worth) if one else most)
                yield nothing
            elif one:
                with self._token(self._choice(most)):
                    yield nothing
            else:
                yield self._steps_of_prompt(most)
        finally:
            torch.set_num_threads(most)

    def _steps_of_prompt(self, most: int) -> Callable[[], None]:
        """What keeps the threads of a prompt to those that have a core, layer by layer."""
        layers_with_fewer = 0
        self._wanted = self._had = 0.0
        self._begin()

        def after_layer() -> None:
            nonlocal layers_with_fewer
            if layers_with_fewer == 0:
                share = self._share_had(most)
                if share is not None:
                    self._were_free = share >= _FREE
                    self._patience = _TOKENS_WITH_FEWER
                    self._forget()
                    if share < _TAKEN:
                        torch.set_num_threads(max(1, min(most - 1, round(most * share))))
                        layers_with_fewer = _LAYERS_WITH_FEWER
                return
            layers_with_fewer -= 1
            if layers_with_fewer == 0:
                torch.set_num_threads(most)
                self._begin()

        return after_layer

    @contextmanager
    def _token(self, threads: int) -> Iterator[None]:
        torch.set_num_threads(threads)
        self._begin()
        began = self._since[0]
        yield
        took = self._clock() - began
        self._took.setdefault(threads, deque(maxlen=_TRIALS)).append(took)
        if threads > 1 and self._free:
            share = self._share_had(threads)
            self._free = share is None or share >= _FREE

    def _choice(self, most: int) -> int:
        """For one row: as many as it keeps busy, or what has turned out best on free cores."""
        best = threads = min(most, self._worth)
        least = math.inf
        while self._free and threads <= most:
            took = tuple(self._took.get(threads, ()))
            if len(took) < _TRIALS:
                return threads
            if median(took) > _GAIN * least:
                break
            best, least = threads, median(took)
            threads = most if threads < most < 2 * threads else 2 * threads
        if self._were_free and threads <= most:
            self._with_fewer += 1
            if self._with_fewer == self._patience:
                self._patience *= 2
                self._forget()
        return best

    def _forget(self) -> None:
        """What tokens told, not the prompt: what was slow may have been so for others' sake."""
        self._free, self._took, self._with_fewer = self._were_free, {}, 0

    def _begin(self) -> None:
        self._since = self._clock(), self._cpu_clock()

    def _share_had(self, threads: int) -> float | None:
        """The share of their time in which ``threads`` had a core; None until it can be told."""
        if not _TELLS:
            return None
        started, worked = self._since
        self._begin()
        self._wanted += (self._since[0] - started) * threads
        self._had += self._since[1] - worked
        if self._wanted < _STRETCH_SECONDS * threads:
            return None
        share, self._wanted, self._had = self._had / self._wanted, 0.0, 0.0
        return share


def nothing() -> None:
    """Where the number of threads stays as it is."""
