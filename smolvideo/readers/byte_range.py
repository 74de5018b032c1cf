"""Byte range of a file presented to FFmpeg as a file of its own, and the search for the next one.

A truncated file may have another appended to it, whose header begins the next range.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from smolvideo.readers.ipc import beat


@dataclass(frozen=True)
class Stretch:
    """Bytes ``start`` to ``end`` of a file, readable by FFmpeg's ``demuxer`` if preceded by the
    bytes ``head`` and ``gap`` zeros."""

    start: int
    end: int
    demuxer: str
    head: bytes = field(default=b"", repr=False)
    gap: int = 0

    @property
    def head_bytes(self) -> int:
        """Number of bytes in front of the file's own."""
        return len(self.head) + self.gap


class FileSlice(io.RawIOBase):
    """Read-only, seekable file object over a ``Stretch``.

    Raises OSError if the file cannot be opened.
    """

    def __init__(self, path: Path, stretch: Stretch) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._start = stretch.start
        self._head = stretch.head
        self._begin = stretch.head_bytes  # offset of the file's own bytes
        self._size = self._begin + stretch.end - stretch.start
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        wanted = min(len(buffer), max(0, self._size - self._position))
        if not wanted:
            return 0
        if self._position < self._begin:
            part = self._head[self._position : self._position + wanted]
            part = part or bytes(min(wanted, self._begin - self._position))
            buffer[: len(part)] = part
            count = len(part)
        else:
            self._file.seek(self._start + self._position - self._begin)
            count = self._file.readinto(memoryview(buffer)[:wanted]) or 0
        self._position += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


_BLOCK = 2**20
LOOK_AHEAD = 320
"""Bytes from the start of a header that ``is_header`` may inspect."""


def find_header(
    file: BinaryIO, start: int, end: int, magic: bytes, is_header: Callable[[bytes], bool]
) -> int | None:
    """Return the first byte offset from ``start`` at which ``magic`` is found and ``is_header``
    accepts the bytes; None if there is none before ``end``."""
    while start < end:
        beat()
        file.seek(start)
        data = file.read(min(_BLOCK, end - start) + LOOK_AHEAD)
        offset = data.find(magic)
        while 0 <= offset < _BLOCK:
            if is_header(data[offset : offset + LOOK_AHEAD]):
                return start + offset
            offset = data.find(magic, offset + 1)
        start += _BLOCK
    return None
