"""Threads that help the caller's: they may come late, or not at all."""

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from queue import SimpleQueue

Work = Callable[[], object]


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
