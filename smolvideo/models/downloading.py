"""A download from the hub that can be stopped, that has room, and that says how far it is."""

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
    """Ends the threads of a download that nobody waits for."""


def stoppable(download: Callable[[threading.Event], T]) -> T:
    """What ``download`` returns or raises. Ctrl-C comes through at once: the hub's library would
    wait for its threads, which go on until their files are whole.

    ``download`` runs in a thread; the event it is given is set when nobody waits any longer.
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
            pass  # Windows lets Ctrl-C through between two waits only
        return outcome.result()
    finally:
        stop.set()


def check_room(name: str, sizes: Mapping[str, int], folder: Path) -> None:
    """See that the disk below ``folder`` has room for files of ``sizes`` (bytes).

    What an earlier download left half done needs no new room. Raises ModelError.
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
    """What is free on the disk where ``folder`` is, or will be."""
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    return shutil.disk_usage(there).free


def _amount(number: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what it was raised from, or while handling what."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def is_without_network(error: BaseException) -> bool:
    """Whether no connection came about: no network, no such host, or nothing answers there."""
    return any(
        isinstance(one, socket.gaierror)
        or (isinstance(one, OSError) and one.errno in _NO_NETWORK)
        or type(one).__name__ in ("ConnectError", "ConnectTimeout")  # of the HTTP library
        for one in causes(error)
    )


def progress_bars(label: str, on_progress: OnProgress, stop: threading.Event) -> type:
    """A class for the hub's ``tqdm_class`` that reports bytes and draws nothing.

    The hub keeps a bar of files and, by version, one or two bars of bytes (received and written);
    the larger count is what a person calls progress. Once ``stop`` is set, the next bytes end the
    thread that brings them.
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
