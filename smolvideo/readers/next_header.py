"""Search for the next file header after a truncated file that had another appended to it."""

from collections.abc import Callable
from typing import BinaryIO

from smolvideo.readers.heartbeat import beat

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
