"""Arithmetic of the filmstrip: slots of pictures, and columns of the time line."""

from collections.abc import Sequence
from dataclasses import dataclass

_CELL_ASPECT = 2.0
"""A character is about twice as high as wide."""
GAP = 1


@dataclass(frozen=True)
class StripSlots:
    """``count`` places for pictures, each ``columns`` wide, beginning at ``starts``."""

    count: int
    columns: int
    starts: tuple[int, ...]

    def of_frame(self, frame: int, frames: int) -> int:
        """The slot in which a frame is shown when the cursor is on it."""
        return min(self.count - 1, frame * self.count // max(1, frames))

    def frame_of(self, slot: int, frames: int) -> int:
        """The frame that stands in a slot while the cursor is elsewhere: its middle one."""
        first, after = self.range_of(slot, frames)
        return (first + after - 1) // 2

    def range_of(self, slot: int, frames: int) -> tuple[int, int]:
        """The frames of a slot: the first, and the one after its last."""
        return -(-slot * frames // self.count), -(-(slot + 1) * frames // self.count)

    def at_column(self, column: int) -> int:
        """The slot at a column of the screen."""
        before = [slot for slot, start in enumerate(self.starts) if start <= column]
        return before[-1] if before else 0


def plan_slots(frames: int, aspect: float, *, width: int, rows: int) -> StripSlots:
    """As many pictures of ``aspect`` (width / height), ``rows`` high, as stand side by side.

    Never more than there are frames; spread over the whole ``width``.
    """
    columns = max(4, min(width, round(rows * _CELL_ASPECT * aspect)))
    count = max(1, min(frames, (width + GAP) // (columns + GAP)))
    step = (width + GAP) / count
    # Spread out where there are many; where there are few, side by side is nearer to a film.
    step = min(step, columns + GAP + 2) if count == frames else step
    starts = tuple(int(slot * step) for slot in range(count))
    return StripSlots(count, columns, starts)


def columns_of(
    pts_seconds: Sequence[float], start_seconds: float, end_seconds: float, width: int
) -> list[int]:
    """The column of each frame on a time line of ``width`` columns.

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
    """The frame whose column is nearest to ``column``; of two the earlier."""
    return min(range(len(columns)), key=lambda frame: abs(columns[frame] - column))


def fit(aspect: float, width: int, rows: int) -> tuple[int, int]:
    """Columns and rows of a picture of ``aspect`` as large as it goes in ``width`` x ``rows``."""
    columns = min(width, round(rows * _CELL_ASPECT * aspect))
    return max(1, columns), max(1, min(rows, round(columns / aspect / _CELL_ASPECT)))
