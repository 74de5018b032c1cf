"""Files that are written whole or not at all.

The content goes to a new file in the same folder, which then takes the place of the old one: a
reader finds the one or the other, after a crash as well.
"""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def write_atomic(path: Path, content: bytes | str, *, sync: bool = True) -> None:
    """Write ``content`` (text as UTF-8) to ``path``, which then holds all of it or what it held.

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
    """A binary file that becomes ``path`` when the block ends, and vanishes where the block raises.

    With ``sync`` its content is on the disk before ``rename`` is called: a power cut does not leave
    an empty file under the name. Raises OSError.
    """
    beside = _name_beside(path)
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            if sync:
                sync_file(file.fileno())
        rename(beside, path)
    finally:
        with suppress(OSError):  # renamed, or never made
            beside.unlink()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A name that a library can write to, with the suffix of ``path``: :func:`open_atomic` for
    libraries that open files themselves. Nothing is synced. Raises OSError.
    """
    beside = _name_beside(path, path.suffix)
    try:
        yield beside
        beside.replace(path)
    finally:
        with suppress(OSError):
            beside.unlink()


def sync_file(descriptor: int) -> None:
    """``os.fsync``, where the file system can: pipes and some network file systems cannot, and lose
    nothing by it. Raises OSError.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise


def _name_beside(path: Path, suffix: str = "") -> Path:
    """Hidden, and of a length that every file system takes, however long the name of ``path``."""
    return path.with_name(f".{secrets.token_hex(8)}.part{suffix}")
