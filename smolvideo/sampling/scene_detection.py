"""Shot and change detection on small grey thumbnails of the whole window, for ``scene``-like
sampling strategies.

Windows of up to two minutes are scanned at four thumbnails per second. Longer windows are scanned
at their key frames, which encoders place at shot changes and every few seconds and which cost
almost nothing to decode; if there are too few of them, at evenly spaced frames.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from smolvideo.errors import UsageError
from smolvideo.sampling.options import subsample

_SCAN_FPS = 4
_SHORT_WINDOW = 120.0
"""Seconds up to which a window is scanned at a fixed rate."""
_MAX_THUMBNAILS = 480
_FEW_KEY_FRAMES = 24
_MAX_SIDE = 64
_BLOCK = 8
"""Side of a block in thumbnail pixels. The change measure is the maximum over blocks, so that
motion in one corner of a still image counts."""

_CHANGE_THRESHOLD = 6.0
"""Mean difference (grey levels) of the most changed block up to which two thumbnails count as
equal: noise and compression stay below, an object that appears, disappears or moves does not."""
_CUT_THRESHOLD = 14.0
_CUT_OVER_NEIGHBOURS = 2.5
"""A cut changes the mean pixel by at least ``_CUT_THRESHOLD`` grey levels, and by this factor more
than the median change of the ``_NEIGHBOURS`` neighbours on each side (the idea of PySceneDetect's
adaptive detector, with a different measure)."""
_NEIGHBOURS = 3


@dataclass(frozen=True)
class Thumbnails:
    """Scanned frames: presentation ``times`` in seconds and ``pictures``, grey uint8
    ``[N, h, w]``."""

    times: tuple[float, ...]
    pictures: NDArray[np.uint8]


@dataclass(frozen=True)
class Selection:
    """Selected times in seconds, ascending, and a note on how they were selected."""

    times: tuple[float, ...]
    note: str


_looks: "WeakKeyDictionary[Any, dict[tuple[float, float], Thumbnails]]" = WeakKeyDictionary()


def scan_thumbnails(reader: Any, start: float, end: float) -> Thumbnails:
    """Return the thumbnails of a window, cached for as long as ``reader`` lives."""
    cached = _looks.setdefault(reader, {})
    if (start, end) not in cached:
        frames = list(reader.frames_at(_look_times(reader, start, end), max_side=_MAX_SIDE))
        first = {frame.pts_seconds: frame for frame in reversed(frames)}
        times = sorted(first)
        pictures = np.stack([first[time].image.mean(axis=2).astype(np.uint8) for time in times])
        cached[start, end] = Thumbnails(tuple(times), pictures)
    return cached[start, end]


def _look_times(reader: Any, start: float, end: float) -> list[float]:
    if end - start <= _SHORT_WINDOW:
        count = 1 + int((end - start) * _SCAN_FPS)
        return [float(time) for time in np.linspace(start, end, max(count, 2))]
    try:
        keys = [time for time in reader.key_frame_times() if start <= time <= end]
    except UsageError:  # this reader has no index of key frames
        keys = []
    if len(keys) < _FEW_KEY_FRAMES:
        return [float(time) for time in np.linspace(start, end, _MAX_THUMBNAILS // 2)]
    return subsample(keys, _MAX_THUMBNAILS)


# ---------------------------------------------------------------------- changes


def select_changes(looks: Thumbnails, max_frames: int) -> Selection:
    """Select the first thumbnail, and each that differs from the last one selected.

    The selected frames are denser where the image changes. If there are more than ``max_frames``,
    an even subsample of them is returned.
    """
    taken = subsample(_different(looks, _CHANGE_THRESHOLD), max_frames)
    times = tuple(looks.times[place] for place in taken)
    return Selection(times, f"of {len(looks.times)} looks {len(times)} differ enough to be shown")


def _different(thumbnails: Thumbnails, threshold: float) -> list[int]:
    blocks = _blocks(thumbnails.pictures)
    taken = [0]
    for index in range(1, len(blocks)):
        if np.abs(blocks[index] - blocks[taken[-1]]).mean(axis=(-3, -1)).max() > threshold:
            taken.append(index)
    return taken


def _blocks(pictures: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Reshape to ``[N, rows, _BLOCK, columns, _BLOCK]``, cropping incomplete blocks at the
    edges."""
    count, height, width = pictures.shape
    side = min(_BLOCK, height, width)
    rows, columns = height // side, width // side
    whole = pictures[:, : rows * side, : columns * side].astype(np.int16)
    return whole.reshape(count, rows, side, columns, side)


# ---------------------------------------------------------------------- scenes


def select_scenes(looks: Thumbnails, max_frames: int) -> Selection:
    """Select one frame per shot; the remaining budget goes to long shots in which something
    changes."""
    shots = detect_shots(looks)
    found = len(shots)
    if found > max_frames:
        shots = subsample(shots, max_frames)
    # Give each further frame to the shot with the longest interval per frame that still has
    # changes.
    counts = [1] * len(shots)
    max_counts = [_worth(looks, shot) for shot in shots]
    lengths = [looks.times[last] - looks.times[first] for first, last in shots]
    for _ in range(max_frames - len(shots)):
        open_ = [index for index in range(len(shots)) if counts[index] < max_counts[index]]
        if not open_:
            break
        counts[max(open_, key=lambda index: lengths[index] / counts[index])] += 1
    # Place the frames of a shot at the middles of equal intervals.
    times = [
        looks.times[first] + (looks.times[last] - looks.times[first]) * (step + 0.5) / count
        for (first, last), count in zip(shots, counts, strict=True)
        for step in range(count)
    ]
    shown = f"{len(shots)} of {found}" if len(shots) < found else str(found)
    return Selection(tuple(times), f"{shown} {'shot' if shown == '1' else 'shots'} shown")


def detect_shots(looks: Thumbnails) -> list[tuple[int, int]]:
    """Return the (first, last) thumbnail index of each shot, in order."""
    pictures = looks.pictures.astype(np.int16)
    changes = np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2))
    begins = [0]
    for index, change in enumerate(changes):
        neighbours = [
            *changes[max(0, index - _NEIGHBOURS) : index],
            *changes[index + 1 : index + 1 + _NEIGHBOURS],
        ]
        typical = float(np.median(neighbours)) if neighbours else 0.0
        if change > _CUT_THRESHOLD and change > _CUT_OVER_NEIGHBOURS * typical:
            begins.append(index + 1)
    ends = [begin - 1 for begin in begins[1:]] + [len(looks.times) - 1]
    return list(zip(begins, ends, strict=True))


def _worth(thumbnails: Thumbnails, shot: tuple[int, int]) -> int:
    """Return the number of mutually different frames of a shot: an upper bound for its frames."""
    first, last = shot
    return len(_different(Thumbnails((), thumbnails.pictures[first : last + 1]), _CHANGE_THRESHOLD))


def key_frames_within(keys: Sequence[float], start: float, end: float) -> list[float]:
    """Return the key frames of a window, or the last one before it if it contains none."""
    inside = [time for time in keys if start <= time <= end]
    before = max(0, bisect_left(keys, start) - 1)
    return inside or list(keys[before : before + 1])
