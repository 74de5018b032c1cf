"""Reader interface (``VideoReader``), the checks that readers share, and reference values for them.

Reference values come from PyAV: the decoders of OpenCV and decord expose no container clock, field
order, transfer curve or mirroring, and their frame lists are wrong for some files. One demuxing
pass with PyAV detects all of this. Files that PyAV cannot open are not checked.
"""

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from smolvideo.closing import ClosedOnExit
from smolvideo.errors import ReaderError, UsageError
from smolvideo.frames import Frame, Images, SubtitleEvent, VideoMetadata

_PROBE_TOLERANCE = 0.002
"""Tolerance in seconds for times of the same frame: OpenCV counts in milliseconds."""
_HINT = "the reader `pyav` reads it"


@dataclass(frozen=True)
class Probe:
    """Reference values of a file.

    ``unsupported_features`` names what decoders without side data would show wrongly, empty if
    nothing; ``times`` are the presentation times of all frames, on the player's clock.
    """

    unsupported_features: str
    width: int
    height: int
    times: Sequence[float]


def refuse_unsupported(probe: Probe | None, reader: str, name: str) -> None:
    """Raise ReaderError if the file ``name`` has features that ``reader`` does not support."""
    if probe is not None and probe.unsupported_features:
        raise _refusal(name, reader, f"it knows nothing of {probe.unsupported_features}")


def check_against_probe(
    probe: Probe | None, reader: str, name: str, times: Sequence[float], size: tuple[int, int]
) -> list[float]:
    """Return the ``times`` that ``reader`` found in the file ``name``, on the player's clock.

    Raises ReaderError if its frame times or its frame size (width, height) differ from the
    reference.
    """
    if probe is None:
        return list(times)
    refuse_unsupported(probe, reader, name)
    if (probe.width, probe.height) != size:
        given, shown = f"{size[0]} x {size[1]}", f"{probe.width} x {probe.height}"
        raise _refusal(name, reader, f"{given} pixels instead of {shown}")
    known = list(probe.times)
    shift = known[0] - times[0]
    if len(known) != len(times) or any(
        abs(mine + shift - true) > _PROBE_TOLERANCE for mine, true in zip(times, known, strict=True)
    ):
        raise _refusal(name, reader, f"it finds {len(times)} frames, not these {len(known)}")
    return known


def _refusal(name: str, reader: str, why: str) -> ReaderError:
    return ReaderError(f"the reader `{reader}` would show `{name}` wrongly: {why}", hint=_HINT)


MAX_PIXELS = 2**27
"""Maximum frame size: 134 million pixels (16384 by 8192), 400 MB of RGB. A header of a few bytes
can claim far more."""

_ASPECT_TOLERANCE = 0.01
"""A sample aspect ratio this close to 1 is ignored: 1 % is invisible, and resampling costs
sharpness."""
_MAX_ASPECT_RATIO = 8
"""Sample aspect ratios beyond this are taken for damage."""
_NEAR = 0.0005
"""Seconds of tolerance for the rounding of computed times."""


class NotAVideoError(ReaderError):
    """No reader can read this: not a file, no video in it, or too large. No other reader is
    tried."""


class VideoReader(ClosedOnExit):
    """An open video: returns the frames that a player shows at given times.

    Seconds count from the moment a player shows as 0:00, which is the start of the container: a
    transport stream whose first time stamp is 41748 s begins at 0. Not thread safe.
    """

    name: str
    metadata: VideoMetadata

    @abstractmethod
    def frame_times(self) -> list[float]:
        """Return the presentation time of each shown frame, ascending, in seconds.

        Read from the packets if possible, without decoding; frames hidden by an edit list are left
        out. May read the whole file once; the result is cached.
        """

    @abstractmethod
    def frames_at(
        self, seconds: Sequence[float], *, max_side: int | None = None, keyframes: bool = False
    ) -> Iterator[Frame]:
        """Yield the frame on screen at each of the ascending times, lazily, one in memory.

        ``max_side`` (pixels) scales down larger frames. With ``keyframes``, the last key frame
        before each time is returned instead, which is fast.

        The frame on screen is the last one that appears at or before the time; before the first
        frame it is the first, after the last the last. Two times between two frames give the same
        ``Frame`` object twice. Where data is damaged, the last decodable frame is repeated, as a
        player would freeze, for at most one second; after that, the time yields nothing.

        Raises:
            ReaderError: nothing in the file can be decoded, or the file changed while it was read.
            UsageError: the reader does not know which frames are key frames.
        """

    def key_frame_times(self) -> list[float]:
        """Return the presentation times of key frames, ascending, in seconds.

        Raises UsageError if the reader does not know them.
        """
        raise self.key_frames_unsupported()

    def text_track(self) -> list[SubtitleEvent]:
        """Return the embedded text subtitles, of several tracks the most likely one."""
        return []

    def probe(self) -> Probe | None:
        """Return reference values to check other readers against; None if this reader has none."""
        return None

    def key_frames_unsupported(self) -> UsageError:
        """Return the error of a reader that does not know key frames."""
        return UsageError(
            f"the reader `{self.name}` does not know which frames are key frames",
            hint="the reader `pyav` does",
        )

    def close(self) -> None:
        """Close the file; the reader cannot be used afterwards."""


def check_frame_size(width: int, height: int, name: str) -> None:
    """Raise NotAVideoError for frames above ``MAX_PIXELS`` or without area."""
    if width < 1 or height < 1:
        raise NotAVideoError(f"`{name}` says its pictures are {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise NotAVideoError(
            f"`{name}` says its pictures are {width} x {height} pixels, "
            f"more than the {MAX_PIXELS // 10**6} million that are decoded"
        )


def check_file(path: Path) -> None:
    """Raise NotAVideoError if ``path`` is missing, empty, unreadable or no file; folders pass.

    Raises ReaderError for other I/O errors.
    """
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
    """Return the times as a list; ValueError if they are not ascending."""
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
    """Implement :meth:`VideoReader.frames_at` for a reader that knows the ``times`` of all frames.

    ``read`` returns the image of the frame with an index into ``times``, or None if it is damaged.
    """
    last: Frame | None = None
    for time in require_ascending(seconds):
        index = max(0, bisect_right(times, time + _NEAR) - 1)
        if last is None or last.pts_seconds != times[index]:
            image = read(index)
            if image is None:
                continue
            last = Frame(downscale(image, max_side), times[index])
        yield last


def size_within(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """Return ``(width, height)`` scaled down to ``max_side``, same aspect; never enlarged."""
    if max_side is None or max(width, height) <= max_side:
        return width, height
    scale = max_side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def downscale(image: Images, max_side: int | None) -> Images:
    """Scale an image down to ``max_side`` with a box filter, which is fast and accurate enough."""
    height, width = image.shape[:2]
    size = size_within(width, height, max_side)
    if size == (width, height):
        return image
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def square_pixel_size(
    width: int, height: int, sample_aspect_ratio: Fraction | float | None
) -> tuple[int, int]:
    """Return the size in square pixels for a sample aspect ratio; the shorter-sampled side is
    enlarged, none is reduced, so that no detail is lost."""
    ratio = float(sample_aspect_ratio or 1)
    if (
        not 1 / _MAX_ASPECT_RATIO <= ratio <= _MAX_ASPECT_RATIO
        or abs(ratio - 1) < _ASPECT_TOLERANCE
    ):
        return width, height
    if ratio > 1:
        return round(width * ratio), height
    return width, round(height / ratio)
