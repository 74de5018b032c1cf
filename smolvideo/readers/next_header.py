"""Where the next file begins in bytes that are no elements: a recording before it broke off."""

from collections.abc import Callable
from typing import BinaryIO

from smolvideo.readers.heartbeat import beat

_BLOCK = 2**20
LOOK_AHEAD = 320
"""Bytes from the start of a header on that tell whether it is one."""


def find_header(
    file: BinaryIO, start: int, end: int, magic: bytes, is_header: Callable[[bytes], bool]
) -> int | None:
    """The first place from ``start`` on where ``magic`` stands and ``is_header`` holds for the
    bytes from there on; None where there is none before ``end``."""
    while start < end:
        beat()
        file.seek(start)
        data = file.read(min(_BLOCK, end - start) + LOOK_AHEAD)
        place = data.find(magic)
        while 0 <= place < _BLOCK:
            if is_header(data[place : place + LOOK_AHEAD]):
                return start + place
            place = data.find(magic, place + 1)
        start += _BLOCK
    return None
