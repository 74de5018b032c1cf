"""Folders that tell when something changes in them, so that nothing is listed while nothing does.

The system's own notifications (inotify, FSEvents, ReadDirectoryChangesW), by watchfiles. They do
not reach everywhere: changes that another machine makes on a network drive are not told, and the
number of watches has a limit. So they only hasten what ``watching`` does anyway from time to time.
"""

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from smolvideo.errors import SmolVideoError
from smolvideo.source import ListedPath, Named, is_url
from smolvideo.source.patterns import is_pattern

_SETTLE_MS = 100
"""Changes that follow each other within that time are told together."""
_LOOK_MS = 50
"""So often the thread sees whether there are changes; the system collects them meanwhile."""


class FolderChanges:
    """Whether something has changed in folders and below them, or beside single files.

    A context manager: leaving it stops its threads. ``works`` is False while the system tells
    nothing: too many folders, or a system without notifications.
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
        """Whether a change will be told."""
        return bool(self._threads) and not self._failed.is_set()

    def take(self) -> bool:
        """Whether something has changed since this was last asked."""
        changed = self._changed.is_set()
        self._changed.clear()
        return changed

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        except Exception:  # a folder that is gone, limits of the system: there is no common base
            self._failed.set()
        else:
            if not self._stopped.is_set():
                self._failed.set()


def watched_folders(named: Iterable[Named | str]) -> tuple[list[Path], list[Path]]:
    """The folders to watch with all that is below them, and those of single files, to watch alone.

    Of a pattern it is the last of its folders that exists as it is written. Addresses have none.
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
        except (OSError, RuntimeError, SmolVideoError, ValueError):  # no path: listing says so
            continue
    return (
        [folder for folder in trees if folder.is_dir()],
        [folder for folder in parents if folder.is_dir()],
    )
