"""Tiling of still images: the arithmetic of sizes, rows and columns, without pixels.

Source: transformers 5.23, models/smolvlm/image_processing_pil_smolvlm.py (the same in Idefics3).
"""

import math
from typing import NamedTuple

_MAX_SIDE = 4096  # MAX_IMAGE_SIZE of the processor


class Tiles(NamedTuple):
    """Rows and columns of tiles; 0 and 0 for an image that is not split."""

    rows: int
    columns: int


def size_at_longest_edge(height: int, width: int, edge: int) -> tuple[int, int]:
    """Return ``(height, width)`` with the longer side at ``edge``, the other an even number.

    >>> size_at_longest_edge(360, 640, 2048), size_at_longest_edge(480, 360, 2048)
    ((1152, 2048), (2048, 1536))
    """
    ratio = width / height
    if width >= height:
        width, height = edge, max(_up_to_even(int(edge / ratio)), 1)
    else:
        height, width = edge, max(_up_to_even(int(edge * ratio)), 1)
    ratio = width / height
    if width >= height and width > _MAX_SIDE:
        width, height = _MAX_SIDE, int(_MAX_SIDE / ratio)
    elif height > _MAX_SIDE:
        height, width = _MAX_SIDE, int(_MAX_SIDE * ratio)
    return max(height, 1), max(width, 1)


def size_in_tiles(height: int, width: int, image_size: int) -> tuple[int, int]:
    """Return ``(height, width)`` rounded up to whole tiles, the shorter side computed from the
    rounded longer one."""
    ratio = width / height
    if width >= height:
        width = math.ceil(width / image_size) * image_size
        height = math.ceil(int(width / ratio) / image_size) * image_size
    else:
        height = math.ceil(height / image_size) * image_size
        width = math.ceil(int(height * ratio) / image_size) * image_size
    return max(height, image_size), max(width, image_size)


def tiles_of(height: int, width: int, *, resize_edge: int, image_size: int) -> Tiles:
    """Return the tiles of an image of ``height`` × ``width`` pixels."""
    scaled = size_at_longest_edge(height, width, resize_edge)
    tall, wide = size_in_tiles(*scaled, image_size)
    if max(tall, wide) <= image_size:
        return Tiles(0, 0)
    return Tiles(tall // image_size, wide // image_size)


def _up_to_even(value: int) -> int:
    return value + value % 2
