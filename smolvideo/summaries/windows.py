"""Windows of a long video, cut at shot changes in one sequential decode.

Frames are sampled on one uniform grid over the video, ``frames`` per ``window_seconds``. Thumbnails
of the same frames detect shot changes; a window ends at a change near its planned length, whose
exact time a second reader finds. Memory holds about one and a half windows.

Two thumbnails differ by their mean absolute difference, 0 to 255 grey levels. A shot change is a
difference above ``MIN_DIFFERENCE`` and above ``MIN_RATIO`` times the median: a moving camera makes
all differences large, but none of them a cut.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from smolvideo.frames import SYNTHETIC_COMMENT, Frame, FrameBatch, Images, VideoMetadata
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.readers import VideoReader
from smolvideo.sampling import DamageCount
from smolvideo.sampling.options import subsample

Thumbnail = NDArray[np.float32]
"""``[16, 16, 3]``: small enough that grain and compression do not count."""

SIDE = 16
_SAMPLED_SIDE = 64
MIN_DIFFERENCE = 8.0
MIN_RATIO = 3.0
"""Tuned on reference clips and on rendered training scenes: fades and pans stay below, cuts
above."""
_FEW_CUTS = 2
_REFINE_STEPS = 17


def thumbnail(image: Images) -> Thumbnail:
    """Shrink a frame ``[H, W, 3]`` to block averages of every n-th pixel."""
    height, width = image.shape[:2]
    rows = np.arange(_SAMPLED_SIDE) * height // _SAMPLED_SIDE
    columns = np.arange(_SAMPLED_SIDE) * width // _SAMPLED_SIDE
    sampled = image[np.ix_(rows, columns)].astype(np.float32)
    block = _SAMPLED_SIDE // SIDE
    return np.asarray(sampled.reshape(SIDE, block, SIDE, block, 3).mean(axis=(1, 3)), np.float32)


def frame_difference(one: Thumbnail, other: Thumbnail) -> float:
    """Mean absolute difference in grey levels, 0 to 255."""
    return float(np.abs(one - other).mean())


def find_cut(differences: Sequence[float], first: int, last: int) -> int | None:
    """Return the index in ``[first, last)`` of the shot change to cut at, or None.

    ``differences[i]`` compares frame i with frame i - 1; their median is the usual difference.
    With up to ``_FEW_CUTS`` changes the first one is returned, as each begins a new scene; with
    more (a sequence of quick cuts) the strongest.
    """
    usual = float(np.median(differences)) if len(differences) else 0.0
    least = max(MIN_DIFFERENCE, MIN_RATIO * usual)
    changes = [place for place in range(first, last) if differences[place] >= least]
    if len(changes) <= _FEW_CUTS:
        return changes[0] if changes else None
    return max(changes, key=lambda place: differences[place])


def refine_cut(
    frames_at: Callable[[Sequence[float]], Sequence[Frame]], before: float, after: float
) -> float:
    """Return the time of the first frame after the shot change between two times.

    ``frames_at`` decodes the frames on screen at ascending times. Return ``after`` if the decoded
    frames show no change.
    """
    times = [
        before + (after - before) * step / (_REFINE_STEPS - 1) for step in range(_REFINE_STEPS)
    ]
    frames = frames_at(times)
    thumbnails = [thumbnail(frame.image) for frame in frames]
    changes = [frame_difference(one, other) for one, other in pairwise(thumbnails)]
    if not changes or max(changes) == 0:
        return after
    return frames[1 + changes.index(max(changes))].pts_seconds


MIN_WINDOW_FACTOR, MAX_WINDOW_FACTOR = 0.25, 1.4
"""Range of a window's length, relative to the planned one, in which it may end at a shot change."""


@dataclass(frozen=True)
class Window:
    """A time range of a video and its frames.

    ``batch`` presents the window as a separate video with times from 0, as models were trained on
    clips. ``frame_times`` are the same times relative to the whole video.
    """

    start_seconds: float
    end_seconds: float
    at_shot_change: bool
    batch: FrameBatch
    frame_times: tuple[float, ...]


def count_windows(duration_seconds: float, window_seconds: float) -> int:
    """Estimate the number of windows; cuts at shot changes add a few."""
    return max(1, round(duration_seconds / window_seconds))


def sampling_grid(metadata: VideoMetadata, window_seconds: float, frames: int) -> list[float]:
    """Return the times to decode, from the first frame to the last: ``frames`` per
    ``window_seconds``.
    """
    last = metadata.last_pts_seconds
    last = metadata.duration_seconds if last is None else last
    step = window_seconds / frames
    count = 1 + int(max(0.0, last - metadata.first_pts_seconds) / step + 1e-6)
    return [metadata.first_pts_seconds + place * step for place in range(count)]


@dataclass
class _FrameBuffer:
    """Decoded frames that are not assigned to a window yet."""

    times: list[float] = field(default_factory=list)
    images: list[Images] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)

    def add(self, time: float, image: Images, change: float) -> None:
        self.times.append(time)
        self.images.append(image)
        self.differences.append(change)

    def take(self, count: int) -> "_FrameBuffer":
        """Remove and return the first ``count`` frames."""
        taken = _FrameBuffer(self.times[:count], self.images[:count], self.differences[:count])
        del self.times[:count], self.images[:count], self.differences[:count]
        return taken


