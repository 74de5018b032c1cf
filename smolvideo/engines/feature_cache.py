"""On-disk cache of frame features, the output of vision tower and connector, across runs.

    <cache>/features/ab/ab3f…   one entry; ``ab3f…`` is its key in hexadecimal
    <cache>/features/written    one byte per 256 bytes written, see ``_count_written``

One entry is one frame. Samplings of one video overlap (a minute of it more closely, 50 frames after
20, together with another video), and frames that were encoded before are found, whatever they were
combined with. A frame of SmolVLM2-256M takes 74 kB and one of 2.2B 330 kB: files of a good size.

An entry is written to a temporary file and renamed, so a reader sees all of it or nothing, and a
killed process leaves at most a ``.part`` file, which the next eviction removes. Nothing is synced:
after a power cut an entry may hold anything, which the checksum detects. There are no locks: two
processes that write one entry write the same bytes, and a reader whose entry is evicted during the
read has a miss. No failure here is an error: the frame is encoded instead.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from smolvideo.errors import SourceError
from smolvideo.files import open_atomic
from smolvideo.sanitize import display_path
from smolvideo.source.download_cache import CacheStats, cache_dir, check_is_folder

DEFAULT_LIMIT_BYTES = 4_000_000_000
"""The last thousand videos of 50 frames with SmolVLM2-256M, the last 240 with SmolVLM2-2.2B."""

KEY_BYTES = 32

_MAGIC = b"smolvideo.frame/1\n"
_HEADER_BYTES = len(_MAGIC) + 2 * KEY_BYTES

_SIZE_COUNTER = "written"
_BYTES_PER_COUNT = 256
"""Bytes written per byte of the size counter, which so stays below a 256th of the limit."""

_EVICT_TO_SHARE = 0.9
"""Share of the limit that an eviction leaves, so that not every write needs one."""

_STALE_PART_SECONDS = 3600
"""Age at which a ``.part`` file is abandoned: writing takes milliseconds."""

_OURS = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{16}\.part")


class FeatureCache:
    """LRU cache of byte entries under keys of 32 bytes, with at most ``limit_bytes`` in total.

    ``warning`` is a sentence for the user once a write failed; from then on nothing more is
    written. Not thread-safe; any number of processes may share the folder.

    Raises SourceError where there is no folder for caches (see ``cache_dir``).
    """

    def __init__(
        self, folder: Path | None = None, *, limit_bytes: int = DEFAULT_LIMIT_BYTES
    ) -> None:
        self.folder = folder or cache_dir() / "features"
        self.limit_bytes = limit_bytes
        self.warning: str | None = None

    def read(self, key: bytes, into: memoryview) -> bool:
        """Read the entry for ``key`` into ``into``; return False on a miss, with ``into``
        undefined.

        Entries that are damaged, truncated or of another length are removed.
        """
        path = self._path(key)
        try:
            with open(path, "rb", buffering=0, opener=_open_own) as file:
                header = file.read(_HEADER_BYTES)
                count = _read_whole(file, into)
                is_longer = bool(file.read(1))
        except OSError:
            return False
        if count < len(into) or is_longer or header != _header(key, into):
            with suppress(OSError):
                path.unlink()
            return False
        with suppress(OSError):  # a read-only folder is readable all the same
            os.utime(path)  # for LRU by modification time: access times are often off
        return True

    def write(self, key: bytes, payload: memoryview) -> None:
        """Store ``payload`` under ``key``, unless it is too large or the disk refuses."""
        size = _HEADER_BYTES + len(payload)
        if self.warning is not None or size > self.limit_bytes:
            return
        path = self._path(key)
        try:
            _drop_link(path.parent)
            path.parent.mkdir(parents=True, exist_ok=True)
            # Before the entry: a process killed between the two has counted too much, not too
            # little.
            self._count_written(size)
            with open_atomic(path, sync=False) as file:
                file.write(_header(key, payload))
                file.write(payload)
        except FileNotFoundError:
            return  # the cache was cleared meanwhile
        except OSError as error:
            if not (isinstance(error, PermissionError) and path.exists()):
                # Another process reads the existing entry, on a system that forbids replacing open
                # files.
                self.warning = (
                    f"frame features are not kept in {display_path(self.folder)}: "
                    f"{error.strerror or error}"
                )

    def stats(self) -> CacheStats:
        """Number, size and age of the entries; ``oldest`` is the last use of the least recently
        used."""
        entries = [entry for entry in self._entries() if not entry.is_part]
        return CacheStats(
            len(entries),
            sum(entry.size for entry in entries),
            min((entry.used for entry in entries), default=None),
        )

    def clear(self) -> CacheStats:
        """Delete everything; return the statistics before. Raises SourceError where that is
        refused."""
        check_is_folder(self.folder)
        freed = self.stats()
        try:
            for entry in self._entries():
                entry.path.unlink(missing_ok=True)
            (self.folder / _SIZE_COUNTER).unlink(missing_ok=True)
            for folder in self._shards():
                with suppress(OSError):  # another process writes into it
                    folder.rmdir()
        except OSError as error:
            where = display_path(error.filename or self.folder)
            raise SourceError(f"cannot delete {where}: {error.strerror}") from error
        return freed

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        return self.folder / name[:2] / name

    def _count_written(self, size: int) -> None:
        """Count ``size`` bytes that are about to be written; evict entries if the limit is reached.

        The count is the length of a file: many processes can append to it at once, and one system
        call reads it, where a scan of all entries takes 0.15 s for 27,000. Replaced entries are
        counted twice, and appends during another process's eviction not at all; each eviction
        corrects the count.
        """
        ledger = self.folder / _SIZE_COUNTER
        _drop_link(ledger)
        if not ledger.exists():
            self._evict()
        with ledger.open("ab", buffering=0) as file:
            file.write(b"\0" * _counts(size))
            written = file.tell() * _BYTES_PER_COUNT
        if written > self.limit_bytes:
            self._evict(coming=size)

    def _evict(self, *, coming: int = 0) -> None:
        """Delete the least recently used entries until the limit is kept, and correct the count.

        ``coming`` bytes are about to be written.
        """
        # oldest first, down to the goal
        limit = self.limit_bytes
        entries = sorted(self._entries(), key=lambda entry: entry.used)
        total = coming + sum(entry.size for entry in entries)
        goal = total if total <= limit else max(int(limit * _EVICT_TO_SHARE), coming)
        # delete abandoned temporary files, and entries until the goal is reached
        abandoned = time.time() - _STALE_PART_SECONDS
        for entry in entries:
            is_abandoned = entry.is_part and entry.used < abandoned
            if is_abandoned or (total > goal and not entry.is_part):
                with suppress(OSError):  # another process was faster, or has it open
                    entry.path.unlink()
                total -= entry.size
        # set the counter to what is left
        _drop_link(self.folder / _SIZE_COUNTER)
        with (self.folder / _SIZE_COUNTER).open("ab") as file:
            file.truncate(_counts(total))

    def _entries(self) -> Iterator["_Entry"]:
        """Yield all entries and temporary files."""
        for folder in self._shards():
            with suppress(OSError), os.scandir(folder) as files:
                for file in files:
                    # Foreign files are neither counted nor deleted.
                    if _OURS.fullmatch(file.name):
                        with suppress(OSError):
                            found = file.stat(follow_symlinks=False)
                            yield _Entry(Path(file.path), found.st_size, found.st_mtime)

    def _shards(self) -> list[Path]:
        try:
            folders = [folder for folder in self.folder.iterdir() if len(folder.name) == 2]
            return [folder for folder in folders if not folder.is_symlink()]
        except OSError:
            return []


@dataclass(frozen=True)
class _Entry:
    """A file of the cache; ``used`` is its last use in seconds since 1970."""

    path: Path
    size: int
    used: float

    @property
    def is_part(self) -> bool:
        return self.path.suffix == ".part"


def _header(key: bytes, payload: memoryview) -> bytes:
    """Header of an entry: its key, and a checksum of ``payload`` that is keyed with it."""
    return _MAGIC + key + hashlib.blake2b(payload, key=key, digest_size=KEY_BYTES).digest()


def _open_own(path: str, flags: int) -> int:
    """Open an entry: refuses symbolic links, and does not block on a pipe."""
    more = ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")
    for name in more:
        flags |= getattr(os, name, 0)
    return os.open(path, flags)


def _drop_link(path: Path) -> None:
    """Delete a symbolic link in the cache, which is not ours: its target must not be written."""
    if path.is_symlink():
        path.unlink()


def _counts(size: int) -> int:
    return -(-size // _BYTES_PER_COUNT)


def _read_whole(file: FileIO, into: memoryview) -> int:
    """Fill ``into`` and return the bytes read: fewer only at the end of the file."""
    done = 0
    while done < len(into):
        count = file.readinto(into[done:])
        if not count:
            break
        done += count
    return done
