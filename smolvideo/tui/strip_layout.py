"""Geometry of the filmstrip: thumbnail slots, and columns of the time line."""

from collections.abc import Sequence
from dataclasses import dataclass

_CELL_ASPECT = 2.0
"""Height / width of a character cell, about 2 in most fonts."""
GAP = 1


@dataclass(frozen=True)
class StripSlots:
    """``count`` thumbnail slots, each ``columns`` wide, at the columns ``starts``."""

    count: int
    columns: int
    starts: tuple[int, ...]

    def of_frame(self, frame: int, frames: int) -> int:
        """Return the slot that shows a frame when the cursor is on it."""
        return min(self.count - 1, frame * self.count // max(1, frames))

    def frame_of(self, slot: int, frames: int) -> int:
        """Return the frame shown in a slot without the cursor: the middle one of its range."""
        first, after = self.range_of(slot, frames)
        return (first + after - 1) // 2

    def range_of(self, slot: int, frames: int) -> tuple[int, int]:
        """Return the frames of a slot as a half-open range."""
        return -(-slot * frames // self.count), -(-(slot + 1) * frames // self.count)

    def at_column(self, column: int) -> int:
        """Return the slot at a screen column."""
        before = [slot for slot, start in enumerate(self.starts) if start <= column]
        return before[-1] if before else 0


def plan_slots(frames: int, aspect: float, *, width: int, rows: int) -> StripSlots:
    """Plan slots for as many thumbnails of ``aspect`` (width / height) and height ``rows`` as fit.

    At most one per frame; spread over the whole ``width`` if not all frames fit.
    """
    columns = max(4, min(width, round(rows * _CELL_ASPECT * aspect)))
    count = max(1, min(frames, (width + GAP) // (columns + GAP)))
    step = (width + GAP) / count
    # Spread over the width if there are more frames than slots; otherwise side by side.
    step = min(step, columns + GAP + 2) if count == frames else step
    starts = tuple(int(slot * step) for slot in range(count))
    return StripSlots(count, columns, starts)


def columns_of(
    pts_seconds: Sequence[float], start_seconds: float, end_seconds: float, width: int
) -> list[int]:
    """Return the column of each frame on a time line of ``width`` columns.

    >>> columns_of((0.0, 5.0, 10.0), 0.0, 10.0, 11)
    [0, 5, 10]
    """
    span = end_seconds - start_seconds
    if span <= 0 or width <= 1:
        return [0] * len(pts_seconds)
    return [
        min(width - 1, max(0, round((time - start_seconds) / span * (width - 1))))
        for time in pts_seconds
    ]


def nearest(columns: Sequence[int], column: int) -> int:
    """Return the frame whose column is nearest to ``column``; the earlier one on a tie."""
    return min(range(len(columns)), key=lambda frame: abs(columns[frame] - column))


def fit(aspect: float, width: int, rows: int) -> tuple[int, int]:
    """Return the largest size (columns, rows) of an image of ``aspect`` in ``width`` x ``rows``."""
    columns = min(width, round(rows * _CELL_ASPECT * aspect))
    return max(1, columns), max(1, min(rows, round(columns / aspect / _CELL_ASPECT)))
