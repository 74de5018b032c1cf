"""Reader for recordings with clock discontinuities: plays their parts on one continuous clock.

Each part is a byte range with its own clock, and possibly its own streams. It is opened as a file
of its own, because seeking by time is unreliable across a discontinuity.
"""

import contextlib
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np

from smolvideo.errors import ReaderError
from smolvideo.frames import Frame, Images, SubtitleEvent, VideoMetadata
from smolvideo.readers.base import Probe, VideoReader, require_ascending, size_within
from smolvideo.readers.discontinuities import Part, discontinuities, follow
from smolvideo.readers.pyav import PyavReader

_MAX_OPEN = 2
"""Parts that are open at the same time; each has a decoder."""
_NEAR = 0.0005
"""Seconds of tolerance for the rounding of computed times."""


class JoinedReader(VideoReader):
    """See :class:`~smolvideo.readers.base.VideoReader`; ``parts`` are those of the file, in order.

    All frames have the size of the first part's; those of another aspect get black borders.

    Raises:
        ReaderError: no part can be opened.
    """

    name = "pyav"

    def __init__(self, path: Path, parts: Sequence[Part]) -> None:
        self._path = path
        self._parts = list(parts)
        self._open: dict[int, PyavReader] = {}
        try:
            first = self._first_that_opens()
            self._starts = [part.starts_at or 0.0 for part in self._parts]
            self.metadata = self._read_metadata(first)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def frame_times(self) -> list[float]:
        return self._times(lambda reader: reader.frame_times())

    def key_frame_times(self) -> list[float]:
        return self._times(lambda reader: reader.key_frame_times())

    def _times(self, read: Callable[[PyavReader], list[float]]) -> list[float]:
        """Return times of all parts, each cut where the next part begins."""
        ends = [*self._starts[1:], math.inf]
        return [
            time
            for index, reader in self._readers()
            for time in read(reader)
            if time < ends[index] - _NEAR
        ]

    def text_track(self) -> list[SubtitleEvent]:
        return [text for _, reader in self._readers() for text in reader.text_track()]

    def probe(self) -> Probe:
        """Return a reference that the other readers cannot meet, as they do not support parts."""
        known = self.metadata
        return Probe("clocks that restart or jump", known.width, known.height, ())

    def frames_at(
        self, seconds: Sequence[float], *, max_side: int | None = None, keyframes: bool = False
    ) -> Iterator[Frame]:
        size = size_within(self.metadata.width, self.metadata.height, max_side)
        for index, times in groupby(require_ascending(seconds), self._place):
            with contextlib.suppress(ReaderError):  # a lost frame yields nothing
                reader = self._reader(index)
                last: Frame | None = None
                shown: Frame | None = None
                for frame in reader.frames_at([*times], max_side=max_side, keyframes=keyframes):
                    if shown is None or frame is not last:
                        last, shown = frame, replace(frame, image=framed(frame.image, *size))
                    yield shown

    def _place(self, time: float) -> int:
        return max(0, bisect_right(self._starts, time + _NEAR) - 1)

    # ------------------------------------------------------------------ parts

    def _first_that_opens(self) -> int:
        """Put all parts on the continued clock; return the first one that can be opened."""
        failed: ReaderError | None = None
        for index, part in enumerate(self._parts):
            try:
                reader = self._reader(index)
            except ReaderError as error:
                failed = failed or error
                self._parts = follow(self._parts, 0.0)
                continue
            if not index:
                self._parts = follow(self._parts, reader.seconds_of(part))
            return index
        assert failed is not None
        raise failed

    def _reader(self, index: int) -> PyavReader:
        reader = self._open.pop(index, None)
        if reader is None:
            while len(self._open) >= _MAX_OPEN:
                self._open.pop(next(iter(self._open))).close()
            followed = index + 1 < len(self._parts)
            reader = PyavReader(self._path, self._parts[index], joined=True, followed=followed)
        self._open[index] = reader
        return reader

    def _readers(self) -> Iterator[tuple[int, PyavReader]]:
        for index in range(len(self._parts)):
            with contextlib.suppress(ReaderError):
                yield index, self._reader(index)

    def _read_metadata(self, index: int) -> VideoMetadata:
        first = self._reader(index).metadata
        part = self._parts[-1]
        assert part.starts_at is not None
        last = part.starts_at + part.last - part.first
        duration = last + part.frame_seconds
        # The end is that of the last part, if it can be opened.
        truncated, unread = False, 0
        with contextlib.suppress(ReaderError):
            of_last = self._reader(len(self._parts) - 1).metadata
            last, duration = of_last.last_pts_seconds or last, of_last.duration_seconds
            truncated, unread = of_last.truncated, of_last.unread_bytes
        # What the first part says of itself is said of the file only if all parts say so.
        comment = first.comment
        if comment and any(one.metadata.comment != comment for _, one in self._readers()):
            comment = ""
        # The average rate, over all parts.
        frames = sum(part.num_frames for part in self._parts)
        lasting = sum(part.num_frames * part.frame_seconds for part in self._parts)
        return replace(
            first,
            duration_seconds=duration,
            num_frames=None,
            comment=comment,
            average_fps=frames / lasting if lasting > 0 else first.average_fps,
            last_pts_seconds=last,
            discontinuities=discontinuities(self._parts),
            missing_seconds=self._missing(index, duration),
            gaps_seconds=tuple(
                gap for part in self._parts for gap in part.gaps_from(part.starts_at or 0.0)
            ),
            cut_seconds=tuple(
                round((part.starts_at or 0.0) + part.seconds, 6)
                for part in self._parts[:-1]
                if part.breaks_off
            ),
            truncated=truncated,
            unread_bytes=unread,
        )

    def _missing(self, first: int, end: float) -> tuple[float, ...]:
        """Return when unreadable parts would begin; ``first`` is the index of the first readable
        one."""
        found: list[float] = []
        for index, part in enumerate(self._parts):
            if part.lost_before or index < first or (index > first and self._is_empty(index)):
                found.append(round(part.starts_at or 0.0, 6))
            if part.lost_after:
                found.append(round(end, 6))
        return tuple(found)

    def _is_empty(self, index: int) -> bool:
        """Return whether a part of another format than the one before it has no frames, although
        it has packets."""
        if self._parts[index].byte_range.demuxer == self._parts[index - 1].byte_range.demuxer:
            return False
        try:
            self._reader(index)
        except ReaderError:
            return True
        return False


def framed(image: Images, width: int, height: int) -> Images:
    """Letterbox an image into ``width`` by ``height`` pixels on black."""
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image

    scale = min(width / image.shape[1], height / image.shape[0])
    inner = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    scaled = np.asarray(Image.fromarray(image).resize(inner, Image.Resampling.BILINEAR))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    whole = np.zeros((height, width, 3), dtype=np.uint8)
    whole[top : top + inner[1], left : left + inner[0]] = scaled
    return whole
