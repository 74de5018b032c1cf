"""Text input from files, pipes (process substitution) and stdin, with a fixed encoding.

UTF-8 on every system, whatever the locale; a byte order mark selects UTF-8 or UTF-16, as editors
and shells on Windows write them, or UTF-7.
"""

import codecs
import errno
import os
import re
import stat
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

_UTF_7_MARK = re.compile(rb"\+/v[89+/]")
_UTF_7_RUN = re.compile(rb"\+[A-Za-z0-9+/]{3,}")
_ALPHABETS_END = "\u2100"
"""Below are alphabets and punctuation; above also all that three base64 digits are by chance."""


def decode_utf_7(content: bytes) -> str | None:
    """Decode text that looks like UTF-7 (RFC 2152), which is ASCII: ``caf+AOk-`` for ``café``.

    None if it has no mark and a sequence is invalid, or if none is a visible character beyond
    ASCII. A single ideograph may be chance: ``+abc-`` is one.
    """
    if not content.isascii() or _UTF_7_RUN.search(content) is None:
        return None
    try:
        text = content.decode("utf-7")
    except UnicodeDecodeError:
        return None
    if _UTF_7_MARK.match(content):
        return text.removeprefix("\ufeff")
    beyond = [character for character in text if not character.isascii()]
    if not all(unicodedata.category(one)[0] in "LMNPSZ" for one in beyond):
        return None
    is_sure = len(beyond) > 1 or any(one < _ALPHABETS_END for one in beyond)
    return text if is_sure else None


def decode_text(content: bytes) -> str:
    """Decode UTF-8, or UTF-16 or UTF-7 if its mark says so. Raises UnicodeDecodeError."""
    if _UTF_7_MARK.match(content) and (text := decode_utf_7(content)) is not None:
        return text
    marked = (name for mark, name in _MARKS.items() if content.startswith(mark))
    return content.decode(next(marked, "utf-8"))


def decoded_lines(stream: BinaryIO) -> Iterator[str]:
    """Yield the lines of a stream as they arrive, without line ends; decoded as by ``decode_text``.

    UTF-16 is read to its end first (it is never typed interactively). Raises UnicodeDecodeError.
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
    """Return the content of a file, or of a pipe such as ``<(command)``.

    At most ``max_bytes`` are read, all if -1.

    Raises:
        OSError: from reading; also for a pipe without a writer, which would block for ever, and for
            a device.
        ValueError: not a path.
    """
    mode = path.stat().st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise OSError(errno.ENODEV, "it is a device, not a file")
    if sys.platform == "win32" or not stat.S_ISFIFO(mode):  # Windows has no pipes in folders
        with path.open("rb") as file:
            return file.read(max_bytes)
    # Non-blocking, because a blocking open would wait for a writer that may never come.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as pipe:
        try:
            begins = os.read(descriptor, 1)
        except BlockingIOError:  # a writer has it open, but has not written yet
            begins = None
        if begins == b"":
            raise OSError(errno.ENXIO, "it is a pipe that no program writes to")
        os.set_blocking(descriptor, True)
        begins = begins or b""
        return begins + pipe.read(-1 if max_bytes < 0 else max(0, max_bytes - len(begins)))


def open_regular(path: Path) -> BinaryIO:
    """Open a file of our own for reading, without blocking if another program replaced it.

    Raises OSError as opening does, and for a pipe, a device, a socket or a folder.
    """
    descriptor = os.open(path, open_flags())
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return open(descriptor, "rb")


def open_flags() -> int:
    """Return flags for opening a file for reading without blocking on a pipe."""
    binary = getattr(os, "O_BINARY", 0)  # Windows only
    return os.O_RDONLY | binary | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def read_regular(path: Path) -> bytes:
    """Return the content of a file of our own. Raises OSError as ``open_regular``."""
    with open_regular(path) as file:
        return file.read()
