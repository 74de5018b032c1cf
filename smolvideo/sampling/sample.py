"""Frame sampling: choose time stamps by strategy, and decode the frames at them into a batch.

Choosing is arithmetic on times (:func:`sample_times` and the pure functions below it), except for
the strategies that scan the content; :func:`choose_times` and :func:`sample_frames` use a reader.

    uniform   max_frames times evenly spaced over the window, its first and its last frame included
    v1        SmolVLM's official script: one frame a second by whole-number rate, at most
              max_frames, where the script's own limit is 50
    smolvlm2  SmolVLM2's video processor: one frame a second by duration, and long videos without
              their first and last second; at most max_frames, where the processor's own limit is 64
    scenes    one or more frames per shot (scene_detection.py)
    changes   frames that differ from the one before, densest where most changes
              (scene_detection.py)
    keyframes the key frames (decodable without any other), thinned evenly
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from smolvideo.errors import ReaderError, UsageError
from smolvideo.frames import DamageCount, Frame, FrameBatch, Images, VideoMetadata
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.sampling.options import FrameSampling, RelativeTime, subsample
from smolvideo.sampling.scene_detection import (
    key_frames_within,
    scan_thumbnails,
    select_changes,
    select_scenes,
)

_OFFICIAL = ("v1", "smolvlm2")
_BY_CONTENT = ("scenes", "changes")

_FULL_INDEX_MAX_FRAMES = 5000
"""Frames up to which reading the times of all of them is cheap."""
_TIME_TOLERANCE = 1e-6
"""Seconds within which two times are equal: the rounding error of summed floats."""


class SeekableFrames(Protocol):
    """The reader interface that sampling requires; see ``smolvideo.readers.VideoReader``."""

    metadata: VideoMetadata

    def frame_times(self) -> list[float]: ...

    def key_frame_times(self) -> list[float]: ...

    def frames_at(
        self, seconds: Sequence[float], *, max_side: int | None = None, keyframes: bool = False
    ) -> Iterator[Frame]: ...


# ---------------------------------------------------------------------- choosing times


def v1_indices(num_frames: int, native_fps: float, max_frames: int = 50) -> list[int]:
    """Return frame indices as SmolVLM's inference script of 2024 does.

    Every ``int(native_fps)``-th frame is a candidate; of more than ``max_frames`` candidates,
    ``max_frames`` evenly spaced ones are taken, positions rounded down. Below one frame a second
    the script fails with a division of the range by 0; here every frame is a candidate then.
    """
    candidates = range(0, num_frames, max(1, int(native_fps)))
    if len(candidates) <= max_frames:
        return list(candidates)
    positions = np.linspace(0, len(candidates) - 1, max_frames, dtype=int)
    return [candidates[position] for position in positions]


def smolvlm2_indices(
    num_frames: int,
    native_fps: float,
    max_frames: int = 64,
    fps: float = 1.0,
    skip_seconds: float = 1.0,
) -> list[int]:
    """Return frame indices as ``SmolVLMVideoProcessor.sample_frames`` of transformers 5.23 does.

    ``round(fps × duration)`` frames, at most ``max_frames``, evenly spaced with positions rounded
    down and duplicates removed. Videos longer than ``max_frames × fps`` seconds (the processor's
    own product) are cut by ``skip_seconds`` at both ends.
    """
    if num_frames < 1:
        return []
    duration = num_frames / native_fps
    count = max(1, min(round(fps * duration), max_frames))
    start, end = 0, num_frames - 1
    if skip_seconds > 0 and duration - 2 * skip_seconds > max_frames * fps:
        start = int(skip_seconds * native_fps)
        end = min(int(num_frames - skip_seconds * native_fps), num_frames - 1)
    if start >= end:
        start, end = 0, num_frames - 1
    return [int(index) for index in np.unique(np.linspace(start, end, count, dtype=int))]


def sample_times(
    metadata: VideoMetadata,
    sampling: FrameSampling,
    frame_times: Sequence[float] | None = None,
) -> list[float]:
    """Return the times to sample, ascending, in seconds.

    ``frame_times`` are the presentation times of all frames. The official strategies require them;
    ``uniform`` uses them to take each frame exactly once if the window holds no more than
    ``max_frames``. :func:`choose_times` reads them only when they change the result.

    Raises:
        ReaderError: the window is empty or lies outside the video.
        ValueError: an official strategy without ``frame_times``, or a strategy that needs a reader.
    """
    start, end = resolve_window(metadata, sampling)
    if sampling.strategy in (*_BY_CONTENT, "keyframes"):
        raise ValueError(f"strategy `{sampling.strategy}` looks at the video: see choose_times")
    if sampling.strategy in _OFFICIAL:
        if frame_times is None:
            raise ValueError(f"strategy `{sampling.strategy}` needs the times of all frames")
        return _official_times(metadata, sampling, _on_screen(frame_times, start, end))
    if sampling.fps is not None:
        last = min(end, _last_frame(metadata))
        return _at_rate(max(start, metadata.first_pts_seconds), last, sampling)
    if frame_times is not None:
        frames = _on_screen(frame_times, start, end)
        if len(frames) <= sampling.max_frames:
            return frames
        return _linspace(frames[0], frames[-1], sampling.max_frames)
    first, last = max(start, metadata.first_pts_seconds), min(end, _last_frame(metadata))
    return _linspace(first, last, min(sampling.max_frames, _frames_between(metadata, first, last)))


def resolve_window(metadata: VideoMetadata, sampling: FrameSampling) -> tuple[float, float]:
    """Return ``(start, end)`` of the window in seconds, the end clipped to the end of the video.

    Raises:
        ReaderError: the window is empty, or begins after the end of the video.
        UsageError: a window was requested of a still image.
    """
    if metadata.kind == "image" and sampling.has_window:
        raise UsageError(still_image_warning(metadata), hint="leave `--start` and `--end` out")
    duration = max(metadata.duration_seconds, _last_frame(metadata))
    start = _seconds(sampling.start_seconds, duration, 0.0)
    end = _seconds(sampling.end_seconds, duration, duration)
    lasts = f"`{metadata.name or 'the video'}` lasts {_readable(duration)}"
    if sampling.start_seconds is not None and start >= duration > 0:
        raise ReaderError(f"nothing to see from {_readable(start)} on: {lasts}")
    if sampling.end_seconds is not None and start >= end:
        raise ReaderError(
            f"the window from {_readable(start)} to {_readable(end)} is empty: {lasts}",
            hint="the start must lie before the end",
        )
    return start, min(end, duration)


def still_image_warning(metadata: VideoMetadata) -> str:
    """Message for a request of a time window of a still image."""
    return f"`{metadata.name}` is a still picture: it has no time to start or end at"


def _seconds(time: float | RelativeTime | None, duration: float, default: float) -> float:
    if time is None:
        return default
    return time.fraction * duration if isinstance(time, RelativeTime) else time


def _readable(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + " s"


def _last_frame(metadata: VideoMetadata) -> float:
    """Return when the last frame appears; if unknown, one frame duration before the end."""
    if metadata.last_pts_seconds is not None:
        return metadata.last_pts_seconds
    if metadata.average_fps:
        return max(0.0, metadata.duration_seconds - 1 / metadata.average_fps)
    return metadata.duration_seconds


def _on_screen(frame_times: Sequence[float], start: float, end: float) -> list[float]:
    """Return when frames appear in the window: ``start`` for the one already on screen then, and
    the presentation times of all that follow."""
    index = max(0, bisect_right(frame_times, start + _TIME_TOLERANCE) - 1)
    inside = [time for time in frame_times[index:] if time <= end + _TIME_TOLERANCE]
    return [max(start, time) for time in inside or frame_times[index : index + 1]]


def _frames_between(metadata: VideoMetadata, first: float, last: float) -> int:
    """Estimate the number of frames from the rate: at least 1, 2**31 if the rate is unknown."""
    if last - first <= _TIME_TOLERANCE:
        return 1
    if not metadata.average_fps:
        return 2**31
    return 1 + math.ceil((last - first) * metadata.average_fps - 0.01)


def _linspace(first: float, last: float, count: int) -> list[float]:
    """Return ``count`` evenly spaced times from ``first`` to ``last`` inclusive; the middle if
    ``count`` is 1."""
    if last - first <= _TIME_TOLERANCE:
        return [first]
    if count == 1:
        return [(first + last) / 2]
    return [first + (last - first) * step / (count - 1) for step in range(count)]


def _at_rate(first: float, last: float, sampling: FrameSampling) -> list[float]:
    """Return one time each ``1 / fps`` seconds, thinned evenly to ``max_frames``."""
    assert sampling.fps is not None
    count = 1 + max(0, math.floor((last - first) * sampling.fps + _TIME_TOLERANCE))
    steps = [0] if sampling.max_frames == 1 else subsample(range(count), sampling.max_frames)
    return [first + step / sampling.fps for step in steps]


def _official_times(
    metadata: VideoMetadata, sampling: FrameSampling, frames: Sequence[float]
) -> list[float]:
    """Return the times of the frames whose indices an official strategy chooses."""
    rate = metadata.average_fps or _rate(frames)
    if sampling.strategy == "v1":
        indices = v1_indices(len(frames), rate, sampling.max_frames)
    else:
        indices = smolvlm2_indices(len(frames), rate, sampling.max_frames, sampling.fps or 1.0)
    return [frames[index] for index in indices]


def _rate(frames: Sequence[float]) -> float:
    if len(frames) < 2 or frames[-1] <= frames[0]:
        return 1.0
    return (len(frames) - 1) / (frames[-1] - frames[0])


# ---------------------------------------------------------------------- decoding


def choose_times(reader: SeekableFrames, sampling: FrameSampling) -> list[float]:
    """Run the sampling strategy on an open reader and return the chosen times in seconds.

    Frame times are read for the official strategies, which count frames, and for ``uniform`` if
    there are few frames; of a long video all packets would have to be read, so the average rate is
    used instead.
    """
    metadata = reader.metadata
    if sampling.strategy in _OFFICIAL:
        return sample_times(metadata, sampling, reader.frame_times())
    if sampling.strategy != "uniform":
        return _by_looking(reader, sampling)
    start, end = resolve_window(metadata, sampling)
    first, last = max(start, metadata.first_pts_seconds), min(end, _last_frame(metadata))
    few = _frames_between(metadata, first, last) <= 2 * sampling.max_frames
    short = _frames_between(metadata, 0.0, _last_frame(metadata)) <= _FULL_INDEX_MAX_FRAMES
    return sample_times(metadata, sampling, reader.frame_times() if few and short else None)


def _by_looking(reader: SeekableFrames, sampling: FrameSampling) -> list[float]:
    """Return the times of the strategies that read key frames or thumbnails."""
    start, end = resolve_window(reader.metadata, sampling)
    if sampling.strategy == "keyframes":
        keys = key_frames_within(reader.key_frame_times(), start, end)
        return subsample(keys, sampling.max_frames)
    first = max(start, reader.metadata.first_pts_seconds)
    thumbnails = scan_thumbnails(reader, first, max(first, min(end, _last_frame(reader.metadata))))
    choose = select_scenes if sampling.strategy == "scenes" else select_changes
    return list(choose(thumbnails, sampling.max_frames).times)


def _explained(reader: SeekableFrames, sampling: FrameSampling, taken: int) -> tuple[int, str]:
    """Return how many more frames ``uniform`` would have taken, and the selection note.

    ``(0, "")`` for strategies that do not scan the content.
    """
    if sampling.strategy not in _BY_CONTENT:
        return 0, ""
    start, end = resolve_window(reader.metadata, sampling)
    first = max(start, reader.metadata.first_pts_seconds)
    last = max(first, min(end, _last_frame(reader.metadata)))
    choose = select_scenes if sampling.strategy == "scenes" else select_changes
    note = choose(scan_thumbnails(reader, first, last), sampling.max_frames).note
    even = min(sampling.max_frames, _frames_between(reader.metadata, first, last))
    dropped = max(0, even - taken)
    if dropped:
        note += f"; {dropped} of {even} frames dropped, as they show nothing else"
    return dropped, f"`{reader.metadata.name}`: {note}"


def sample_frames(
    reader: SeekableFrames,
    sampling: FrameSampling,
    *,
    times: Sequence[float] | None = None,
    transform: Callable[[Images], Images] | None = None,
    geometry: str | None = None,
    max_side: int | None = None,
    on_progress: OnProgress = no_progress,
) -> FrameBatch:
    """Decode the chosen frames, or the frames on screen at ``times``, into one batch.

    ``max_side`` (pixels) makes the decoder scale down larger frames. ``transform`` (``[H, W, 3]``
    to one size for all) is applied to each frame as it is decoded, so that at most one frame of
    full size is in memory. A frame on screen at several of the times is stored once.

    Raises:
        ReaderError: fewer than half of the times have a frame that is not corrupt, or the images do
            not fit into memory.
        ValueError: ``times`` is empty or holds a value that is not finite.
    """
    wanted = choose_times(reader, sampling) if times is None else sorted(times)
    if not wanted or not all(map(math.isfinite, wanted)):
        raise ValueError(f"times must be one or more finite numbers of seconds, not {times}")
    name = reader.metadata.name
    on_progress(Progress("decode", 0, len(wanted), name))
    images: Images | None = None
    shown_at: list[float] = []
    # Decode one frame per requested time; repeated frames are counted but stored once.
    damage, off = DamageCount(name, len(wanted)), 0.0
    frames = reader.frames_at(wanted, max_side=max_side, keyframes=sampling.seek == "keyframes")
    for answered, frame in enumerate(frames, start=1):
        damage.add(frame)
        off = max(off, wanted[answered - 1] - frame.pts_seconds)
        if not shown_at or frame.pts_seconds != shown_at[-1]:
            image = frame.image if transform is None else transform(frame.image)
            if images is None:
                images = _room_for(len(wanted), image, name)
            images[len(shown_at)] = image
            shown_at.append(frame.pts_seconds)
        on_progress(Progress("decode", answered, len(wanted), name))
    # Corruption, warnings, and the note of the strategy.
    damage.refuse_if_most()
    assert images is not None
    warnings = [*reader.metadata.notices, *damage.warnings()]
    if sampling.seek == "keyframes":
        warnings.append(f"a quick look: the key frames of `{name}`, up to {off:.1f} s too early")
    dropped, explanation = _explained(reader, sampling, len(shown_at))
    return FrameBatch(
        images=images[: len(shown_at)],
        pts_seconds=tuple(shown_at),
        metadata=reader.metadata,
        geometry=geometry,
        num_requested=len(wanted),
        num_dropped=dropped,
        selection_note=explanation,
        warnings=tuple(warnings),
    )


def _room_for(count: int, image: Images, name: str) -> Images:
    try:
        return np.empty((count, *image.shape), dtype=np.uint8)
    except MemoryError as error:
        height, width = image.shape[:2]
        raise ReaderError(
            f"{count} frames of `{name}` at {width} x {height} pixels are more than memory holds",
            hint="ask for fewer frames (`--max-frames`)",
        ) from error
