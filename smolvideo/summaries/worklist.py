"""What was typed → the list of videos to summarise, each once.

Nothing is decoded and nothing downloaded here. What cannot be found is an item, too: its error
becomes its record.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from random import Random

from smolvideo.errors import SourceError, UsageError
from smolvideo.progress import OnProgress, no_progress
from smolvideo.safe_text import clean_name
from smolvideo.source import (
    DownloadOptions,
    VideoSource,
    is_url,
    playlist_addresses,
    resolve_source,
)
from smolvideo.source.patterns import is_pattern, matching_paths
from smolvideo.spelling import existing_path


@dataclass(frozen=True)
class WorkItem:
    """One video to summarise: a local file, an address still to be fetched, or what went wrong.

    ``relative`` is where its outputs belong inside a folder of outputs: the file's path inside the
    folder that was typed, or its bare name.
    """

    given: str
    path: str
    relative: PurePath
    source: VideoSource | None = None
    error: SourceError | None = None

    @property
    def name(self) -> str:
        """For people: the file's name, or the address."""
        return self.source.name if self.source else clean_name(self.given)


@dataclass(frozen=True)
class Selection:
    """Which items of the list: files changed after ``newer_than`` (seconds since 1970), in an order
    drawn with the seed ``shuffle``, and of that the first ``limit``."""

    newer_than: float | None = None
    shuffle: int | None = None
    limit: int | None = None


def list_work(
    given: Sequence[str | Path],
    selection: Selection = Selection(),
    *,
    download: DownloadOptions = DownloadOptions(),  # noqa: B008 -- frozen
    on_progress: OnProgress = no_progress,
) -> list[WorkItem]:
    """The videos behind files, folders (with their subfolders), patterns, addresses and playlists.

    Sorted as typed, inside a folder by name. Raises UsageError where addresses cannot be chosen by
    their time.
    """
    if selection.newer_than is not None and any(is_url(str(item)) for item in given):
        raise UsageError("`--newer-than` goes by the time of a file: an address has none")
    unique: dict[str, WorkItem] = {}
    for typed in given:
        for item in _items_of(str(typed), download, on_progress):
            unique.setdefault(item.path, item)
    items = [item for item in unique.values() if _is_new(item, selection.newer_than)]
    if selection.shuffle is not None:
        Random(selection.shuffle).shuffle(items)
    return items[: selection.limit]


def item_of_file(given: str, source: VideoSource, folder: Path | None) -> WorkItem:
    """The item of a local source; ``folder`` is the one that was typed, if one was."""
    relative = PurePath(source.path.name or source.name)
    if folder is not None and source.path != folder:
        relative = source.path.relative_to(folder)
    return WorkItem(given, os.path.abspath(source.path), relative, source)


def _items_of(given: str, download: DownloadOptions, on_progress: OnProgress) -> Iterator[WorkItem]:
    try:
        if is_url(given):
            for address in playlist_addresses(given.strip(), download, on_progress):
                yield WorkItem(given, address, PurePath(address))
            return
        for name in _matches(given):
            folder = existing_path(Path(name).expanduser())
            sources = resolve_source(name, recursive=True)
            for source in sources:
                yield item_of_file(given, source, folder if folder.is_dir() else None)
    except SourceError as error:
        yield WorkItem(given, _path_of(given), PurePath(clean_name(given)), error=error)


def _matches(given: str) -> Iterable[str]:
    """The names that a pattern stands for; what exists as it is written is no pattern."""
    try:
        if existing_path(Path(given)).exists() or not is_pattern(given):
            return [given]
        from smolvideo.source.local import natural_order

        found = sorted(map(str, matching_paths(given)), key=natural_order)
    except (OSError, ValueError):  # not a path at all: resolving it says why
        return [given]
    if not found:
        raise SourceError(f"nothing matches `{clean_name(given)}`")
    return found


def _path_of(given: str) -> str:
    return given.strip() if is_url(given) else os.path.abspath(existing_path(Path(given)))


def _is_new(item: WorkItem, newer_than: float | None) -> bool:
    if newer_than is None or item.source is None:
        return True
    try:
        return item.source.path.stat().st_mtime > newer_than
    except OSError:
        return True  # its error becomes its record


def as_urls(items: Sequence[WorkItem]) -> list[str]:
    """The addresses among the items."""
    return [item.path for item in items if item.source is None and item.error is None]


def fetched(item: WorkItem, download: DownloadOptions, on_progress: OnProgress) -> VideoSource:
    """The local source of an item. Raises SourceError: the item's own, or that of its download."""
    if item.error is not None:
        raise item.error
    if item.source is not None:
        # The list may be hours old.
        (source,) = resolve_source(str(item.source.path))[:1]
        return replace(source, given=item.given, name=item.source.name)
    (source,) = resolve_source(item.path, download=download, on_progress=on_progress)
    return source
