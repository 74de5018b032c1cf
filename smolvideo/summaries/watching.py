"""Folders that are watched: videos that appear in them, once they are complete."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from smolvideo.summaries.looking import stamp_of
from smolvideo.summaries.worklist import WorkItem

STEADY_SECONDS = 2.0
"""A file that has not changed for so long is complete; what is still copied or downloaded grows
faster, and most programs give it a name of its own until it is done."""


def watch(
    list_items: Callable[[], Sequence[WorkItem]],
    *,
    limit: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[WorkItem | None]:
    """Items as they appear and are complete, each again when it changes; None while there is none.

    Ends after ``limit`` items, else never. What is no file (an address, a typing error) comes once.
    """
    seen_since: dict[str, tuple[tuple[int, ...], float]] = {}
    given: dict[str, tuple[int, ...]] = {}
    count, last_look = 0, -STEADY_SECONDS
    while limit is None or count < limit:
        if clock() - last_look < STEADY_SECONDS / 4:
            yield None
            continue
        last_look = clock()
        for item in list_items():
            stamp = _stamp(item)
            if given.get(item.path) == stamp or _is_empty_folder(item):
                continue
            before, since = seen_since.get(item.path, ((), last_look))
            if stamp and before != stamp:
                seen_since[item.path] = stamp, last_look
                continue
            if stamp and last_look - since < STEADY_SECONDS:
                continue
            given[item.path] = stamp
            seen_since.pop(item.path, None)
            count += 1
            yield item
            if limit is not None and count >= limit:
                return
        yield None


def _stamp(item: WorkItem) -> tuple[int, ...]:
    return () if item.source is None else stamp_of(item.source.path)


def _is_empty_folder(item: WorkItem) -> bool:
    """A folder without a video is no mistake here: one may come."""
    return item.error is not None and Path(item.path).is_dir()
