"""Download cache: one folder per URL, with an entry file, and a lock between processes.

    <cache>/downloads/<key>/entry.json             the entry: CachedDownload as JSON
    <cache>/downloads/<key>/video.<format>.<ext>   the file (``….part`` while it is incomplete)
    <cache>/downloads/<key>.lock                   held by the process that downloads

``key`` is a hash of the URL without its credentials, plus a slow hash of the credentials if there
are any: downloads of different logins are kept apart, and a URL with a renewed signature finds the
video of the old one. Two processes only compete for the lock if they want the same video; the
second then finds the file of the first. Entries are written to a temporary file and renamed, so
that a reader never sees half of one.
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

from smolvideo.credentials import WebAddress, without_credentials
from smolvideo.errors import RecordError, SourceError
from smolvideo.files import content_hash, file_lock, write_atomic
from smolvideo.json_types import check_types, parse_json
from smolvideo.sanitize import display_path
from smolvideo.text_input import read_regular

_ENTRY = "entry.json"


@dataclass(frozen=True)
class CachedDownload:
    """A finished download: ``path`` exists and has ``size`` bytes; ``time`` is seconds since 1970.

    ``height`` is the smaller side of the chosen format in pixels, None if the site offers a plain
    file and no choice; ``max_height`` is the limit with which it was chosen. ``sha256`` and
    ``mtime_ns`` are those of the file when it was downloaded.
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
        """Return whether a new download with this limit would choose the same format.

        Offline, every format within the limit is accepted.
        """
        if self.height is None or self.max_height == max_height:
            return True
        if max_height is None:
            return offline
        best_below = self.max_height is None or max_height <= self.max_height
        return self.height <= max_height and (offline or best_below)


@dataclass(frozen=True)
class CacheStats:
    """Size of a cache; ``oldest`` is in seconds since 1970, None if the cache is empty."""

    entries: int
    size_bytes: int
    oldest: float | None


def cache_dir() -> Path:
    """Return ``$SMOLVIDEO_CACHE_DIR``, else ``smolvideo`` in the platform's cache folder.

    The latter is ``$XDG_CACHE_HOME`` or ``~/.cache`` on Linux, ``~/Library/Caches`` on macOS and
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
    # The XDG specification requires relative paths to be ignored.
    return named if named.is_absolute() else Path.home() / ".cache"


def downloads_folder(cache: Path | None = None) -> Path:
    return (cache or cache_dir()) / "downloads"


def download_folder(url: str, cache: Path | None = None) -> Path:
    """Return the cache folder of a URL; scheme and host are case-insensitive."""
    return downloads_folder(cache) / _key(url)


@lru_cache(maxsize=1024)
def _key(url: str) -> str:
    address = WebAddress(url.strip())
    same = address.public
    with contextlib.suppress(ValueError):  # an invalid URL never has an entry
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
    """Return the finished download of ``url`` that satisfies ``max_height``, None if there is none.

    A URL without credentials also finds a download made with some, if there is exactly one: the
    URLs in records have no credentials.
    """
    folder = download_folder(url, cache)
    entry = _read_entry(folder)
    if entry is None and "-" not in folder.name:
        logins = folder.parent.glob(f"{folder.name}-*/")
        entries = [entry for folder in logins if (entry := _read_entry(folder))]
        entry = entries[0] if len(entries) == 1 else None
    return entry if entry and entry.satisfies(max_height, offline=offline) else None


def cached_downloads(cache: Path | None = None) -> list[CachedDownload]:
    """Return all finished downloads whose file still exists, newest first."""
    folders = downloads_folder(cache).glob("*/")
    entries = [entry for folder in folders if (entry := _read_entry(folder))]
    return sorted(entries, key=lambda entry: -entry.time)


def download_contents(cache: Path | None = None) -> CacheStats:
    """Return the number of finished downloads, and the size of all files, finished or not."""
    finished = cached_downloads(cache)
    size = 0
    for path in downloads_folder(cache).glob("*/*"):
        with contextlib.suppress(OSError):  # a concurrent download may rename its file
            size += path.stat().st_size if path.is_file() else 0
    oldest = min((entry.time for entry in finished), default=None)
    return CacheStats(len(finished), size, oldest)


def write_entry(
    url: str, path: Path, *, title: str, height: int | None, max_height: int | None
) -> CachedDownload:
    """Write the entry of a finished download into the folder of ``path``."""
    state = path.stat()
    # Stored for display, hence without credentials.
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
    """Delete a finished file that does not match its entry, so that it is downloaded again.

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
    """Raise SourceError if the path of a cache folder is not a folder."""
    if folder.exists() and not folder.is_dir():
        raise SourceError(
            f"{display_path(folder)} is a file, and no folder of the cache", hint="move it away"
        )


def clear_downloads(cache: Path | None = None) -> int:
    """Delete all downloads, finished or not, except those in progress; return the bytes freed.

    Raises SourceError if a file cannot be deleted.
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
    """Create the folder and lock it; ``on_wait`` is called while another process holds the lock.

    Raises:
        SourceError: the cache cannot be written.
    """
    with contextlib.ExitStack() as held:
        try:
            # Downloads made with a login must not be readable by other users.
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
    """Delete links, which the cache never creates: writing through them would change other
    files."""
    if folder.is_symlink():
        folder.unlink()
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_symlink():
            path.unlink()


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _read_entry(folder: Path) -> CachedDownload | None:
    """Return a folder's entry. None if it is missing, damaged or a link, or if the file was
    deleted or modified."""
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
