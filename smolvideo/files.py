"""Files on disk: atomic writing, deep folders, locks, content hashes, and changes during use.

An atomic write goes to a temporary file in the same folder, is synced, and renamed.
A reader finds the old content or the new one, never a part, even after a crash. Folders are created
and traversed without recursion, for depths beyond Python's recursion limit. The operating system
releases a lock when its holder exits or crashes.
"""

import errno
import hashlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from smolvideo.errors import RecordError, SourceError
from smolvideo.sanitize import display_path


def write_atomic(path: Path, content: bytes | str, *, sync: bool = True) -> None:
    """Write ``content`` (text as UTF-8) to ``path`` atomically: all of it, or its previous content.

    ``sync`` as in :func:`open_atomic`. Raises OSError, UnicodeEncodeError.
    """
    encoded = content.encode("utf-8") if isinstance(content, str) else content
    with open_atomic(path, sync=sync) as file:
        file.write(encoded)


@contextmanager
def open_atomic(
    path: Path,
    *,
    sync: bool = True,
    rename: Callable[[Path, Path], object] = os.replace,
) -> Iterator[BinaryIO]:
    """Open a binary file that replaces ``path`` at the end of the block; deleted if the block
    raises.

    With ``sync`` the content is on disk before ``rename`` is called, so that a power cut cannot
    leave an empty file under the name. Raises OSError.
    """
    temporary = _name_beside(path)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            if sync:
                sync_file(file.fileno())
        rename(temporary, path)
    finally:
        with suppress(OSError):  # renamed already, or never created
            temporary.unlink()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path with the suffix of ``path``, which replaces ``path`` afterwards:
    :func:`open_atomic` for libraries that open files themselves. Not synced. Raises OSError.
    """
    temporary = _name_beside(path, path.suffix)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def sync_file(descriptor: int) -> None:
    """Call ``os.fsync``; ignored where unsupported (pipes and some network file systems, which lose
    nothing by it). Raises OSError.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise


def _name_beside(path: Path, suffix: str = "") -> Path:
    """Return a random hidden name next to ``path``, short enough for every file system."""
    return path.with_name(f".{secrets.token_hex(8)}.part{suffix}")


def make_folders(folder: Path) -> None:
    """Create a folder and its missing parents. Raises OSError."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        if folder.parent == folder:
            break
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(exist_ok=True)


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk like ``os.walk`` from the top: yield a folder, its subfolder names and its file names.

    Subfolders that the caller removes from the second item are not visited, nor are links to
    folders; folders that cannot be read are skipped.
    """
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            with os.scandir(current) as entries:
                listed = [(entry.name, _is_folder(entry), entry.is_symlink()) for entry in entries]
        except OSError:
            continue
        links = {name for name, _, is_link in listed if is_link}
        folders = [name for name, is_folder, _ in listed if is_folder]
        yield current, folders, [name for name, is_folder, _ in listed if not is_folder]
        waiting.extend(current / name for name in reversed(folders) if name not in links)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


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


Read = TypeVar("Read")

MAX_READS = 3
"""Maximum number of attempts to read a file that keeps changing."""


def content_hash(path: Path) -> str:
    """Return the SHA-256, in hexadecimal, of a file's bytes.

    Of a folder: of the lines ``name, NUL, hash of the file, line break`` of its files, sorted by
    name, without subfolders and hidden files. Raises RecordError.
    """
    try:
        if not path.is_dir():
            with path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        total = hashlib.sha256()
        for file in _files_of(path):
            total.update(os.fsencode(file.name) + b"\0" + content_hash(file).encode() + b"\n")
        return total.hexdigest()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise RecordError(f"cannot read `{path}`: {reason or error}") from error


def file_state(path: Path) -> tuple[int, ...]:
    """Return values that change with every write: size, mtime and ctime in nanoseconds, inode.

    Of a folder, a digest of those of the files that ``content_hash`` reads. Empty if the path
    cannot be read.
    """
    try:
        if path.is_dir():
            states = [(file.name, *file_state(file)) for file in _files_of(path)]
            digest = hashlib.blake2b(ascii(states).encode(), digest_size=7).digest()
            return (int.from_bytes(digest),)
        state = path.stat()
    except (OSError, ValueError):
        return ()
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def read_unchanged(read: Callable[[], Read], *paths: Path) -> Read:
    """Return the result of ``read`` on the files at ``paths``, repeated if one changed meanwhile.

    Raises SourceError if they change during ``MAX_READS`` attempts, and what ``read`` raises.
    """
    changed = None
    for _ in range(MAX_READS):
        before = [file_state(path) for path in paths]
        result = read()
        states = zip(paths, before, strict=True)
        changed = next((path for path, state in states if file_state(path) != state), None)
        if changed is None:
            return result
    assert changed is not None
    raise still_changing(changed)


def still_changing(path: Path) -> SourceError:
    """Return the error for a file that changed while it was used."""
    return SourceError(
        f"{display_path(path)} changes while it is read",
        hint="wait until its download, copy or recording has ended",
    )


def _files_of(folder: Path) -> Iterator[Path]:
    files = (file for file in folder.iterdir() if file.is_file() and file.name[0] != ".")
    yield from sorted(files, key=lambda file: os.fsencode(file.name))


def data_dir() -> Path:
    """``$SMOLVIDEO_DATA_DIR``, else ``smolvideo`` in the platform's folder for a user's data.

    That is ``$XDG_DATA_HOME`` or ``~/.local/share`` on Linux, ``~/Library/Application Support`` on
    macOS and ``%LOCALAPPDATA%`` on Windows.
    """
    chosen = os.environ.get("SMOLVIDEO_DATA_DIR")
    try:
        if chosen:
            return Path(chosen).expanduser().absolute()
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Application Support" / "smolvideo"
        variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_DATA_HOME"
        named = Path(os.environ.get(variable, ""))
        # The XDG specification: a relative path must be ignored.
        base = named if named.is_absolute() else Path.home() / ".local" / "share"
        return base / "smolvideo"
    except RuntimeError as error:
        raise RecordError(
            "this user has no home folder for conversations and calibrations",
            hint="set SMOLVIDEO_DATA_DIR to a folder",
        ) from error
