"""Folders that are watched: videos that appear in them, once they are complete."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from smolvideo.summaries.loader import file_stat
from smolvideo.summaries.worklist import WorkItem

SETTLE_SECONDS = 2.0
"""A file that has not changed for so long is complete; what is still copied or downloaded grows
faster, and most programs give it a name of its own until it is done."""

_SHARE_OF_LISTING = 1 / 50
"""Of the time, listing and looking at all files takes at most so much: 10,000 of them take 0.2 s,
and are looked at every ten seconds where the system does not tell of changes."""

UNTOLD_SECONDS = 60.0
"""So often files are listed although the system told of no change: not all changes are told."""

_FIRST_LISTINGS = 3
"""So many come soon after each other: the system's notifications begin in a moment of their own."""


class Changes(Protocol):
    """What tells of changes; see ``FolderChanges``."""

    @property
    def works(self) -> bool: ...
    def take(self) -> bool: ...


Stamp = tuple[int, ...]


@dataclass
class _Growing:
    """A file that is not yet given: what it looked like last, and since when."""

    item: WorkItem
    stamp: Stamp
    since: float


@dataclass
class _Watch:
    """What is known of the files that are watched."""

    list_items: Callable[[], Sequence[WorkItem]]
    given: dict[str, Stamp] = field(default_factory=dict)
    growing: dict[str, _Growing] = field(default_factory=dict)
    listings: int = 0
    listing_seconds: float = 0.0

    def list_anew(self, now: float) -> Iterator[WorkItem]:
        """List everything; what needs no waiting for comes at once."""
        started = time.perf_counter()
        stamped = [(item, _stamp(item)) for item in self.list_items()]
        self.listing_seconds = time.perf_counter() - started
        self.listings += 1
        for item, stamp in stamped:
            if self.given.get(item.path) == stamp or _is_empty_folder(item):
                continue
            if not stamp:
                self.given[item.path] = stamp
                yield item
            elif item.path not in self.growing or self.growing[item.path].stamp != stamp:
                self.growing[item.path] = _Growing(item, stamp, now)

    def complete(self, now: float) -> Iterator[WorkItem]:
        """Files that have not changed for long enough; only those that are waited for are looked
        at."""
        for path, growing in list(self.growing.items()):
            stamp = _stamp(growing.item)
            if stamp != growing.stamp:
                self.growing[path] = _Growing(growing.item, stamp, now)
            elif now - growing.since >= SETTLE_SECONDS:
                del self.growing[path]
                if stamp:  # else it is gone
                    self.given[path] = stamp
                    yield growing.item


def watch(
    list_items: Callable[[], Sequence[WorkItem]],
    *,
    changes: Changes | None = None,
    limit: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[WorkItem | None]:
    """Items as they appear and are complete, each again when it changes; None while there is none.

    ``changes`` tells when to list them anew; without it, and where it does not work, they are
    listed from time to time, the more seldom the longer that takes. Ends after ``limit`` items,
    else never. What is no file (an address, a typing error) comes once.
    """
    known = _Watch(list_items)
    left = limit
    looked = listed = -2 * UNTOLD_SECONDS
    while left is None or left > 0:
        found: list[WorkItem] = []
        now = clock()
        if now - looked >= SETTLE_SECONDS / 4:
            looked = now
            found += known.complete(now)
            if _is_due(known, now - listed, changes):
                listed = now
                found += known.list_anew(now)
        for item in found[:left]:
            yield item
            left = None if left is None else left - 1
        if not found:
            yield None


def _is_due(known: _Watch, since: float, changes: Changes | None) -> bool:
    """Whether to list anew, ``since`` seconds after the last time."""
    if since < known.listing_seconds / _SHARE_OF_LISTING:
        return False
    if changes is None or not changes.works or changes.take():
        return True
    return since >= (UNTOLD_SECONDS if known.listings >= _FIRST_LISTINGS else SETTLE_SECONDS)


def _stamp(item: WorkItem) -> Stamp:
    return () if item.source is None else file_stat(item.source.path)


def _is_empty_folder(item: WorkItem) -> bool:
    """A folder without a video is no mistake here: one may come."""
    return item.error is not None and Path(item.path).is_dir()
