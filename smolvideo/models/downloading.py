"""Hub downloads that can be stopped and resumed, with the free disk space checked, and progress.

Weights are received into ``blobs/HASH.smolvideo.incomplete`` of the hub's cache, and renamed to
the name that the hub's library gives a blob once their SHA-256 is right. The library itself (2.4)
deletes what it has received of a file when it is interrupted.
"""

import errno
import hashlib
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from smolvideo.errors import ModelError
from smolvideo.files import file_lock
from smolvideo.progress import OnProgress, Progress

T = TypeVar("T")

_LOOK_SECONDS = 0.1
_NO_NETWORK = (
    *(errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN),
    *(errno.EHOSTDOWN, errno.EADDRNOTAVAIL),
)
_CHUNK = 1 << 20
_MAX_FAILURES = 5
"""Broken connections in a row, none of which brought a byte."""
_BUSY = (408, 429, 502, 503, 504)
_SHA256_DIGITS = 64


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


@dataclass(frozen=True)
class RemoteFile:
    """A weight file on the hub that is to be downloaded: ``size`` in bytes, ``etag`` as the hub
    states it (the SHA-256 of a large file), and where the blob and its lock belong."""

    url: str
    size: int
    etag: str
    blob: Path
    lock: Path

    @property
    def part(self) -> Path:
        """What was received so far."""
        return self.blob.with_name(f"{self.blob.name}.smolvideo.incomplete")

    @property
    def received_bytes(self) -> int:
        """Bytes that need not be downloaded again."""
        try:
            size = self.part.stat().st_size
        except OSError:
            return 0
        return size if size <= self.size else 0


class Receiver:
    """Downloads weight files one after the other, and reports their bytes of ``total``."""

    def __init__(
        self, label: str, total: int, on_progress: OnProgress, stop: threading.Event
    ) -> None:
        self.done = 0
        self._label, self._total = label, total
        self._on_progress, self._stop = on_progress, stop

    def report(self, further: float = 0, why: str = "") -> None:
        """Report ``done`` and ``further`` bytes; ``why`` says what is waited for. Raises in a
        thread that was abandoned."""
        self.check()
        label = f"{self._label}: {why}" if why else self._label
        self._on_progress(Progress("download", self.done + further, self._total or None, label))

    def check(self) -> None:
        """End the thread of an abandoned download by an exception."""
        if self._stop.is_set():
            raise _Stopped

    def receive(self, file: RemoteFile) -> None:
        """Download ``file`` to its blob, going on after the bytes of an earlier attempt.

        Raises ModelError if the content does not have the hash that the hub states; OSError and
        the errors of the HTTP client.
        """
        file.blob.parent.mkdir(parents=True, exist_ok=True)
        file.lock.parent.mkdir(parents=True, exist_ok=True)

        def wait_for_other() -> None:
            self.report(why="another process downloads it")

        with file_lock(file.lock, on_contention=wait_for_other):
            if not file.blob.exists():
                digest = self._receive(file)
                if len(file.etag) == _SHA256_DIGITS and digest != file.etag.lower():
                    file.part.unlink()
                    raise ModelError(
                        f"the download of `{self._label}` is damaged: its SHA-256 is not the "
                        "one that the hub states",
                        hint="run it again; a proxy or a mirror may change files",
                    )
                file.part.replace(file.blob)
        self.done += file.size

    def _receive(self, file: RemoteFile) -> str:
        """Complete ``file.part``; return the SHA-256 of its content, in hexadecimal."""
        hashed = hashlib.sha256()
        with file.part.open("a+b", buffering=0) as part:
            if part.tell() > file.size:
                part.truncate(0)
            part.seek(0)
            while chunk := part.read(_CHUNK):
                hashed.update(chunk)
                self.report(part.tell())
            failures = 0
            while (before := part.tell()) < file.size:
                try:
                    hashed = self._receive_rest(file, part, hashed)
                    broken: Exception | None = None
                except Exception as error:
                    if not _is_broken_connection(error):
                        raise
                    broken = error
                failures = 0 if part.tell() > before else failures + 1
                if failures > _MAX_FAILURES:
                    raise broken or ModelError(f"the hub sends `{self._label}` without its end")
                if part.tell() < file.size:
                    self.report(part.tell(), "connection lost, trying again")
                    self._stop.wait(1)
            if part.tell() > file.size:
                part.truncate(0)
                raise ModelError(f"the hub sends more of `{self._label}` than it states")
        return hashed.hexdigest()

    def _receive_rest(self, file: RemoteFile, part: BinaryIO, hashed: Any) -> Any:
        """Append what one request brings to ``part``; return the hash of the whole."""
        from huggingface_hub import constants
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff

        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if part.tell():
            headers["Range"] = f"bytes={part.tell()}-"
        with http_stream_backoff(
            "GET",
            file.url,
            headers=headers,
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            retry_on_exceptions=(),  # it would ask for the same range again
            retry_on_status_codes=_BUSY,
        ) as response:
            hf_raise_for_status(response)
            if part.tell() and response.status_code != 206:  # all of it, from the start
                part.truncate(0)
                part.seek(0)
                hashed = hashlib.sha256()
            for chunk in response.iter_bytes():
                part.write(chunk)
                hashed.update(chunk)
                self.report(part.tell())
        return hashed


def _is_broken_connection(error: BaseException) -> bool:
    """Return whether a connection was made and broke, whatever the HTTP client is called."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return "TransportError" in names and not is_without_network(error)


def check_room(name: str, needed: int, folder: Path) -> None:
    """Check that the disk of ``folder`` has space for ``needed`` bytes. Raises ModelError."""
    free = free_bytes(folder)
    if needed > free:
        raise ModelError(
            f"no room for {name}: {_amount(needed)} are to be written, and "
            f"{_amount(free)} are free on the disk of `{folder.parent}`",
            hint="make room (`smolvideo models rm NAME`), or let HF_HOME name a folder on another "
            "disk",
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


def progress_bars(report: Callable[[float], None]) -> type:
    """Return a class for the hub's ``tqdm_class`` that reports received bytes and draws nothing.

    The hub creates a bar for files and, by version, one or two bars for bytes (received and
    written); the larger count is reported. An error of ``report`` ends the downloading thread.
    """
    from tqdm.std import tqdm  # type: ignore[import-untyped]

    bars: list[Any] = []
    lock = threading.Lock()

    class ReportingBar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            settings.pop("name", None)
            counts_bytes = settings.get("unit") == "B"
            super().__init__(*arguments, **{**settings, "disable": True})
            if counts_bytes:
                bars.append(self)

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            with lock:
                report(max((bar.n for bar in bars), default=0))

        def __hash__(self) -> int:
            return id(self)

        def __eq__(self, other: object) -> bool:
            return self is other

    return ReportingBar
