"""Watch folders: yield videos that appear in them, once they are completely written."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from smolvideo.summaries.loader import file_stat
from smolvideo.summaries.worklist import WorkItem

SETTLE_SECONDS = 2.0
"""A file that has not changed for this long counts as complete: copies and downloads grow in
shorter steps, and most programs use a temporary name until they are done."""

_SHARE_OF_LISTING = 1 / 50
"""Maximum share of the time that listing may take: 10,000 files take 0.2 s, and are listed every
ten seconds where the system sends no notifications."""

UNTOLD_SECONDS = 60.0
"""Interval of listing without a notification, as notifications are incomplete."""

_FIRST_LISTINGS = 3
"""The first listings are frequent, because notifications start with a delay."""


class Changes(Protocol):
    """Source of change notifications; see ``FolderChanges``."""

    @property
    def works(self) -> bool: ...
    def take(self) -> bool: ...


Stamp = tuple[int, ...]


@dataclass
class _Growing:
    """A file that is not yielded yet: its last ``file_stat``, and since when it is unchanged."""

    item: WorkItem
    stamp: Stamp
    since: float


@dataclass
class _Watch:
    """State of the watched files."""

    list_items: Callable[[], Sequence[WorkItem]]
    given: dict[str, Stamp] = field(default_factory=dict)
    growing: dict[str, _Growing] = field(default_factory=dict)
    listings: int = 0
    listing_seconds: float = 0.0

    def list_anew(self, now: float) -> Iterator[WorkItem]:
        """List all files; yield items without a local file (URLs, errors) immediately."""
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
        """Yield the growing files that have not changed for ``SETTLE_SECONDS``."""
        for path, growing in list(self.growing.items()):
            stamp = _stamp(growing.item)
            if stamp != growing.stamp:
                self.growing[path] = _Growing(growing.item, stamp, now)
            elif now - growing.since >= SETTLE_SECONDS:
                del self.growing[path]
                if stamp:  # otherwise it was deleted
                    self.given[path] = stamp
                    yield growing.item


def watch(
    list_items: Callable[[], Sequence[WorkItem]],
    *,
    changes: Changes | None = None,
    limit: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[WorkItem | None]:
    """Yield items when they are complete, and again when they change; None while there is none.

    ``changes`` triggers a new listing; without it, or where it does not work, files are listed
    periodically, less often the longer a listing takes. Ends after ``limit`` items, otherwise
    never. An item that is no file (a URL, a mistyped name) is yielded once.
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
    """Whether the item is the error of a folder without videos, which is no error of a watch."""
    return item.error is not None and Path(item.path).is_dir()
