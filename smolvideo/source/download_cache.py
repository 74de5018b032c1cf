"""Where downloads are kept, and which ones.

    <cache>/downloads/<key>/entry.json             what is there: CachedDownload as JSON
    <cache>/downloads/<key>/video.<format>.<ext>   the file (``….part`` while it grows)
    <cache>/downloads/<key>.lock                   held by the process that downloads

``key`` is a hash of the address without its credentials, and a slow hash of these where there are
any: what one login may see is never taken for what another one does, and a signature that is new
finds the video of the old one. Each address has its own entry, so two processes only ever meet if
they want the same video; then the second waits for the lock and finds the file of the first.
Entries are written beside and renamed: a reader sees the old one or the new one, never half of one.
"""

import contextlib
import hashlib
import json
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from smolvideo.content_hash import content_hash
from smolvideo.credentials import WebAddress, without_credentials
from smolvideo.errors import RecordError, SourceError
from smolvideo.file_lock import file_lock
from smolvideo.files import write_atomic
from smolvideo.json_types import check_types, parse_json
from smolvideo.sanitize import display_path
from smolvideo.text_input import read_regular

_ENTRY = "entry.json"


@dataclass(frozen=True)
class CachedDownload:
    """A finished download: ``path`` exists and has ``size`` bytes; ``time`` is seconds since 1970.

    ``height`` is the smaller side of the chosen format in pixels, None where the site offers a
    plain file and no choice; ``max_height`` is the limit that was asked for when it was chosen.
    ``sha256`` is of the file as it came, ``mtime_ns`` its time of change then.
    """

    url: str
    path: Path
    title: str
    size: int
    time: float
    height: int | None = None
    max_height: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = None

    def satisfies(self, max_height: int | None, *, offline: bool = False) -> bool:
        """Whether a new download with this limit would fetch the same format.

        Offline nothing better can be had: everything within the limit serves.
        """
        if self.height is None or self.max_height == max_height:
            return True
        if max_height is None:
            return offline
        best_below = self.max_height is None or max_height <= self.max_height
        return self.height <= max_height and (offline or best_below)


@dataclass(frozen=True)
class CacheStats:
    """How much a cache holds; ``oldest`` is in seconds since 1970, None where it is empty."""

    entries: int
    size_bytes: int
    oldest: float | None


def cache_dir() -> Path:
    """``$SMOLVIDEO_CACHE_DIR``, else ``smolvideo`` in the platform's folder for caches.

    That is ``$XDG_CACHE_HOME`` or ``~/.cache`` on Linux, ``~/Library/Caches`` on macOS and
    ``%LOCALAPPDATA%`` on Windows. The folder need not exist.
    """
    chosen = os.environ.get("SMOLVIDEO_CACHE_DIR")
    try:
        if chosen:
            return Path(chosen).expanduser().absolute()
        return _platform_caches() / "smolvideo"
    except RuntimeError as error:
        raise SourceError(
            f"no home folder of that user: {display_path(chosen)}"
            if chosen
            else "this user has no home folder for caches",
            hint="set SMOLVIDEO_CACHE_DIR to a folder",
        ) from error


def _platform_caches() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    named = Path(os.environ.get(variable, ""))
    # The XDG specification: a relative path is to be ignored.
    return named if named.is_absolute() else Path.home() / ".cache"


def downloads_folder(cache: Path | None = None) -> Path:
    return (cache or cache_dir()) / "downloads"


def download_folder(url: str, cache: Path | None = None) -> Path:
    """The folder of one address; scheme and host do not distinguish capitals, the rest does."""
    return downloads_folder(cache) / _key(url)


@lru_cache(maxsize=1024)
def _key(url: str) -> str:
    address = WebAddress(url.strip())
    same = address.public
    with contextlib.suppress(ValueError):  # no valid address has an entry, nor ever gets one
        parts = urlsplit(same)
        same = urlunsplit(parts._replace(scheme=parts.scheme.lower(), netloc=parts.netloc.lower()))
    key = hashlib.sha256(same.encode(errors="replace")).hexdigest()[:24]
    return f"{key}-{address.login_digest}" if address.login else key


def find_cached(
    url: str,
    *,
    max_height: int | None = None,
    offline: bool = True,
    cache: Path | None = None,
) -> CachedDownload | None:
    """The finished download of ``url`` that serves ``max_height``, if its file is still there.

    Without credentials it is also what was fetched with some, if that is one video and not several:
    an address out of a record has lost them.
    """
    folder = download_folder(url, cache)
    entry = _read_entry(folder)
    if entry is None and "-" not in folder.name:
        logins = folder.parent.glob(f"{folder.name}-*/")
        entries = [entry for folder in logins if (entry := _read_entry(folder))]
        entry = entries[0] if len(entries) == 1 else None
    return entry if entry and entry.satisfies(max_height, offline=offline) else None


