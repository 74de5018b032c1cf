"""Find timestamps in answers, and the frame nearest to one."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

_CLOCK = re.compile(
    r"(?<![\d:.])(?:(?P<hours>\d{1,2}):)?(?P<minutes>\d{1,3}):(?P<seconds>[0-5]\d)"
    r"(?P<tenths>\.\d)?(?![\d:])"
)
_SLACK_SECONDS = 1.0
"""Clocks are rounded: an answer may name the second after the last frame."""


@dataclass(frozen=True)
class TimestampSpan:
    """A time in a text: ``text[start:end]`` reads as ``seconds``."""

    start: int
    end: int
    seconds: float


def find_timestamps(text: str, duration_seconds: float) -> list[TimestampSpan]:
    """Return the timestamps in ``text`` within a video of this duration, in text order.

    >>> [span.seconds for span in find_timestamps("from 0:05 to 1:02:03 or 99:99", 7200)]
    [5.0, 3723.0]
    """
    found = []
    for match in _CLOCK.finditer(text):
        minutes, seconds = int(match["minutes"]), int(match["seconds"])
        if match["hours"] is not None and minutes >= 60:
            continue
        moment = int(match["hours"] or 0) * 3600 + minutes * 60 + seconds
        exact = moment + float(match["tenths"] or 0)
        if exact <= duration_seconds + _SLACK_SECONDS:
            found.append(TimestampSpan(match.start(), match.end(), exact))
    return found


def nearest_frame(pts_seconds: Sequence[float], seconds: float) -> int:
    """Return the index of the frame with the nearest time; the earlier one on a tie.

    >>> nearest_frame((0.0, 1.0, 2.0), 1.4), nearest_frame((0.0, 1.0), 99)
    (1, 1)
    """
    after = bisect_right(pts_seconds, seconds)
    if after == 0:
        return 0
    if after == len(pts_seconds):
        return after - 1
    nearer_after = pts_seconds[after] - seconds < seconds - pts_seconds[after - 1]
    return after if nearer_after else after - 1
