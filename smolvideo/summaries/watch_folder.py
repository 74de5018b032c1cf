"""Watch folders: yield videos that appear in them, once they are completely written.

watchfiles wraps inotify, FSEvents and ReadDirectoryChangesW. Notifications are incomplete: changes
that another machine makes on a network drive are not reported, and the number of watches is
limited. So they only hasten the periodic listing of ``watch_folder``.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from smolvideo.errors import SmolVideoError
from smolvideo.source import ListedPath, Named, is_url
from smolvideo.source.local import is_pattern
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


_SETTLE_MS = 100
"""Changes within this time of each other are reported together."""
_LOOK_MS = 50
"""Polling interval of the thread; the system queues changes meanwhile."""


class FolderChanges:
    """Change flag of watched folders (recursive) and of the folders of single files.

    A context manager: leaving it stops its threads. ``works`` is False where the system sends no
    notifications: too many folders, or no support for them.
    """

    def __init__(self, named: Iterable[Named | str]) -> None:
        trees, parents = watched_folders(named)
        self._stopped = threading.Event()
        self._changed = threading.Event()
        self._failed = threading.Event()
        self._threads = [
            threading.Thread(target=self._listen, args=(folders, deep), name="watch", daemon=True)
            for folders, deep in ((trees, True), (parents, False))
            if folders
        ]

    @property
    def works(self) -> bool:
        """Whether changes are reported."""
        return bool(self._threads) and not self._failed.is_set()

    def take(self) -> bool:
        """Return whether something has changed since the last call, and reset the flag."""
        changed = self._changed.is_set()
        self._changed.clear()
        return changed

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(1.0)

    def _listen(self, folders: Sequence[Path], deep: bool) -> None:
        from watchfiles import watch

        try:
            for _ in watch(
                *folders,
                watch_filter=None,
                debounce=_SETTLE_MS,
                step=_LOOK_MS,
                stop_event=self._stopped,
                raise_interrupt=False,
                recursive=deep,
                ignore_permission_denied=True,
            ):
                self._changed.set()
        except Exception:  # a deleted folder or a system limit: the errors have no common base
            self._failed.set()
        else:
            if not self._stopped.is_set():
                self._failed.set()


def watched_folders(named: Iterable[Named | str]) -> tuple[list[Path], list[Path]]:
    """Return the folders to watch recursively, and the folders of single files to watch flat.

    A glob pattern is watched at its deepest folder that exists literally. URLs have none.
    """
    trees: dict[Path, None] = {}
    parents: dict[Path, None] = {}
    for given in named:
        name = str(given)
        if is_url(name):
            continue
        try:
            path = given.path if isinstance(given, ListedPath) else Path(name).expanduser()
            if path.is_dir():
                trees[path] = None
            elif path.exists() or not is_pattern(name):
                parents[path.parent] = None
            else:
                trees[next(one for one in path.parents if one.is_dir())] = None
        except (OSError, RuntimeError, SmolVideoError, ValueError):  # no path: listing reports it
            continue
    return (
        [folder for folder in trees if folder.is_dir()],
        [folder for folder in parents if folder.is_dir()],
    )
