"""Compilation of kernels: in the background, and in a child process that fills numba's disk cache.

numba takes 15 seconds and 150 MB for the kernel of one weight format. In this process that memory
would never be returned, so a child compiles what is not on disk yet, and this process loads it.
Where there can be no child, or it fails, this process compiles.

Nothing here imports torch: the child needs no network.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakSet

from smolvideo.errors import ModelError
from smolvideo.files import file_lock
from smolvideo.progress import OnProgress, Progress
from smolvideo.sanitize import display_name

if TYPE_CHECKING:
    from smolvideo.network.kernels.jit import JitFunction

T = TypeVar("T")


@lru_cache
def has_numba() -> bool:
    """Whether numba can be imported with the installed packages, and its JIT is enabled."""
    try:
        import numba
    except ImportError:
        return False
    return not numba.config.DISABLE_JIT


@dataclass(frozen=True)
class KernelBuild:
    """A kernel for one set of argument types, as another process can build it.

    ``function`` is ``module:name`` of a function of ``arguments`` and ``kept`` (whether compiled
    code is cached on disk). It returns the kernel, and arguments by which a call compiles it and
    does no work. ``arguments`` are strings and numbers.
    """

    function: str
    arguments: tuple[str | int, ...] = ()

    def build(self, *, kept: bool) -> "tuple[JitFunction, tuple[Any, ...]]":
        """Return the kernel, not compiled yet, and such arguments."""
        module, _, name = self.function.partition(":")
        kernel, arguments = getattr(import_module(module), name)(*self.arguments, kept=kept)
        return kernel, arguments

    def compile(self, *, kept: bool = True) -> "JitFunction":
        """Return the kernel, compiled in this process or loaded from the disk cache, which a child
        process fills if need be."""
        kernel, arguments = self.build(kept=kept)
        with ExitStack() as compiling:
            if kept and not is_on_disk(kernel, arguments):
                compiling.enter_context(counted())
                self._compile_in_child(kernel, arguments)
            kernel(*arguments)
        return kernel

    def _compile_in_child(self, kernel: "JitFunction", arguments: tuple[Any, ...]) -> None:
        """Let a child fill the disk cache; nothing is done where that is impossible."""
        folder = getattr(getattr(kernel, "stats", None), "cache_path", None)
        if folder is None or not sys.executable:
            return
        with _ONE_CHILD, ExitStack() as held:
            # Other processes wait for this one, instead of compiling the same.
            with suppress(OSError):
                lock = Path(folder) / f"{kernel.__name__}.lock"
                held.enter_context(file_lock(lock, on_contention=lambda: None))
            if not is_on_disk(kernel, arguments):
                _run_child(self)


def is_on_disk(kernel: "JitFunction", arguments: Sequence[Any]) -> bool:
    """Whether numba's disk cache holds ``kernel`` for the types of ``arguments``, for this
    processor."""
    from numba.core.compiler_lock import global_compiler_lock

    with suppress(AttributeError):  # not cached on disk, or another numba
        cache = kernel._cache  # type: ignore[attr-defined]  # numba has no public question for it
        types = tuple(map(kernel.typeof_pyval, arguments))  # type: ignore[attr-defined]
        context = kernel.targetctx  # type: ignore[attr-defined]
        # ``load_overload`` registers what numba knows of types: beside a compilation in another
        # thread some of it would be lost, and every later compilation fail.
        with global_compiler_lock:
            return cache.load_overload(types, context) is not None
    return False


_ONE_CHILD = threading.Lock()
"""Kernels are compiled one after the other: each child takes memory."""

_PROGRAM = "from smolvideo.network.compilation import main; main()"


def _run_child(build: KernelBuild) -> None:
    """Compile in a child process, and wait for its end. It ends with this process, as its stdin is
    closed then; an interrupt ends it no other way."""
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    request = json.dumps([build.function, build.arguments])
    with suppress(OSError):  # no more processes, no such program
        # -P: do not import `numba.py` from the current folder.
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, request],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=None if os.environ.get("SMOLVIDEO_DEBUG") else subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        try:
            child.wait()
        finally:
            child.kill()
            assert child.stdin is not None
            child.stdin.close()


def main() -> None:
    """Compile the kernel that is requested on the command line, in a child process."""
    with suppress(ValueError):  # not the main thread of this program
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    function, arguments = json.loads(sys.argv[1])
    kernel, types = KernelBuild(function, tuple(arguments)).build(kept=True)
    kernel(*types)


def _end_with_parent() -> None:
    """End this process when the parent's end of the pipe is closed."""
    os.read(0, 1)
    os._exit(1)


_at_work = 0
_count = threading.Lock()


@contextmanager
def counted() -> Iterator[None]:
    """Count the block as a compilation, see ``is_compiling``."""
    global _at_work
    with _count:
        _at_work += 1
    try:
        yield
    finally:
        with _count:
            _at_work -= 1


def is_compiling() -> bool:
    """Whether a kernel is being compiled for this process, by a child or in a thread."""
    return _at_work > 0


_MAX_REASON = 300


def _reason(error: Exception) -> str:
    """Return the first line of ``error`` that says more than the stage at which numba failed,
    without numba's colours."""
    lines = [display_name(line, _MAX_REASON) for line in str(error).splitlines() if line.strip()]
    useful = [line for line in lines if not line.startswith("Failed in ")]
    return next(iter(useful or lines), type(error).__name__)


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
                raise ModelError(
                    f"numba cannot compile what is faster than torch: {_reason(error)}",
                    hint="`pip uninstall numba` leaves all to torch, which takes longer",
                ) from error
        assert self._made is not None
        return self._made

    def wait(self, seconds: float) -> bool:
        """Wait at most ``seconds``; return whether the background thread has ended."""
        with suppress(RuntimeError):  # it was never started
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _prepare(self) -> None:
        assert self._make is not None
        with suppress(Exception):  # a broken file, a full disk: ``get`` tries without the cache
            self._keep(self._make(True))

    def _keep(self, made: T) -> None:
        """Store the result, and drop ``make``, which may refer to a network."""
        self._made = made
        self._make = None


_POLL_SECONDS = 0.1


def wait_for_kernels(kernels: Iterable[CompiledInBackground[Any]], on_progress: OnProgress) -> None:
    """Wait until ``kernels`` are loaded or compiled, and report that they are being compiled."""
    reported = False
    for kernel in kernels:
        while not kernel.wait(_POLL_SECONDS):
            if is_compiling():
                reported = True
                on_progress(Progress("compile"))
    if reported:
        on_progress(Progress("compile", 1, 1))


_preparing: WeakSet[threading.Thread] = WeakSet()


_EXIT_SECONDS = 3.0
"""Seconds that interpreter exit waits for kernels that are being loaded or compiled: the end of the
interpreter in the middle of LLVM aborts the process."""


def _wait_for_compilers() -> None:
    """Wait for compilations before a fork: a process forked during one could never compile."""
    for thread in list(_preparing):
        thread.join()


def _wait_at_exit() -> None:
    until = time.monotonic() + _EXIT_SECONDS
    for thread in list(_preparing):
        thread.join(max(0.0, until - time.monotonic()))


atexit.register(_wait_at_exit)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_compilers)
