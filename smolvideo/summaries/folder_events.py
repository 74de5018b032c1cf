"""File system notifications: avoid listing watched folders while nothing changes in them.

watchfiles wraps inotify, FSEvents and ReadDirectoryChangesW. Notifications are incomplete: changes
that another machine makes on a network drive are not reported, and the number of watches is
limited. So they only hasten the periodic listing of ``watch_folder``.
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
