"""Strategies that look before they choose: small grey pictures of the whole window first.

Windows of up to two minutes are looked at four times a second. Of longer ones the key frames are
looked at, which encoders place at shot changes and every few seconds, and which cost next to
nothing to decode; where there are hardly any, evenly spaced frames stand in.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from smolvideo.errors import UsageError
from smolvideo.sampling.subsample import subsample

_SCAN_FPS = 4
_SHORT_WINDOW = 120.0
_MAX_THUMBNAILS = 480
_FEW_KEY_FRAMES = 24
_MAX_SIDE = 64
_BLOCK = 8
"""Pixels of a look: what moves in a corner must count, however still the rest is."""

_CHANGE_THRESHOLD = 6.0
"""Grey levels by which the most changed block of two looks may differ while they show the same:
noise and compression stay below, a thing that comes, goes or moves does not."""
_CUT_THRESHOLD = 14.0
_CUT_OVER_NEIGHBOURS = 2.5
"""A shot change alters the mean pixel by so many levels, and by so many times more than motion
does beside it (as PySceneDetect's adaptive detector, with its own measure)."""
_NEIGHBOURS = 3


@dataclass(frozen=True)
class Thumbnails:
    """``pictures`` uint8 ``[N, h, w]``, grey, and when they appear."""

    times: tuple[float, ...]
    pictures: NDArray[np.uint8]


@dataclass(frozen=True)
class Selection:
    """Ascending times, and what to say about how they came about."""

    times: tuple[float, ...]
    note: str


_looks: "WeakKeyDictionary[Any, dict[tuple[float, float], Thumbnails]]" = WeakKeyDictionary()


def scan_thumbnails(reader: Any, start: float, end: float) -> Thumbnails:
    """Looks at a window of an open reader; kept as long as the reader is."""
    kept = _looks.setdefault(reader, {})
    if (start, end) not in kept:
        frames = list(reader.frames_at(_look_times(reader, start, end), max_side=_MAX_SIDE))
        first = {frame.pts_seconds: frame for frame in reversed(frames)}
        times = sorted(first)
        pictures = np.stack([first[time].image.mean(axis=2).astype(np.uint8) for time in times])
        kept[start, end] = Thumbnails(tuple(times), pictures)
    return kept[start, end]


def _look_times(reader: Any, start: float, end: float) -> list[float]:
    if end - start <= _SHORT_WINDOW:
        count = 1 + int((end - start) * _SCAN_FPS)
        return [float(time) for time in np.linspace(start, end, max(count, 2))]
    try:
        keys = [time for time in reader.key_frame_times() if start <= time <= end]
    except UsageError:  # the reader does not know them
        keys = []
    if len(keys) < _FEW_KEY_FRAMES:
        return [float(time) for time in np.linspace(start, end, _MAX_THUMBNAILS // 2)]
    return subsample(keys, _MAX_THUMBNAILS)


# ---------------------------------------------------------------------- changes


def select_changes(looks: Thumbnails, max_frames: int) -> Selection:
    """The first look, and each that differs from the last one taken; of too many, evenly many.

    So the frames crowd where the picture changes.
    """
    taken = subsample(_different(looks, _CHANGE_THRESHOLD), max_frames)
    times = tuple(looks.times[place] for place in taken)
    return Selection(times, f"of {len(looks.times)} looks {len(times)} differ enough to be shown")


def _different(looks: Thumbnails, levels: float) -> list[int]:
    blocks = _blocks(looks.pictures)
    taken = [0]
    for place in range(1, len(blocks)):
        if np.abs(blocks[place] - blocks[taken[-1]]).mean(axis=(-3, -1)).max() > levels:
            taken.append(place)
    return taken


def _blocks(pictures: NDArray[np.uint8]) -> NDArray[np.int16]:
    """``[N, rows, _BLOCK, columns, _BLOCK]``, the edges that do not fill a block cut off."""
    count, height, width = pictures.shape
    side = min(_BLOCK, height, width)
    rows, columns = height // side, width // side
    whole = pictures[:, : rows * side, : columns * side].astype(np.int16)
    return whole.reshape(count, rows, side, columns, side)


# ---------------------------------------------------------------------- scenes


def select_scenes(looks: Thumbnails, max_frames: int) -> Selection:
    """One frame of every shot, and more of long ones in which something changes."""
    shots = detect_shots(looks)
    found = len(shots)
    if found > max_frames:
        shots = subsample(shots, max_frames)
    counts = [1] * len(shots)
    most = [_worth(looks, shot) for shot in shots]
    lengths = [looks.times[last] - looks.times[first] for first, last in shots]
    for _ in range(max_frames - len(shots)):
        open_ = [place for place in range(len(shots)) if counts[place] < most[place]]
        if not open_:
            break
        counts[max(open_, key=lambda place: lengths[place] / counts[place])] += 1
    times = [
        looks.times[first] + (looks.times[last] - looks.times[first]) * (step + 0.5) / count
        for (first, last), count in zip(shots, counts, strict=True)
        for step in range(count)
    ]
    shown = f"{len(shots)} of {found}" if len(shots) < found else str(found)
    return Selection(tuple(times), f"{shown} {'shot' if shown == '1' else 'shots'} shown")


def detect_shots(looks: Thumbnails) -> list[tuple[int, int]]:
    """(first look, last look) of each shot, in order."""
    pictures = looks.pictures.astype(np.int16)
    changes = np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2))
    begins = [0]
    for place, change in enumerate(changes):
        beside = [
            *changes[max(0, place - _NEIGHBOURS) : place],
            *changes[place + 1 : place + 1 + _NEIGHBOURS],
        ]
        usual = float(np.median(beside)) if beside else 0.0
        if change > _CUT_THRESHOLD and change > _CUT_OVER_NEIGHBOURS * usual:
            begins.append(place + 1)
    ends = [begin - 1 for begin in begins[1:]] + [len(looks.times) - 1]
    return list(zip(begins, ends, strict=True))


def _worth(looks: Thumbnails, shot: tuple[int, int]) -> int:
    """How many frames of a shot show something that the others do not."""
    first, last = shot
    return len(_different(Thumbnails((), looks.pictures[first : last + 1]), _CHANGE_THRESHOLD))


def key_frames_within(keys: Sequence[float], start: float, end: float) -> list[float]:
    """The key frames of a window; the last one before it where it holds none."""
    inside = [time for time in keys if start <= time <= end]
    before = max(0, bisect_left(keys, start) - 1)
    return inside or list(keys[before : before + 1])