def cached_downloads(cache: Path | None = None) -> list[CachedDownload]:
    """All finished downloads whose file is still there, the newest first."""
    folders = downloads_folder(cache).glob("*/")
    entries = [entry for folder in folders if (entry := _read_entry(folder))]
    return sorted(entries, key=lambda entry: -entry.time)


def download_contents(cache: Path | None = None) -> CacheStats:
    """How much is there: ``entries`` are the finished downloads, the bytes are all of them."""
    finished = cached_downloads(cache)
    size = 0
    for path in downloads_folder(cache).glob("*/*"):
        with contextlib.suppress(OSError):  # a download ends, and renames its file
            size += path.stat().st_size if path.is_file() else 0
    oldest = min((entry.time for entry in finished), default=None)
    return CacheStats(len(finished), size, oldest)


def write_entry(
    url: str, path: Path, *, title: str, height: int | None, max_height: int | None
) -> CachedDownload:
    """Writes the entry of a finished download; its folder is the one of ``path``."""
    state = path.stat()
    # The address is kept for people: without the credentials it may hold.
    public = without_credentials(url)
    entry = CachedDownload(
        public,
        path,
        title,
        state.st_size,
        time.time(),
        height=height,
        max_height=max_height,
        mtime_ns=state.st_mtime_ns,
        sha256=content_hash(path),
    )
    written = json.dumps(asdict(entry) | {"path": path.name}, ensure_ascii=True)
    write_atomic(path.parent / _ENTRY, written + "\n")
    return entry


def delete_corrupt(folder: Path) -> None:
    """Deletes a finished file that is not the one its entry tells of, so that it is fetched anew.

    A file without an entry stays: it was renamed when it was complete, and only its entry is
    missing.
    """
    if (folder / _ENTRY).exists() and _read_entry(folder) is None:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif not path.name.endswith(".part"):
                path.unlink()


def check_is_folder(folder: Path) -> None:
    """Raises SourceError where something else stands in the place of a folder of the cache."""
    if folder.exists() and not folder.is_dir():
        raise SourceError(
            f"{display_path(folder)} is a file, and no folder of the cache", hint="move it away"
        )


def clear_downloads(cache: Path | None = None) -> int:
    """Deletes all downloads, finished or not, except those that a process is at; returns the
    bytes. Raises SourceError where that is refused.
    """
    check_is_folder(downloads_folder(cache))
    freed = 0
    try:
        for folder in downloads_folder(cache).glob("*/"):
            if folder.is_symlink():
                folder.unlink()
                continue
            with (
                contextlib.suppress(BlockingIOError),
                file_lock(_lock_of(folder), on_contention=None),
            ):
                freed += sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
                shutil.rmtree(folder)
    except OSError as error:
        where = display_path(error.filename or downloads_folder(cache))
        raise SourceError(f"cannot delete {where}: {error.strerror}") from error
    return freed


@contextlib.contextmanager
def lock_download_folder(folder: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Makes the folder and holds it alone; ``on_wait`` is called while another process has it.

    Raises:
        SourceError: the cache cannot be written.
    """
    with contextlib.ExitStack() as held:
        try:
            # What was fetched with a login is not for all users of the machine.
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            held.enter_context(file_lock(_lock_of(folder), on_contention=on_wait))
            _drop_links(folder)
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise SourceError(
                f"cannot keep downloads in {display_path(folder.parent)}: {error.strerror}",
                hint="set SMOLVIDEO_CACHE_DIR to a folder that can be written",
            ) from error
        yield


def _drop_links(folder: Path) -> None:
    """Links in the cache are not of our making: through them files elsewhere would be written."""
    if folder.is_symlink():
        folder.unlink()
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_symlink():
            path.unlink()


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _read_entry(folder: Path) -> CachedDownload | None:
    """None for what is missing, damaged, a link, or whose file has gone or another content."""
    if folder.is_symlink() or (folder / _ENTRY).is_symlink():
        return None
    try:
        fields = parse_json(read_regular(folder / _ENTRY))
        fields["path"] = folder / Path(fields["path"]).name
        check_types(CachedDownload, fields)
        entry = CachedDownload(**fields)
        state = entry.path.lstat()
        if not stat.S_ISREG(state.st_mode) or state.st_size != entry.size:
            return None
        is_same = entry.mtime_ns in (None, state.st_mtime_ns)
        return entry if is_same or entry.sha256 == content_hash(entry.path) else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError, RecordError):
        return None
