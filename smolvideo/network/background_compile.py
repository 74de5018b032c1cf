"""What numba compiles, or fetches from where it is kept, while whoever needs it goes on."""

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
    """Whether there is a numba that works with what else is installed, and compiles."""
    try:
        import numba
    except ImportError:
        return False
    return not numba.config.DISABLE_JIT


class CompiledInBackground(Generic[T]):
    """What ``make`` returns, made in a thread of its own.

    ``make`` is told whether compiled code may be fetched and kept: where that fails, any of the
    files may be broken, and it is called once more to do without.
    """

    def __init__(self, make: Callable[[bool], T]) -> None:
        self._make: Callable[[bool], T] | None = make
        self._made: T | None = None
        self._thread = threading.Thread(target=self._prepare, daemon=True)
        with suppress(RuntimeError):  # the interpreter ends: no more threads
            self._thread.start()
            _preparing.add(self._thread)

    def get(self) -> T:
        """Waits for it; raises ModelError where it cannot be made."""
        if self._make is not None:
            with suppress(RuntimeError):  # it was never started
                self._thread.join()
        make = self._make
        if make is not None:
            # It failed, or was at work in the process that this one was forked from.
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
        with suppress(Exception):  # a broken file, or a full disk: ``get`` tries without
            self._keep(self._make(True))

    def _keep(self, made: T) -> None:
        """``made``, and no longer what made it: that may hold a network."""
        self._made = made
        self._make = None


_preparing: WeakSet[threading.Thread] = WeakSet()


def _wait_for_compilers() -> None:
    """A process that is forked while numba compiles could never compile."""
    for thread in list(_preparing):
        thread.join()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_compilers)
