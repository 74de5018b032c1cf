"""Readers decord (0.6.0, of 2021) and OpenCV, for comparison with programs that use them.

decord reads from the beginning and never seeks, because its seeking returns wrong frames on open
GOPs and some 10-bit streams. Refused are files that go wrong even so: transport streams, on which
decord can hang, and files whose frame list does not match the decoded frames (edit lists, hidden
frames). Features it does not support are refused by a check against PyAV (``Probe``); its RGB
conversion is BT.601 whatever the file says.

OpenCV decodes from the beginning, twice (once for the times), because its seeking lands on wrong
frames. It does not report mirroring, interlacing or HDR, a second video stream, or frames after
a broken packet; files with these are refused by a check against PyAV (``Probe``). RGB conversion
always uses the BT.601 matrix, even for BT.709, which is a few grey levels off in saturated colours.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from smolvideo.errors import ReaderError
from smolvideo.frames import Frame, Images, VideoMetadata
from smolvideo.readers.base import (
    Probe,
    VideoReader,
    check_against_probe,
    check_frame_size,
    frames_on_screen,
    refuse_unsupported,
    square_pixel_size,
)
from smolvideo.readers.encryption import transport_packet_bytes
from smolvideo.readers.ffmpeg_input import OPTIONS, names_a_sequence, refuse_text
from smolvideo.readers.ipc import beat

_HINT = "the reader `pyav` reads most"


class DecordReader(VideoReader):
    """See :class:`~smolvideo.readers.base.VideoReader`.

    Raises:
        ReaderError: decord is not installed, cannot open the file, or would read it wrongly.
    """

    name = "decord"

    def __init__(self, path: Path, probe: Probe | None = None) -> None:
        self._path = path
        self._witness = probe
        # Refuse what decord would read wrongly, before it opens the file.
        refuse_text(path)
        if names_a_sequence(path):
            raise ReaderError(
                f"the reader `decord` takes `{path.name}` for a sequence of pictures", hint=_HINT
            )
        refuse_unsupported(probe, self.name, path.name)
        self._decord = _import_decord()
        if _is_transport_stream(path):
            raise ReaderError(
                f"the reader `decord` can hang on transport streams like `{path.name}`", hint=_HINT
            )
        self._video: Any
        self._start_over()
        self._times = self._read_times()
        # Compare frame times and size with the probe, and shift the end to the player's clock.
        first = self._next()
        check_frame_size(first.shape[1], first.shape[0], path.name)
        size = first.shape[1], first.shape[0]
        self._end -= self._times[0]
        self._times = check_against_probe(probe, self.name, path.name, self._times, size)
        self._end += self._times[0]
        rate = float(self._video.get_avg_fps())
        self.metadata = VideoMetadata(
            width=first.shape[1],
            height=first.shape[0],
            duration_seconds=self._end,
            num_frames=len(self._times),
            average_fps=rate if rate > 0 else None,
            reader=self.name,
            name=path.name,
            first_pts_seconds=self._times[0],
            last_pts_seconds=self._times[-1],
        )

    def close(self) -> None:
        self._video = None

    def frame_times(self) -> list[float]:
        return list(self._times)

    def frames_at(
        self, seconds: Sequence[float], *, max_side: int | None = None, keyframes: bool = False
    ) -> Iterator[Frame]:
        if keyframes:
            raise self.key_frames_unsupported()
        return frames_on_screen(self._times, seconds, self._frame, max_side)

    def _frame(self, index: int) -> Images:
        if index < self._place:
            self._start_over()
        # decord's own skip_frames jumps to wrong frames in fragmented files.
        while self._place < index:
            self._next()
        return self._next()

    def _next(self) -> Images:
        try:
            image: Images = self._video.next().asnumpy()
        except (self._decord.DECORDError, StopIteration) as error:
            raise self._damaged() from error
        self._place += 1
        beat()
        return image

    def _damaged(self) -> ReaderError:
        return ReaderError(f"decord cannot decode `{self._path.name}` to its end", hint=_HINT)

    def _start_over(self) -> None:
        try:
            self._video = self._decord.VideoReader(str(self._path))
        except (self._decord.DECORDError, RuntimeError) as error:
            raise ReaderError(f"decord cannot open `{self._path.name}`", hint=_HINT) from error
        self._place = 0

    def _read_times(self) -> list[float]:
        """Read frame times; decord lists packets, and its indices are off if some are not shown."""
        stamps = self._video.get_frame_timestamp(list(range(len(self._video))))
        times = [float(start) for start in stamps[:, 0]]
        self._end = float(stamps[-1, 1]) if len(stamps) else 0.0
        hidden = any(time < 0 for time in times)
        if not times or hidden or any(later <= earlier for earlier, later in pairwise(times)):
            raise ReaderError(
                f"decord miscounts the frames of `{self._path.name}` (hidden or untimed ones)",
                hint=_HINT,
            )
        return times


def _is_transport_stream(path: Path) -> bool:
    """Detect a transport stream by its sync bytes, or, if they are damaged, by its suffix."""
    with path.open("rb") as file:
        head = file.read(2048)
    named = path.suffix.lower() in {".ts", ".mts", ".m2ts"}
    return named or transport_packet_bytes(head) is not None


def _import_decord() -> Any:
    try:
        import decord
    except (ImportError, OSError) as error:
        raise ReaderError(
            "the reader `decord` is not installed", hint="pip install 'smolvideo[readers]'"
        ) from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord


class OpencvReader(VideoReader):
    """See :class:`~smolvideo.readers.base.VideoReader`.

    Raises:
        ReaderError: OpenCV is not installed, cannot open the file, or gives its frames no times.
    """

    name = "opencv"

    def __init__(self, path: Path, probe: Probe | None = None) -> None:
        self._path = path
        self._witness = probe
        refuse_text(path)
        refuse_unsupported(probe, self.name, path.name)
        self._cv2 = _import_opencv()
        self._times: list[float] | None = None
        self._capture: Any = None
        self._place = -1
        self._start_over()
        first = self._grab_and_retrieve()
        if first is None:
            self.close()
            raise ReaderError(f"OpenCV can decode no frames of `{path.name}`")
        self.metadata = self._read_metadata(first)

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()

    def frame_times(self) -> list[float]:
        if self._times is None:
            self._start_over()
            times: list[float] = []
            while self._capture.grab():
                beat()
                times.append(self._capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000)
            self._start_over()
            if any(later <= earlier for earlier, later in pairwise(times)):
                raise ReaderError(
                    f"OpenCV gives no usable frame times for `{self._path.name}`",
                    hint="the reader `pyav` reads it",
                )
            self._times = times
        return list(self._times)

    def frames_at(
        self, seconds: Sequence[float], *, max_side: int | None = None, keyframes: bool = False
    ) -> Iterator[Frame]:
        if keyframes:
            raise self.key_frames_unsupported()
        return frames_on_screen(self.frame_times(), seconds, self._frame, max_side)

    def _frame(self, index: int) -> Images | None:
        if index <= self._place:
            self._start_over()
        while self._place < index - 1:
            if not self._capture.grab():
                return None
            beat()
            self._place += 1
        return self._grab_and_retrieve()

    def _grab_and_retrieve(self) -> Images | None:
        """Return the next frame as RGB with square pixels (OpenCV applies the rotation itself)."""
        read, bgr = self._capture.read()
        if not read:
            return None
        self._place += 1
        height, width = bgr.shape[:2]
        size = square_pixel_size(width, height, self._sample_aspect_ratio())
        if size != (width, height):
            bgr = self._cv2.resize(bgr, size, interpolation=self._cv2.INTER_LINEAR)
        return np.ascontiguousarray(bgr[..., ::-1])

    def _sample_aspect_ratio(self) -> float:
        """Return the sample aspect ratio after rotation; OpenCV reports it before."""
        above = self._capture.get(self._cv2.CAP_PROP_SAR_NUM)
        below = self._capture.get(self._cv2.CAP_PROP_SAR_DEN)
        if not above or not below:
            return 1.0
        turned = self._capture.get(self._cv2.CAP_PROP_ORIENTATION_META) % 180 == 90
        return float(below / above if turned else above / below)

    def _start_over(self) -> None:
        self.close()
        self._capture = self._cv2.VideoCapture(str(self._path), self._cv2.CAP_FFMPEG)
        self._place = -1
        if not self._capture.isOpened():
            raise ReaderError(
                f"OpenCV cannot open `{self._path.name}`", hint="the reader `pyav` reads most"
            )
        width = self._capture.get(self._cv2.CAP_PROP_FRAME_WIDTH)
        height = self._capture.get(self._cv2.CAP_PROP_FRAME_HEIGHT)
        check_frame_size(int(width), int(height), self._path.name)

    def _read_metadata(self, first: Images) -> VideoMetadata:
        rate = self._capture.get(self._cv2.CAP_PROP_FPS)
        code = int(self._capture.get(self._cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
        size = first.shape[1], first.shape[0]
        times = self._times = check_against_probe(
            self._witness, self.name, self._path.name, self.frame_times(), size
        )
        return VideoMetadata(
            width=first.shape[1],
            height=first.shape[0],
            duration_seconds=times[-1] + (1 / rate if rate > 0 else 0.0),
            num_frames=len(times),
            average_fps=rate if rate > 0 else None,
            codec=code.to_bytes(4, "little").decode("ascii", "replace").strip("\0 ").lower(),
            reader=self.name,
            name=self._path.name,
            first_pts_seconds=times[0],
            last_pts_seconds=times[-1],
        )


def _import_opencv() -> Any:
    if not os.environ.get("SMOLVIDEO_DEBUG"):
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    options = "|".join(f"{name};{value}" for name, value in OPTIONS.items())
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = options
    try:
        import cv2
    except ImportError as error:
        raise ReaderError(
            "the reader `opencv` is not installed", hint="pip install 'smolvideo[readers]'"
        ) from error
    return cv2
