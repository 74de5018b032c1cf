"""Sampling options, the parser for times as users write them, and even subsampling."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, get_args

from smolvideo.errors import UsageError

Item = TypeVar("Item")


def subsample(items: Sequence[Item], max_count: int) -> list[Item]:
    """Return at most ``max_count`` of ``items``, evenly spaced, including the first and the last.

    The middle one if ``max_count`` is 1.

    >>> subsample(range(50), 5), subsample(range(3), 8), subsample(range(9), 1)
    ([0, 12, 24, 37, 49], [0, 1, 2], [4])
    """
    if len(items) <= max_count:
        return list(items)
    if max_count == 1:
        return [items[len(items) // 2]]
    last = len(items) - 1
    return [items[round(step * last / (max_count - 1))] for step in range(max_count)]


Strategy = Literal["uniform", "v1", "smolvlm2", "scenes", "changes", "keyframes"]

Seek = Literal["exact", "keyframes"]
"""``exact``: the frame on screen at a time. ``keyframes``: the key frame before it, which is
fast."""


@dataclass(frozen=True)
class RelativeTime:
    """A time as a fraction of the duration, 0 to 1: ``RelativeTime(0.5)`` is the middle."""

    fraction: float

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"a share of the video lies between 0% and 100%, not {self}")

    def __str__(self) -> str:
        return f"{100 * self.fraction:g}%"


@dataclass(frozen=True)
class FrameSampling:
    """Options of frame sampling.

    ``fps`` is the sampling rate: one frame each ``1 / fps`` seconds from the start of the window,
    thinned evenly if that gives more than ``max_frames``. The strategy ``smolvlm2`` uses it in its
    own formula (1 where None); ``v1`` rejects it. ``start_seconds`` and ``end_seconds`` bound the
    window; None is the beginning or the end. ``seek`` is ``exact``, or ``keyframes`` for the key
    frames before the times. ``reduce_to_fit`` allows fewer frames than ``max_frames`` if the
    model's context is too small; it is False once the user has set a number explicitly.

    Raises UsageError for invalid values and combinations.
    """

    max_frames: int = 50
    fps: float | None = None
    start_seconds: float | RelativeTime | None = None
    end_seconds: float | RelativeTime | None = None
    strategy: Strategy = "uniform"
    seek: Seek = "exact"
    reduce_to_fit: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.max_frames, int) or self.max_frames < 1:
            raise UsageError(f"max_frames must be a whole number above 0, not {self.max_frames!r}")
        if self.fps is not None and not (_is_finite(self.fps) and self.fps > 0):
            raise UsageError(f"fps must be a number above 0, not {self.fps!r}")
        for name in ("start_seconds", "end_seconds"):
            time = getattr(self, name)
            if not (time is None or isinstance(time, RelativeTime) or _is_finite(time)):
                raise UsageError(f"{name} must be a number of seconds or a Share, not {time!r}")
        if self.strategy not in get_args(Strategy):
            raise UsageError(f"unknown strategy `{self.strategy}`: {', '.join(get_args(Strategy))}")
        if self.seek not in get_args(Seek):
            raise UsageError(f"unknown seek `{self.seek}`: {', '.join(get_args(Seek))}")
        if self.fps is not None and self.strategy not in ("uniform", "smolvlm2"):
            raise UsageError(
                f"strategy `{self.strategy}` chooses its own times; it cannot be combined with fps"
            )

    @property
    def has_window(self) -> bool:
        """Whether a time window is set; a still image has none."""
        return self.start_seconds is not None or self.end_seconds is not None

    def without_window(self) -> "FrameSampling":
        """Return a copy for the whole video."""
        return replace(self, start_seconds=None, end_seconds=None)


def _is_finite(number: object) -> bool:
    return isinstance(number, int | float) and math.isfinite(number)


_NUMBER = r"(\d{1,9}(?:\.\d*)?|\.\d+)"
_SECONDS = re.compile(_NUMBER + r"\s*s?", re.ASCII)
_PERCENT = re.compile(_NUMBER + r"\s*%", re.ASCII)
_CLOCK = re.compile(
    r"(?:(?P<hours>\d{1,5}):)?(?P<minutes>\d{1,7}):(?P<seconds>\d{1,2}(?:\.\d*)?)", re.ASCII
)


def parse_time(text: str) -> float | RelativeTime:
    """Parse a time as users type it: seconds, or a fraction of the duration.

    >>> [parse_time(text) for text in ("90", "90s", "1:30", "0:01:30.5", "50%")]
    [90.0, 90.0, 90.0, 90.5, RelativeTime(fraction=0.5)]

    Raises:
        ValueError: with a message for the user.
    """
    given = text.strip()
    if match := _SECONDS.fullmatch(given):
        return float(match[1])
    if match := _PERCENT.fullmatch(given):
        return RelativeTime(float(match[1]) / 100)
    if match := _CLOCK.fullmatch(given):
        hours, minutes, seconds = match["hours"], int(match["minutes"]), float(match["seconds"])
        if seconds < 60 and (hours is None or minutes < 60):
            return int(hours or 0) * 3600 + minutes * 60 + seconds
    raise ValueError(
        f"`{text}` is no time: write seconds (90), a clock (1:30, 0:01:30.5) or a share (50%)"
    )
