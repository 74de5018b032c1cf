"""Text that a person hands over: small files, the pipes that shells put in place of files, stdin.

It is UTF-8 on every system, whatever the locale says; a byte order mark names UTF-8 or UTF-16, as
editors and shells of Windows write them.
"""

import codecs
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decode_text(content: bytes) -> str:
    """Text in UTF-8, or in what its byte order mark says. Raises UnicodeDecodeError."""
    marked = (name for mark, name in _MARKS.items() if content.startswith(mark))
    return content.decode(next(marked, "utf-8"))


def decoded_lines(stream: BinaryIO) -> Iterator[str]:
    """The lines of a stream as they come, without their ends; text as ``decode_text`` reads it.

    UTF-16, which nobody types line by line, is read to its end first. Raises UnicodeDecodeError.
    """
    first = stream.readline()
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield from decode_text(first + stream.read()).splitlines()
        return
    if first:
        yield decode_text(first).rstrip("\r\n")
    for line in stream:
        yield line.decode("utf-8").rstrip("\r\n")


def read_file_or_pipe(path: Path, max_bytes: int = -1) -> bytes:
    """The content of a file, or of a pipe that somebody writes into, as ``<(command)`` gives it.

    At most ``max_bytes`` are read, all with -1.

    Raises:
        OSError: as reading raises it; also for a pipe without a writer, which would never end, and
            for a device.
        ValueError: not a path.
    """
    mode = path.stat().st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise OSError(errno.ENODEV, "it is a device, not a file")
    if sys.platform == "win32" or not stat.S_ISFIFO(mode):  # Windows has none with a path
        with path.open("rb") as file:
            return file.read(max_bytes)
    # Opened in the ordinary way it would wait for a writer that may never come.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as pipe:
        try:
            begins = os.read(descriptor, 1)
        except BlockingIOError:  # somebody holds it, and has not written yet
            begins = None
        if begins == b"":
            raise OSError(errno.ENXIO, "it is a pipe, and nobody writes into it")
        os.set_blocking(descriptor, True)
        begins = begins or b""
        return begins + pipe.read(-1 if max_bytes < 0 else max(0, max_bytes - len(begins)))


def open_regular(path: Path) -> BinaryIO:
    """A file of our own, opened for reading; what another program put in its place is not waited
    for.

    Raises OSError as opening does, and for a pipe, a device, a socket or a folder.
    """
    descriptor = os.open(path, open_flags())
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return open(descriptor, "rb")


def open_flags() -> int:
    """Flags to open a file for reading with, that wait for no other end of a pipe."""
    binary = getattr(os, "O_BINARY", 0)  # of Windows
    return os.O_RDONLY | binary | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def read_regular(path: Path) -> bytes:
    """The content of a file of our own. Raises OSError as ``open_regular``."""
    with open_regular(path) as file:
        return file.read()
