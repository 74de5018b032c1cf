"""Compile numba kernels, or load them from the on-disk cache, in a background thread."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Generic, TypeVar
from weakref import WeakSet

from smolvideo.errors import ModelError

T = TypeVar("T")


@lru_cache
def has_numba() -> bool:
    """Whether numba can be imported with the installed packages, and its JIT is enabled."""
    try:
        import numba
    except ImportError:
        return False
    return not numba.config.DISABLE_JIT


class CompiledInBackground(Generic[T]):
    """Result of ``make``, which runs in a background thread.

    ``make`` gets True if the on-disk cache of compiled code may be used. Where that fails, any of
    the cached files may be broken, and ``make`` is called once more with False.
    """

    def __init__(self, make: Callable[[bool], T]) -> None:
        self._make: Callable[[bool], T] | None = make
        self._made: T | None = None
        self._thread = threading.Thread(target=self._prepare, daemon=True)
        with suppress(RuntimeError):  # interpreter shutdown: no new threads
            self._thread.start()
            _preparing.add(self._thread)

    def get(self) -> T:
        """Wait for the result and return it. Raises ModelError where it cannot be made."""
        if self._make is not None:
            with suppress(RuntimeError):  # it was never started
                self._thread.join()
        make = self._make
        if make is not None:
            # It failed, or was running in the process that this one was forked from.
            try:
                self._keep(make(False))
            except Exception as error:
                reason = str(error).strip().partition("\n")[0]
                raise ModelError(
                    f"numba cannot compile what is faster than torch: {reason}",
                    hint="`pip uninstall numba` leaves all to torch, which takes longer",
                ) from error
        assert self._made is not None
        return self._made

    def _prepare(self) -> None:
        assert self._make is not None
        with suppress(Exception):  # a broken file, a full disk: ``get`` tries without the cache
            self._keep(self._make(True))

    def _keep(self, made: T) -> None:
        """Store the result, and drop ``make``, which may refer to a network."""
        self._made = made
        self._make = None


_preparing: WeakSet[threading.Thread] = WeakSet()


def _wait_for_compilers() -> None:
    """Wait for compilations before a fork: a process forked during one could never compile."""
    for thread in list(_preparing):
        thread.join()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_compilers)
