"""Hub downloads that can be interrupted, check the free disk space, and report progress."""

import errno
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, TypeVar

from smolvideo.errors import ModelError
from smolvideo.progress import OnProgress, Progress

T = TypeVar("T")

_LOOK_SECONDS = 0.1
_NO_NETWORK = (
    *(errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN),
    *(errno.EHOSTDOWN, errno.EADDRNOTAVAIL),
)


class _Stopped(Exception):
    """Raised in the threads of an abandoned download, to end them."""


def stoppable(download: Callable[[threading.Event], T]) -> T:
    """Run ``download`` in a daemon thread and return its result, or raise its error.

    Ctrl-C takes effect immediately: the hub's library would wait for its threads to finish their
    files. The event passed to ``download`` is set once the result is no longer awaited.
    """
    stop = threading.Event()
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(download(stop))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        while not wait([outcome], _LOOK_SECONDS).done:
            pass  # on Windows Ctrl-C is only handled between two waits
        return outcome.result()
    finally:
        stop.set()


def check_room(name: str, sizes: Mapping[str, int], folder: Path) -> None:
    """Check that the disk of ``folder`` has space for files of ``sizes`` (bytes).

    The partial files of an earlier download are deducted. Raises ModelError.
    """
    begun = sum(file.stat().st_size for file in folder.glob("blobs/*.incomplete"))
    needed = sum(sizes.values()) - begun
    free = free_bytes(folder)
    if needed > free:
        raise ModelError(
            f"no room for `{name}`: {_amount(needed)} are to be downloaded, and "
            f"{_amount(free)} are free on the disk of `{folder.parent}`",
            hint="make room, or let HF_HOME name a folder on another disk",
        )


def free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk of ``folder``, which need not exist."""
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    return shutil.disk_usage(there).free


def _amount(number: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error`` and the chain of its causes and contexts."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def is_without_network(error: BaseException) -> bool:
    """Return whether no connection was made: no network, unknown host, or no server there."""
    return any(
        isinstance(one, socket.gaierror)
        or (isinstance(one, OSError) and one.errno in _NO_NETWORK)
        or type(one).__name__ in ("ConnectError", "ConnectTimeout")  # of the HTTP client
        for one in causes(error)
    )


def progress_bars(label: str, on_progress: OnProgress, stop: threading.Event) -> type:
    """Return a class for the hub's ``tqdm_class`` that reports bytes and draws nothing.

    The hub creates a bar for files and, by version, one or two bars for bytes (received and
    written); the larger count is reported. Once ``stop`` is set, the next update raises an
    exception in the downloading thread.
    """
    from tqdm.std import tqdm  # type: ignore[import-untyped]

    bars: list[Any] = []
    lock = threading.Lock()

    def report() -> None:
        with lock:
            done = max((bar.n for bar in bars), default=0)
            total = max((bar.total or 0 for bar in bars), default=0)
            on_progress(Progress("download", done, total or None, label))

    class ReportingBar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            settings.pop("name", None)
            counts_bytes = settings.get("unit") == "B"
            super().__init__(*arguments, **{**settings, "disable": True})
            if counts_bytes:
                bars.append(self)

        def update(self, n: float | None = 1) -> None:
            if stop.is_set():
                raise _Stopped
            self.n += n or 0
            if self in bars:
                report()

        def __hash__(self) -> int:
            return id(self)

        def __eq__(self, other: object) -> bool:
            return self is other

    return ReportingBar
