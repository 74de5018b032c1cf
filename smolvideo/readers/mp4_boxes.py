"""MP4 boxes: one walker over files and bytes (ISO/IEC 14496-12, 4.2).

Of the size of a box, 0 means to the end of what contains it, and 1 that a size of 64 bits follows.
A size smaller than the header ends the walk; one past the end of the container is clipped to it.
"""

import io
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

TOP_LEVEL_KINDS = frozenset(
    b"ftyp styp moov moof mdat free wide skip sidx mfra uuid meta pdin ssix prft emsg pnot "
    b"udta junk imda".split()
)
"""Kinds of boxes that are in no other box."""
_MAX_BOXES = 10_000
"""Maximum boxes that are read per level; a header has some dozens."""


class Box(NamedTuple):
    """Byte offsets of a box, of its content (``body``), and of its end."""

    kind: bytes
    start: int
    body: int
    end: int


def box_at(file: BinaryIO, position: int, end: int) -> Box | None:
    """Parse the box header at ``position`` in a container that ends at ``end``, without clipping
    the stated end of the box; None if it is invalid or truncated."""
    file.seek(position)
    header = file.read(min(16, max(0, end - position)))
    size, body = int.from_bytes(header[:4], "big"), position + 8
    if size == 1:
        if len(header) < 16:
            return None
        size, body = int.from_bytes(header[8:], "big"), position + 16
    elif size == 0:
        size = end - position
    if len(header) < 8 or size < body - position:
        return None
    return Box(header[4:8], position, body, position + size)


def boxes_in(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes of one level in a byte range, up to the first invalid one."""
    for _ in range(_MAX_BOXES):
        box = box_at(file, start, end)
        if box is None:
            return
        yield box._replace(end=min(box.end, end))
        start = box.end


def boxes_at(file: BinaryIO, start: int, end: int, *kinds: bytes) -> Iterator[tuple[int, int]]:
    """Yield ``(start, end)`` of the content of the boxes at a path of kinds."""
    for box in boxes_in(file, start, end):
        if box.kind != kinds[0]:
            continue
        if len(kinds) == 1:
            yield box.body, box.end
        else:
            yield from boxes_at(file, box.body, box.end, *kinds[1:])


def child_boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each box in ``data``."""
    for box in boxes_in(io.BytesIO(data), 0, len(data)):
        yield box.kind, data[box.body : box.end]


def child_box(data: bytes, *kinds: bytes) -> bytes:
    """Return the content of the first box at a path of kinds in ``data``; empty if there is
    none."""
    start, end = next(boxes_at(io.BytesIO(data), 0, len(data), *kinds), (0, 0))
    return data[start:end]
