"""Even subsampling of a sequence."""

from collections.abc import Sequence
from typing import TypeVar

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
