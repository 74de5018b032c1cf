"""Pillow reader for still images, animations, and folders of frames.

A folder of frames has an order but no clock: frame ``i`` is given the time ``i`` seconds, which
means nothing. Files are in natural order: ``frame2`` comes before ``frame10``.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from smolvideo.errors import ReaderError
from smolvideo.frames import Frame, Images, VideoMetadata
from smolvideo.media_types import IMAGE_SUFFIXES, natural_order
from smolvideo.readers.base import MAX_PIXELS, VideoReader, check_frame_size, frames_on_screen
from smolvideo.readers.file_walk import bytes_after_image
from smolvideo.readers.ipc import beat

_COMMON_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM")
"""Formats that Pillow opens without loading all its plug-ins."""
_OTHER_FORMATS = (
    *("AVIF", "DDS", "DIB", "FITS", "HEIF", "JPEG2000", "MPO", "MSP", "PCX", "PSD", "QOI", "SGI"),
    *("SUN", "TGA", "TIFF", "WEBP", "XBM", "XPM"),
)
"""Other allowed formats, detected by content. Left out are those that Pillow hands to a program
(Ghostscript for EPS) or to the system (WMF)."""
_ANIMATED_FORMATS = {"GIF", "WEBP", "PNG", "AVIF"}
_UNTIMED_PICTURE = 0.1
"""Seconds for a frame of an animation whose file says 0, as in browsers."""


class ImageReader(VideoReader):
    """Frames of one image, of an animation, or of a folder of images.

    EXIF orientation is applied; alpha is composited over white. The first readable image sets the
    size: other images of a folder are scaled to fit inside it and centred on black.

    Raises:
        ReaderError: there is no image, or none that Pillow can read.
    """

    name = "pictures"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path.is_dir()
        if self._folder:
            self._files = list_images(path)
            self._times = [float(place) for place in range(len(self._files))]
            duration = float(len(self._files))
        else:
            self._files = [path]
            self._times, duration = _animation_times(path)
        self._size: tuple[int, int] | None = None
        self._kept: tuple[int, Images] | None = None
        # Cached for the first request: a large image takes seconds to decode.
        first, image = self._kept = self._first_readable()
        self._size = image.shape[1], image.shape[0]
        still = len(self._times) == 1 and not self._folder
        self.metadata = VideoMetadata(
            width=self._size[0],
            height=self._size[1],
            duration_seconds=duration,
            num_frames=len(self._times),
            average_fps=None if still or not duration else len(self._times) / duration,
            codec=self._files[0].suffix.lstrip(".").lower(),
            kind="frames" if self._folder else "image" if still else "video",
            reader=self.name,
            name=path.name,
            first_pts_seconds=self._times[first],
            last_pts_seconds=self._times[-1],
            unread_bytes=bytes_after_image(path) if len(self._files) < len(self._times) else 0,
        )

    def frame_times(self) -> list[float]:
        return list(self._times)

    def key_frame_times(self) -> list[float]:
        return self.frame_times()

    def frames_at(
        self, seconds: Sequence[float], *, max_side: int | None = None, keyframes: bool = False
    ) -> Iterator[Frame]:
        return frames_on_screen(self._times, seconds, self._picture, max_side)

    def _first_readable(self) -> tuple[int, Images]:
        """Return the index of the first readable image, which sets the size, and the image."""
        for index in range(len(self._files)):
            if (image := self._picture(index)) is not None:
                return index, image
        raise ReaderError(
            f"no picture in `{self._path}` can be read", hint=_hint_for(self._files[0])
        )

    def _picture(self, index: int) -> Images | None:
        """Return an image as uint8 RGB; None for a damaged file of a folder, which is skipped."""
        if self._kept is not None and self._kept[0] == index:
            image, self._kept = self._kept[1], None
            return image
        if not self._folder:
            return _read_picture(self._path, index, self._size)
        try:
            return _read_picture(self._files[index], 0, self._size)
        except ReaderError:
            return None


def list_images(folder: Path) -> list[Path]:
    """Return the image files of a folder in natural order, without hidden files."""
    try:
        files = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        ]
    except OSError as error:
        raise ReaderError(f"cannot read the folder `{folder}`: {error.strerror}") from error
    if not files:
        raise ReaderError(f"no pictures in `{folder}`")
    return sorted(files, key=lambda path: natural_order(path.name))


def _open_picture(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Our own limit is checked below; Pillow's warning would reach the terminal.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = _identified(path)
    except FileNotFoundError as error:
        raise ReaderError(f"no such file: `{path}`") from error
    except PermissionError as error:
        raise ReaderError(f"no permission to read `{path}`") from error
    except Image.DecompressionBombError as error:  # Pillow's limit is slightly above ours
        raise ReaderError(
            f"`{path.name}` has more than the {MAX_PIXELS // 10**6} million pixels that are decoded"
        ) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise ReaderError(
            f"`{path.name}` is not a picture that can be read",
            hint=_hint_for(path),
        ) from error
    try:
        check_frame_size(picture.width, picture.height, path.name)
    except ReaderError:
        picture.close()
        raise
    return picture


def _identified(path: Path) -> Image.Image:
    """Open a file as one of the allowed formats. Raises as ``Image.open``."""
    with contextlib.suppress(UnidentifiedImageError):
        return Image.open(path, formats=_COMMON_FORMATS)
    Image.init()
    return Image.open(path, formats=[name for name in _OTHER_FORMATS if name in Image.OPEN])


def _hint_for(path: Path) -> str | None:
    return "convert it to JPEG" if path.suffix.lower() in {".heic", ".heif"} else None


def _animation_times(path: Path) -> tuple[list[float], float]:
    """Return when each frame of an animation appears, and its duration (0 for a still image)."""
    times, clock = [], 0.0
    with _open_picture(path) as picture:
        # The pages of a TIFF and the thumbnails of an MPO are no animation.
        if picture.format not in _ANIMATED_FORMATS or not getattr(picture, "is_animated", False):
            return [0.0], 0.0
        try:
            for index in range(int(getattr(picture, "n_frames", 1))):
                picture.seek(index)
                picture.load()
                beat()
                times.append(clock)
                clock += picture.info.get("duration", 0) / 1000 or _UNTIMED_PICTURE
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            if not times:
                raise ReaderError(f"`{path.name}` is a damaged picture") from error
    return times, clock


def _read_picture(path: Path, index: int, size: tuple[int, int] | None) -> Images:
    """Return one image as uint8 RGB, letterboxed to ``size`` (width, height) if it differs."""
    with _open_picture(path) as opened:
        try:
            opened.seek(index)
            ImageOps.exif_transpose(opened, in_place=True)
            picture = _on_white(opened)
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise ReaderError(f"`{path.name}` is a damaged picture") from error
    if size is not None and picture.size != size:
        picture = ImageOps.pad(picture, size, method=Image.Resampling.LANCZOS, color="black")
    return np.array(picture, dtype=np.uint8)


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode in ("I;16", "I;16L", "I;16B", "I", "F"):
        return _grey_of_deep(picture)
    if picture.has_transparency_data:
        paper = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(paper, picture.convert("RGBA")).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _grey_of_deep(picture: Image.Image) -> Image.Image:
    """Convert 16-bit and float grey; Pillow's own conversion clips at 255 instead of scaling."""
    levels = np.asarray(picture, dtype=np.float64)
    top = 65535.0 if picture.mode.startswith("I") and levels.max(initial=0) > 255 else 255.0
    grey = np.clip(np.rint(levels * (255 / top)), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
