"""Frame features on disk: what a frame became in the vision tower, for the next run.

    <cache>/features/ab/ab3f…   one entry; ``ab3f…`` is its key in hexadecimal
    <cache>/features/written    one byte long for every 256 that were written (see
    ``_count_written``)

One entry is one frame. Samplings of one video overlap (a closer look at a minute, 50 frames after
20, another video beside the first), and then each frame that was seen before is there, whatever it
was seen with. A frame of SmolVLM2-256M is 74 kB and one of 2.2B 330 kB: files of a good size.

An entry is written beside and renamed, so a reader sees all of it or nothing, and whoever is killed
leaves at most a ``.part`` that the next sweep removes. Nothing is synced: after a power cut an
entry may hold anything, and that is what the checksum is for. Nobody ever waits for anybody: two
processes that write one entry write the same bytes, and a reader whose entry is evicted under it
has a miss. Nothing that goes wrong here is an error: the frame is encoded instead.
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
"""What one byte of the ledger stands for: it stays below a 256th of the limit."""

_EVICT_TO_SHARE = 0.9
"""What a sweep leaves of the limit, so that not every write needs one."""

_STALE_PART_SECONDS = 3600
"""Writing takes milliseconds: a ``.part`` of this age belongs to nobody."""

_OURS = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{16}\.part")


class FeatureCache:
    """Entries of bytes under keys of 32 bytes, at most ``limit_bytes`` of them, the least recently
    used out first.

    ``warning`` is a sentence for the person once something could not be kept; from then on nothing
    more is written. Not to be used by two threads at once; by any number of processes.

    Raises SourceError where there is no folder for caches (see ``cache_dir``).
    """

    def __init__(
        self, folder: Path | None = None, *, limit_bytes: int = DEFAULT_LIMIT_BYTES
    ) -> None:
        self.folder = folder or cache_dir() / "features"
        self.limit_bytes = limit_bytes
        self.warning: str | None = None

    def read(self, key: bytes, into: memoryview) -> bool:
        """Fill ``into`` with the entry of ``key``; False, and ``into`` is anything, if it is not
        there.

        What is damaged, cut short, or of another length is removed.
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
        with suppress(OSError):  # a read-only folder serves, too
            os.utime(path)  # access times are off on many disks: the modification time is our own
        return True

    def write(self, key: bytes, payload: memoryview) -> None:
        """Keep ``payload`` under ``key``, unless it is too large or the disk refuses."""
        size = _HEADER_BYTES + len(payload)
        if self.warning is not None or size > self.limit_bytes:
            return
        path = self._path(key)
        try:
            _drop_link(path.parent)
            path.parent.mkdir(parents=True, exist_ok=True)
            # Before the entry: who is killed between the two has counted too much, not too little.
            self._count_written(size)
            with open_atomic(path, sync=False) as file:
                file.write(_header(key, payload))
                file.write(payload)
        except FileNotFoundError:
            return  # the cache was cleared meanwhile
        except OSError as error:
            if not (isinstance(error, PermissionError) and path.exists()):
                # An entry that exists is being read, on a system that then lets nobody replace it.
                self.warning = (
                    f"frame features are not kept in {display_path(self.folder)}: "
                    f"{error.strerror or error}"
                )

    def stats(self) -> CacheStats:
        """How much is there; ``oldest`` is when the least recently used entry was used."""
        entries = [entry for entry in self._entries() if not entry.is_part]
        return CacheStats(
            len(entries),
            sum(entry.size for entry in entries),
            min((entry.used for entry in entries), default=None),
        )

    def clear(self) -> CacheStats:
        """Delete everything; returns what was there. Raises SourceError where that is refused."""
        check_is_folder(self.folder)
        freed = self.stats()
        try:
            for entry in self._entries():
                entry.path.unlink(missing_ok=True)
            (self.folder / _SIZE_COUNTER).unlink(missing_ok=True)
            for folder in self._shards():
                with suppress(OSError):  # somebody writes into it
                    folder.rmdir()
        except OSError as error:
            where = display_path(error.filename or self.folder)
            raise SourceError(f"cannot delete {where}: {error.strerror}") from error
        return freed

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        return self.folder / name[:2] / name

    def _count_written(self, size: int) -> None:
        """Say that ``size`` bytes are about to be written, and make room where there is none left.

        The count is the length of a file: many processes can append to it at once, and reading it
        is one question to the system. Looking at all entries instead takes 0.15 s for 27,000. It
        counts replaced entries twice, and appends that fall into another process's sweep not at
        all; each sweep puts it right.
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
        """Delete what was not used for longest until there is room, and count anew.

        ``coming`` bytes are about to be written.
        """
        limit = self.limit_bytes
        entries = sorted(self._entries(), key=lambda entry: entry.used)
        total = coming + sum(entry.size for entry in entries)
        goal = total if total <= limit else max(int(limit * _EVICT_TO_SHARE), coming)
        abandoned = time.time() - _STALE_PART_SECONDS
        for entry in entries:
            is_abandoned = entry.is_part and entry.used < abandoned
            if is_abandoned or (total > goal and not entry.is_part):
                with suppress(OSError):  # another process was faster, or has it open
                    entry.path.unlink()
                total -= entry.size
        _drop_link(self.folder / _SIZE_COUNTER)
        with (self.folder / _SIZE_COUNTER).open("ab") as file:
            file.truncate(_counts(total))

    def _entries(self) -> Iterator["_Entry"]:
        """All entries, and the files that may become some."""
        for folder in self._shards():
            with suppress(OSError), os.scandir(folder) as files:
                for file in files:
                    # Whatever else somebody put here is neither counted nor deleted.
                    if _OURS.fullmatch(file.name):
                        with suppress(OSError):
                            told = file.stat(follow_symlinks=False)
                            yield _Entry(Path(file.path), told.st_size, told.st_mtime)

    def _shards(self) -> list[Path]:
        try:
            folders = [folder for folder in self.folder.iterdir() if len(folder.name) == 2]
            return [folder for folder in folders if not folder.is_symlink()]
        except OSError:
            return []


@dataclass(frozen=True)
class _Entry:
    """``used`` is in seconds since 1970."""

    path: Path
    size: int
    used: float

    @property
    def is_part(self) -> bool:
        return self.path.suffix == ".part"


def _header(key: bytes, payload: memoryview) -> bytes:
    """What stands before ``payload``: its key, and a checksum that no other key gives it."""
    return _MAGIC + key + hashlib.blake2b(payload, key=key, digest_size=KEY_BYTES).digest()


def _open_own(path: str, flags: int) -> int:
    """Open an entry; one that is a link is refused, and a pipe does not wait for its writer."""
    more = ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")
    for name in more:
        flags |= getattr(os, name, 0)
    return os.open(path, flags)


def _drop_link(path: Path) -> None:
    """A link in the cache is not of our making: what is behind it must not be written."""
    if path.is_symlink():
        path.unlink()


def _counts(size: int) -> int:
    return -(-size // _BYTES_PER_COUNT)


def _read_whole(file: FileIO, into: memoryview) -> int:
    """Bytes read: fewer than ``into`` has only where the file ends."""
    done = 0
    while done < len(into):
        count = file.readinto(into[done:])
        if not count:
            break
        done += count
    return done
