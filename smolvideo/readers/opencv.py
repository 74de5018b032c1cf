"""OpenCV reader, for comparison with programs that use OpenCV.

It decodes from the beginning, twice (once for the times), because OpenCV's seeking lands on wrong
frames. OpenCV does not report mirroring, interlacing or HDR, a second video stream, or frames after
a broken packet; files with these are refused by a check against PyAV (``probe.py``). RGB conversion
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
    VideoReader,
    check_frame_size,
    frames_on_screen,
    square_pixel_size,
)
from smolvideo.readers.external_references import OPTIONS, refuse_text
from smolvideo.readers.heartbeat import beat
from smolvideo.readers.probe import Probe, check_against_probe, refuse_unseen


class OpencvReader(VideoReader):
    """See :class:`~smolvideo.readers.base.VideoReader`.

    Raises:
        ReaderError: OpenCV is not installed, cannot open the file, or gives its frames no times.
    """

    name = "opencv"

    def __init__(self, path: Path, witness: Probe | None = None) -> None:
        self._path = path
        self._witness = witness
        refuse_text(path)
        refuse_unseen(witness, self.name, path.name)
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
