"""Resolve command-line arguments to the list of videos to summarise, without duplicates.

Nothing is decoded, and no video is downloaded. A source that cannot be found is an item, too: its
error becomes its record.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from random import Random
from urllib.parse import quote

from smolvideo.credentials import WebAddress, without_credentials
from smolvideo.errors import SourceError, UsageError
from smolvideo.file_names import existing_path
from smolvideo.media_types import natural_order
from smolvideo.progress import OnProgress, no_progress
from smolvideo.sanitize import display_name
from smolvideo.source import (
    DownloadOptions,
    ListedPath,
    Named,
    VideoSource,
    is_url,
    playlist_entries,
    public_name,
    resolve_address,
    resolve_source,
)
from smolvideo.source.local import is_pattern, matching_paths


@dataclass(frozen=True)
class WorkItem:
    """One video to summarise: a local file, a URL to download, or an error.

    ``given`` and ``path`` are written to records; in a URL they lack the credentials, which only
    ``address`` holds, for the request. ``relative`` is the path of its outputs inside the output
    folder: the file's path inside the folder argument, or its bare name. ``named_by`` is the URL of
    the playlist that names the address, ``named`` the path that could not be opened.
    """

    given: str
    path: str
    relative: PurePath
    source: VideoSource | None = None
    error: SourceError | None = None
    address: WebAddress | None = None
    named_by: WebAddress | None = None
    named: Named | None = None

    @property
    def name(self) -> str:
        """Display name: the file's name, or the URL."""
        return self.source.name if self.source else display_name(self.given)


@dataclass(frozen=True)
class Selection:
    """Filter of the list: files modified after ``newer_than`` (seconds since 1970), shuffled with
    the seed ``shuffle``, then the first ``limit`` items.
    """

    newer_than: float | None = None
    shuffle: int | None = None
    limit: int | None = None


def list_items(
    given: Sequence[Named | Path],
    selection: Selection = Selection(),
    *,
    download: DownloadOptions = DownloadOptions(),  # noqa: B008 -- frozen
    on_progress: OnProgress = no_progress,
) -> list[WorkItem]:
    """List the videos of files, folders (recursive), glob patterns, URLs and playlists.

    In the order of the arguments, inside a folder by name. Raises UsageError for ``newer_than``
    with URLs, which have no modification time.
    """
    if selection.newer_than is not None and any(is_url(str(item)) for item in given):
        raise UsageError("`--newer-than` goes by the time of a file: an address has none")
    unique: dict[str, WorkItem] = {}
    for typed in given:
        named = str(typed) if isinstance(typed, Path) else typed
        for item in _items_of(named, download, on_progress):
            _add(unique, item)
    items = [item for item in unique.values() if _is_new(item, selection.newer_than)]
    if selection.shuffle is not None:
        Random(selection.shuffle).shuffle(items)
    return items[: selection.limit]


def item_of_file(given: str, source: VideoSource, folder: Path | None) -> WorkItem:
    """Return the item of a local source; ``folder`` is the folder argument that contains it."""
    relative = PurePath(source.path.name or source.name)
    if folder is not None and source.path != folder:
        relative = source.path.relative_to(folder)
    return WorkItem(given, os.path.abspath(source.path), relative, source)


def _add(unique: dict[str, WorkItem], item: WorkItem) -> None:
    """Add an item unless it is a duplicate.

    Two URLs that differ only in their credentials may be two videos: the second path gets ``#2``.
    """
    path, number = item.path, 1
    while (before := unique.get(item.path)) is not None:
        if before.address == item.address:
            return
        number += 1
        item = replace(item, path=f"{path}#{number}")
    unique[item.path] = item


def _items_of(
    given: Named, download: DownloadOptions, on_progress: OnProgress
) -> Iterator[WorkItem]:
    try:
        if is_url(str(given)):
            yield from _items_on_the_web(str(given).strip(), download, on_progress)
            return
        if isinstance(given, ListedPath):
            _ = given.path  # raises for a path on another machine, before it is accessed
        names = _matches(str(given))
    except SourceError as error:
        yield _failed_item(given, str(given), error)
        return
    for name in names:
        listed = replace(given, given=name) if isinstance(given, ListedPath) else name
        try:
            sources = resolve_source(listed, recursive=True)
            plain = Path(name).expanduser()
            folder = existing_path(listed.path if isinstance(listed, ListedPath) else plain)
        except SourceError as error:  # of one match of a pattern: continue with the others
            yield replace(_failed_item(given, name, error), named=listed)
            continue
        for source in sources:
            yield item_of_file(str(given), source, folder if folder.is_dir() else None)


def _failed_item(given: Named, name: str, error: SourceError) -> WorkItem:
    path = _path_of(public_name(name))
    relative = PurePath(display_name(public_name(name)))
    return WorkItem(public_name(str(given)), path, relative, error=error)


def _items_on_the_web(
    url: str, download: DownloadOptions, on_progress: OnProgress
) -> Iterator[WorkItem]:
    public = without_credentials(url)
    for entry in playlist_entries(url, download, on_progress):
        path = without_credentials(entry.address)
        if entry.error is not None:  # not the bare path, which may have a record of its own
            path = f"{public}#{quote(path, safe='')}"
        yield WorkItem(
            public,
            path,
            PurePath(path),
            error=entry.error,
            address=WebAddress(entry.address),
            named_by=None if entry.address == url else WebAddress(url),
        )


def _matches(given: str) -> Iterable[str]:
    """Expand a glob pattern; a name that exists literally is no pattern."""
    try:
        if existing_path(Path(given)).exists() or not is_pattern(given):
            return [given]
        found = sorted(map(str, matching_paths(given)), key=natural_order)
    except (OSError, ValueError):  # an invalid path: resolving it reports the error
        return [given]
    if not found:
        raise SourceError(f"nothing matches `{display_name(given)}`")
    return found


def listed_again(item: WorkItem) -> WorkItem:
    """List ``item`` again: a file that could not be opened may be complete by now."""
    if item.named is None:
        return item
    try:
        (source,) = resolve_source(item.named)
    except (SourceError, ValueError):  # still invalid, or now a folder with several videos
        return item
    return item_of_file(item.given, source, None)


def _path_of(given: str) -> str:
    return given if is_url(given) else os.path.abspath(existing_path(Path(given)))


def _is_new(item: WorkItem, newer_than: float | None) -> bool:
    if newer_than is None or item.source is None:
        return True
    try:
        return item.source.path.stat().st_mtime > newer_than
    except OSError:
        return True  # its error becomes its record


def resolve_item(item: WorkItem, download: DownloadOptions, on_progress: OnProgress) -> VideoSource:
    """Return the local source of an item, downloading a URL.

    Raises the SourceError of the item, or of the download.
    """
    if item.error is not None:
        raise item.error
    if item.source is not None:
        # Resolved again: the list may be hours old.
        (source,) = resolve_source(str(item.source.path))[:1]
        return replace(source, given=item.given, name=item.source.name, notices=item.source.notices)
    assert item.address is not None
    named_by = None if item.named_by is None else item.named_by.request
    return resolve_address(item.address.request, download, on_progress, named_by=named_by)
