"""The frames of a conversation on disk, without loss: going on needs no video and no decoding.

The frames of one look are one PNG, one below the other. It is written beside and renamed, and its
pixels are compared with their hash when they are read: what is half or changed is decoded again.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from smolvideo.errors import RecordError
from smolvideo.files import open_atomic
from smolvideo.frames import Images
from smolvideo.sanitize import display_path

MAX_PIXELS = 64_000_000
"""Of one look: 240 frames of 512 x 512. What is larger is decoded again when it is needed."""

_COMPRESSION = 1
"""zlib's fastest: frames shrink to a third, and more time gains only a tenth more."""


def frames_path(folder: Path, number: int) -> Path:
    """Where the frames of a look are kept."""
    return folder / f"frames-{int(number)}.png"


def save_frames(folder: Path, number: int, images: Images) -> None:
    """Write uint8 ``images`` [N, H, W, 3]; RecordError where the disk does not take them.

    Frames beyond ``MAX_PIXELS`` are not kept.
    """
    count, height, width, _ = images.shape
    if count * height * width > MAX_PIXELS:
        return
    path = frames_path(folder, number)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open_atomic(path) as file:
            picture = Image.fromarray(images.reshape(count * height, width, 3))
            picture.save(file, "PNG", compress_level=_COMPRESSION)
    except OSError as error:
        reason = error.strerror or error
        raise RecordError(f"frames cannot be kept in {display_path(folder)}: {reason}") from error


def read_frames(folder: Path, number: int, shape: Sequence[int], sha256: str) -> Images | None:
    """The frames that were kept, [N, H, W, 3]; None where they are not there, or not the same."""
    count, height, width = shape[:3]
    if count * height * width > MAX_PIXELS:
        return None
    path = frames_path(folder, number)
    if path.is_symlink():
        return None
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            # The size is looked at first: a file that was swapped must not fill the memory.
            if picture.size != (width, count * height) or picture.mode != "RGB":
                return None
            images: Images = np.asarray(picture).reshape(count, height, width, 3)
    except (OSError, ValueError, SyntaxError):  # what Pillow raises for what is no PNG
        return None
    return images if pixel_hash(images) == sha256 else None


def pixel_hash(images: Images) -> str:
    """SHA-256 of the pixels, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()
