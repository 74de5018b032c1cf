"""Shot detection by differences of frame thumbnails.

The measure is the mean absolute difference of two thumbnails, 0 to 255 grey levels. A shot change
is a difference above ``MIN_DIFFERENCE`` and above ``MIN_RATIO`` times the median: a moving camera
makes all differences large, but none of them a cut.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from smolvideo.frames import Frame, Images

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
