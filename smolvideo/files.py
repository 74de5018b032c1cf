"""Atomic writing of files: write a temporary file in the same folder, sync it, rename it.

A reader finds the old content or the new one, never a part, even after a crash.
"""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


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
