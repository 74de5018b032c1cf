"""Content hashes of files and folders, and detection of changes during use."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from smolvideo.errors import RecordError, SourceError
from smolvideo.sanitize import display_path

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
