"""Lossless frame store of a conversation: resuming needs neither the video nor decoding.

The frames of one attachment are stacked vertically in one PNG, written to a temporary file and
renamed. Their pixel hash is checked when they are read: incomplete or modified frames are decoded
again from the source.
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
"""Limit per attachment: 240 frames of 512 x 512. Larger ones are decoded again when needed."""

_COMPRESSION = 1
"""zlib's fastest level shrinks frames to a third; slower levels gain only a tenth more."""


def frames_path(folder: Path, number: int) -> Path:
    """Return the path of the stored frames of an attachment."""
    return folder / f"frames-{int(number)}.png"


def save_frames(folder: Path, number: int, images: Images) -> None:
    """Write uint8 ``images`` [N, H, W, 3]. Raises RecordError for a disk error.

    More than ``MAX_PIXELS`` are not saved.
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
    """Read stored frames [N, H, W, 3]; None if they are missing or their hash differs."""
    count, height, width = shape[:3]
    if count * height * width > MAX_PIXELS:
        return None
    path = frames_path(folder, number)
    if path.is_symlink():
        return None
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            # The size is checked before decoding: a swapped file must not fill the memory.
            if picture.size != (width, count * height) or picture.mode != "RGB":
                return None
            images: Images = np.asarray(picture).reshape(count, height, width, 3)
    except (OSError, ValueError, SyntaxError):  # raised by Pillow for an invalid PNG
        return None
    return images if pixel_hash(images) == sha256 else None


def pixel_hash(images: Images) -> str:
    """SHA-256 of the pixels, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()