def stream_windows(
    reader: VideoReader,
    *,
    window_seconds: float,
    frames: int,
    fit: Callable[[Images], Images],
    geometry: str,
    look_closely: Callable[[Sequence[float]], Sequence[Frame]],
    at_shot_changes: bool = True,
    on_progress: OnProgress = no_progress,
) -> Iterator[Window]:
    """Yield the windows that partition an open video, in order.

    ``look_closely`` decodes frames at ascending times from a second reader, as ``reader`` only
    moves forward. A window has at most ``frames`` frames. The last one holds all warnings. Without
    ``at_shot_changes`` all windows but the last have the planned length.

    Raises ReaderError where fewer than half of the times have a frame that is not corrupt.
    """
    metadata = reader.metadata
    end = max(metadata.duration_seconds, metadata.last_pts_seconds or 0.0)
    times = sampling_grid(metadata, window_seconds, frames)
    cutter = _Cutter(
        window_seconds, frames, geometry, metadata, look_closely if at_shot_changes else None
    )
    damage, last = DamageCount(metadata.name, len(times)), None
    small: Thumbnail | None = None
    for read, frame in enumerate(reader.frames_at(times), start=1):
        on_progress(Progress("decode", read, len(times), metadata.name))
        damage.add(frame)
        if frame.pts_seconds == last:
            continue  # one frame is on screen at several of the times
        last = frame.pts_seconds
        before, small = small, thumbnail(frame.image)
        change = 0.0 if before is None else frame_difference(before, small)
        cutter.pending.add(frame.pts_seconds, fit(frame.image), change)
        if frame.pts_seconds > cutter.start + MAX_WINDOW_FACTOR * window_seconds:
            yield cutter.cut(end)
    damage.refuse_if_most()
    while cutter.pending.times:
        window = cutter.cut(end)
        if not cutter.pending.times:
            batch = replace(window.batch, warnings=tuple(damage.warnings()))
            window = replace(window, batch=batch)
        yield window


class _Cutter:
    """Cuts the pending frames into consecutive windows."""

    def __init__(
        self,
        window_seconds: float,
        frames: int,
        geometry: str,
        metadata: VideoMetadata,
        look_closely: Callable[[Sequence[float]], Sequence[Frame]] | None,
    ) -> None:
        self.pending = _FrameBuffer()
        self.start = 0.0
        self._length = window_seconds
        self._frames = frames
        self._geometry = geometry
        self._metadata = metadata
        self._look_closely = look_closely
        self._at_shot_change = False

    def cut(self, end_of_video: float) -> Window:
        """Cut the next window, at the shot change of ``find_cut`` or at the planned length."""
        times = self.pending.times
        rest = end_of_video - self.start
        shortest, longest = MIN_WINDOW_FACTOR * self._length, MAX_WINDOW_FACTOR * self._length
        first = bisect_left(times, self.start + shortest)
        last = bisect_right(times, min(self.start + longest, end_of_video - shortest))
        place = None
        if self._look_closely is not None:
            place = find_cut(self.pending.differences, max(first, 1), last)
        if place is not None:
            assert self._look_closely is not None
            end = refine_cut(self._look_closely, times[place - 1], times[place])
            return self._window(place, end, at_change=True)
        if rest <= longest:
            return self._window(len(times), end_of_video, at_change=False)
        end = self.start + self._length
        count = max(bisect_left(times, end), 1)
        return self._window(count, end, at_change=False)

    def _window(self, count: int, end: float, *, at_change: bool) -> Window:
        taken = self.pending.take(count)
        kept = subsample(range(len(taken.times)), self._frames)
        times = tuple(taken.times[place] for place in kept)
        images = np.stack([taken.images[place] for place in kept])
        batch = window_batch(images, times, self.start, end, self._metadata, self._geometry)
        window = Window(self.start, end, self._at_shot_change, batch, times)
        self.start, self._at_shot_change = end, at_change
        return window


def window_batch(
    images: Images,
    times: Sequence[float],
    start: float,
    end: float,
    metadata: VideoMetadata,
    geometry: str | None,
) -> FrameBatch:
    """Return the frames ``[N, H, W, 3]`` of a window as a video of its own, with times from 0.

    ``times`` are relative to the whole video, whose ``metadata`` is given.
    """
    # A frame that is on screen when the window begins gets the window's start as its time.
    own = tuple(round(max(0.0, time - start), 6) for time in times)
    own_metadata = replace(
        metadata.without_notices(),
        duration_seconds=max(end - start, own[-1]),
        num_frames=None,
        first_pts_seconds=own[0],
        last_pts_seconds=own[-1],
        # The comment of the whole names its length, which is not that of a window.
        comment=SYNTHETIC_COMMENT if metadata.is_synthetic else "",
    )
    return FrameBatch(images, own, own_metadata, geometry, num_requested=len(own))
