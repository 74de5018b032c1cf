"""Resizing of a frame of any shape to the square input of the vision tower.

``official``  as the checkpoint's own pipeline. SmolVLM v1 (smollm's video script): short side to
              384, centre crop, then up to the model's size. SmolVLM2 (transformers): longest edge
              to ``resize_edge``, then to the square, ignoring the aspect ratio. nano: as
              ``direct``.
``direct``    one resize to the square, ignoring the aspect ratio: as in SmolVLM2's training.
``pad``       letterboxed into the square with black bars.

Still images always take the processor's path (longest edge, then the square or tiles), as v1's crop
is part of its video script only. Pixels stay uint8; engines normalise. The arithmetic of tiles:
transformers 5.23, models/smolvlm/image_processing_pil_smolvlm.py (the same in Idefics3).
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, cast

import numpy as np
from PIL import Image

from smolvideo.frames import Images
from smolvideo.models.checkpoint import Checkpoint
from smolvideo.prompt.messages import DEFAULT_OPTIONS, Geometry, PromptOptions

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


_V1_SIDE = 384  # fixed in smollm's SmolVLM_video_inference.py, for every checkpoint
_V1_LONGEST_RATIO = 32

Resize = Callable[[Images, tuple[int, int]], Images]
"""Lanczos resize of one RGB image to ``(height, width)``."""


def frame_transform(
    checkpoint: Checkpoint, options: PromptOptions = DEFAULT_OPTIONS
) -> tuple[Geometry, Callable[[Images], Images]]:
    """Return the geometry's name, and the transform for one video frame.

    The transform takes uint8 RGB ``[H, W, 3]`` and returns ``[S, S, 3]``, S the checkpoint's image
    size.
    """
    geometry = options.geometry or "official"
    side = checkpoint.image_size
    if geometry == "pad":
        return geometry, lambda frame: _letterbox(frame, side)
    if geometry == "direct" or checkpoint.layout == "nano":
        return geometry, lambda frame: lanczos_pil(frame, (side, side))
    if checkpoint.layout == "smolvlm":
        return geometry, lambda frame: lanczos_pil(_crop_v1(frame), (side, side))
    return geometry, lambda frame: _two_steps(frame, checkpoint, _resize_of(checkpoint))


def image_transform(
    checkpoint: Checkpoint, options: PromptOptions = DEFAULT_OPTIONS
) -> tuple[Geometry, Callable[[Images], Images]]:
    """Return the same as ``frame_transform``, for a still image that is not split into tiles."""
    geometry = options.geometry or "official"
    if geometry == "official" and checkpoint.layout != "nano":
        return geometry, lambda picture: _two_steps(picture, checkpoint, _resize_of(checkpoint))
    return frame_transform(checkpoint, options)


def split_image(picture: Images, checkpoint: Checkpoint, tiles: Tiles) -> Images:
    """Return ``[rows × columns + 1, S, S, 3]``: the tiles by row, then the whole image
    downscaled."""
    side, resize = checkpoint.image_size, _resize_of(checkpoint)
    scaled = resize(
        picture, size_at_longest_edge(picture.shape[0], picture.shape[1], checkpoint.resize_edge)
    )
    sheet = resize(scaled, size_in_tiles(scaled.shape[0], scaled.shape[1], side))
    cut = [
        sheet[top : top + side, left : left + side]
        for top in range(0, tiles.rows * side, side)
        for left in range(0, tiles.columns * side, side)
    ]
    return np.stack([*cut, resize(sheet, (side, side))])


def lanczos_pil(image: Images, size: tuple[int, int]) -> Images:
    """Resize with Pillow's Lanczos filter, available everywhere."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized)


def lanczos_torch(image: Images, size: tuple[int, int]) -> Images:
    """Resize with torch's Lanczos filter, bit-exact with SmolVLMVideoProcessor on a CPU."""
    import torch
    from torch.nn.functional import interpolate

    if image.shape[:2] == size:
        return image
    writable = np.require(image, requirements=["C", "W"])  # torch warns about read-only arrays
    pixels = torch.from_numpy(writable).permute(2, 0, 1)[None]
    resized = interpolate(
        pixels, size=list(size), mode="lanczos", antialias=True, align_corners=False
    )
    return cast(Images, np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy()))


@cache
def torch_has_lanczos() -> bool:
    """Return whether this torch supports Lanczos on uint8; older versions do not."""
    try:
        lanczos_torch(np.zeros((2, 2, 3), np.uint8), (4, 4))
    except (ImportError, NotImplementedError, RuntimeError, ValueError):
        return False
    return True


def _resize_of(checkpoint: Checkpoint) -> Resize:
    """Return torch's resize for SmolVLM2, as its processor uses it, and Pillow's for v1, or if
    torch is too old.

    The two differ by at most two grey levels.
    """
    return lanczos_torch if checkpoint.layout == "smolvlm2" and torch_has_lanczos() else lanczos_pil


def _two_steps(image: Images, checkpoint: Checkpoint, resize: Resize) -> Images:
    """Resize via ``resize_edge``: redundant, but part of the published pipeline."""
    scaled = resize(
        image, size_at_longest_edge(image.shape[0], image.shape[1], checkpoint.resize_edge)
    )
    return resize(scaled, (checkpoint.image_size, checkpoint.image_size))


def _crop_v1(frame: Images) -> Images:
    height, width = frame.shape[:2]
    if max(height, width) > _V1_LONGEST_RATIO * min(height, width):
        return _crop_first(frame)
    if width < height:
        size = (int(height * (_V1_SIDE / width)), _V1_SIDE)
    else:
        size = (_V1_SIDE, int(width * (_V1_SIDE / height)))
    resized = lanczos_pil(frame, size)
    top, left = (size[0] - _V1_SIDE) // 2, (size[1] - _V1_SIDE) // 2
    return resized[top : top + _V1_SIDE, left : left + _V1_SIDE]


def _crop_first(frame: Images) -> Images:
    """Crop a very long image before resizing: gigabytes of pixels would be cropped otherwise."""
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return lanczos_pil(frame[top : top + side, left : left + side], (_V1_SIDE, _V1_SIDE))


def _letterbox(frame: Images, side: int) -> Images:
    height, width = frame.shape[:2]
    scale = side / max(height, width)
    tall, wide = max(1, round(height * scale)), max(1, round(width * scale))
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (side - tall) // 2, (side - wide) // 2
    square[top : top + tall, left : left + wide] = lanczos_pil(frame, (tall, wide))
    return square
