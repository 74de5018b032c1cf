"""What every reader promises, and the sizes beyond which a file is refused."""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from smolvideo.errors import ReaderError, UsageError
from smolvideo.frames import Frame, Images, SubtitleEvent, VideoMetadata
from smolvideo.readers.probe import Probe

MAX_PIXELS = 2**27
"""Largest picture that is decoded: 134 million pixels (16384 by 8192), 400 MB of RGB. A header of a
few bytes can claim far more."""

_ASPECT_TOLERANCE = 0.01
"""A sample aspect ratio this near to 1 is left alone: nobody sees 1 %, and resampling costs
sharpness."""
_MAX_ASPECT_RATIO = 8
"""Ratios beyond this are taken for damage."""
_NEAR = 0.0005
"""Seconds that forgive the rounding of times that were computed."""


class NotAVideoError(ReaderError):
    """What no other reader would change: no picture in the file, or no file."""


class VideoReader(ABC):
    """One open video: times in, the frames a player shows at those times out.

    Seconds count from the moment a player shows as 0:00, which is the start of the container: a
    transport stream whose first time stamp is 41748 s begins at 0. A reader is not thread safe.
    """

    name: str
    metadata: VideoMetadata

    @abstractmethod
    def frame_times(self) -> list[float]:
        """When each shown frame appears, ascending, in seconds.

        Read from the packets where possible, without decoding; frames that an edit list hides are
        left out. The whole file may be read once; the result is kept.
        """

    @abstractmethod
    def frames_at(
        self, seconds: Sequence[float], *, max_side: int | None = None, keyframes: bool = False
    ) -> Iterator[Frame]:
        """The frame on screen at each of the ascending times, lazily, one in memory.

        ``max_side`` scales down what has a longer side, in pixels. ``keyframes`` asks for a quick
        look: of each time the last key frame before it.

        That is the last frame which appears at or before the time; before the first frame it is the
        first, after the last frame the last. Two times between two frames give the same ``Frame``
        twice. Where the data is damaged, a player freezes on the last picture it could decode, and
        so do we, but no longer than a second: after that, the time yields nothing.

        Raises:
            ReaderError: nothing in the file can be decoded, or the file changed under us.
            UsageError: the reader does not know which frames are key frames.
        """

    def key_frame_times(self) -> list[float]:
        """When the frames appear that lean on no other, ascending, in seconds.

        Raises UsageError for a reader that does not know.
        """
        raise self.key_frames_unsupported()

    def text_track(self) -> list[SubtitleEvent]:
        """The subtitles inside the file, where they are text; of several tracks the likeliest."""
        return []

    def probe(self) -> Probe | None:
        """What other readers of the same file are held to; None where this one knows no better."""
        return None

    def key_frames_unsupported(self) -> UsageError:
        """The error of a reader that does not know key frames."""
        return UsageError(
            f"the reader `{self.name}` does not know which frames are key frames",
            hint="the reader `pyav` does",
        )

    def close(self) -> None:  # noqa: B027 - a reader that holds nothing open need not say so
        """Let the file go; the reader cannot be used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def check_frame_size(width: int, height: int, name: str) -> None:
    """Raise ReaderError for pictures that memory should not be trusted with, or that have no
    area."""
    if width < 1 or height < 1:
        raise NotAVideoError(f"`{name}` says its pictures are {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise NotAVideoError(
            f"`{name}` says its pictures are {width} x {height} pixels, "
            f"more than the {MAX_PIXELS // 10**6} million that are decoded"
        )


def check_file(path: Path) -> None:
    """Raise NotAVideoError for what no reader could read."""
    try:
        if path.is_dir():
            return
        if not path.is_file():
            exists = path.exists()
            raise NotAVideoError(
                f"`{path}` is neither a file nor a folder" if exists else f"no such file: `{path}`"
            )
        with path.open("rb") as file:
            empty = not file.read(1)
    except PermissionError as error:
        raise NotAVideoError(f"no permission to read `{path}`") from error
    except (OSError, ValueError) as error:
        raise ReaderError(f"cannot read `{path}`: {error}") from error
    if empty:
        raise NotAVideoError(f"`{path.name}` is empty (0 bytes)")


def require_ascending(seconds: Sequence[float]) -> list[float]:
    """The times as a list; ValueError where a caller hands them in unsorted."""
    times = list(seconds)
    if any(later < earlier for earlier, later in pairwise(times)):
        raise ValueError("frames_at needs ascending times")
    return times


def frames_on_screen(
    times: Sequence[float],
    seconds: Sequence[float],
    read: Callable[[int], Images | None],
    max_side: int | None,
) -> Iterator[Frame]:
    """:meth:`VideoReader.frames_at` for a reader that knows the ``times`` of all its frames.

    ``read`` gives the image at a place in ``times``, or None where it is damaged.
    """
    last: Frame | None = None
    for time in require_ascending(seconds):
        place = max(0, bisect_right(times, time + _NEAR) - 1)
        if last is None or last.pts_seconds != times[place]:
            image = read(place)
            if image is None:
                continue
            last = Frame(downscale(image, max_side), times[place])
        yield last


def size_within(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """``(width, height)`` with no side above ``max_side``, in the same shape; never enlarged."""
    if max_side is None or max(width, height) <= max_side:
        return width, height
    scale = max_side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def downscale(image: Images, max_side: int | None) -> Images:
    """The picture with no side above ``max_side``, by areas, which is quick and true enough."""
    height, width = image.shape[:2]
    size = size_within(width, height, max_side)
    if size == (width, height):
        return image
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def square_pixel_size(
    width: int, height: int, sample_aspect_ratio: Fraction | float | None
) -> tuple[int, int]:
    """Square pixels for a sample aspect ratio; one side grows, none shrinks, so that nothing is
    lost."""
    ratio = float(sample_aspect_ratio or 1)
    if (
        not 1 / _MAX_ASPECT_RATIO <= ratio <= _MAX_ASPECT_RATIO
        or abs(ratio - 1) < _ASPECT_TOLERANCE
    ):
        return width, height
    if ratio > 1:
        return round(width * ratio), height
    return width, round(height / ratio)
