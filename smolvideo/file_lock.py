"""Inter-process file lock that the operating system releases when its holder exits or crashes."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_lock(path: Path, *, on_contention: Callable[[], None] | None) -> Iterator[None]:
    """Hold the lock file ``path``; ``on_contention`` is called repeatedly while another process
    holds it.

    The file is never deleted: a process waiting on a deleted file would acquire a lock that no
    other process sees.

    Raises:
        BlockingIOError: another process holds it and ``on_contention`` is None.
        OSError: the file cannot be created.
    """
    # O_NOFOLLOW: a planted link could create a file anywhere; Windows has no such flag.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o644)
    try:
        while True:
            try:
                _lock_now(descriptor)
                break
            except BlockingIOError:
                if on_contention is None:
                    raise
                on_contention()
                time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _lock_now(descriptor: int) -> None:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error
else:
    import fcntl

    def _lock_now(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
