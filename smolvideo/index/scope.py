"""What a search covers: the whole index, or sources, of which those in no index are scanned."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from smolvideo.errors import SmolVideoError, UsageError
from smolvideo.formatting import format_count
from smolvideo.index.hits import SearchResult
from smolvideo.index.search import SearchOptions, indexed_videos, is_current, planned_video
from smolvideo.index.search_types import SearchedVideo
from smolvideo.index.store import IndexStore
from smolvideo.progress import OnProgress, no_progress
from smolvideo.sanitize import display_path
from smolvideo.source import DownloadOptions, Named, VideoSource, is_url
from smolvideo.summaries.worklist import WorkItem, list_items, resolve_item


@dataclass
class SearchScope(AbstractContextManager["SearchScope"]):
    """The videos of a search. ``scanned`` are in no index; ``failed`` could not be opened."""

    store: IndexStore | None
    videos: tuple[SearchedVideo, ...]
    failed: dict[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def scanned(self) -> int:
        """Number of videos that are scanned."""
        return sum(video.content is None for video in self.videos)

    def index_model(self) -> str | None:
        """Return the model whose notes most of the indexed videos have; None without any."""
        if self.store is None or not any(video.content is not None for video in self.videos):
            return None
        models = self.store.status().models
        return max(models, key=models.__getitem__, default=None)

    def sources(self) -> Iterator[VideoSource]:
        """Yield the sources of the videos that are there."""
        for video in self.videos:
            try:
                yield video.resolve()
            except SmolVideoError:
                continue

    def with_failures(self, found: SearchResult) -> SearchResult:
        """Return a result with the videos that could not be opened."""
        notices = (*self.notices, *found.notices)
        return replace(found, failed={**self.failed, **found.failed}, notices=notices)

    def __exit__(self, *_: object) -> None:
        if self.store is not None:
            self.store.close()


def open_scope(
    index: Path,
    sources: Sequence[Named | Path],
    options: SearchOptions,
    *,
    scan: bool = False,
    must_exist: bool = False,
    download: DownloadOptions = DownloadOptions(),  # noqa: B008 -- frozen
    on_progress: OnProgress = no_progress,
) -> SearchScope:
    """Open what is searched: ``sources``, or all of the index without any.

    ``scan`` ignores the index. Raises UsageError where there is neither index nor source,
    RecordError as ``IndexStore``.
    """
    has_index = must_exist or index.is_file()
    if not sources and not has_index:
        raise UsageError(
            "there is no index yet, and no SOURCE to search",
            hint="`smolvideo index FOLDER` makes one, or name a video",
        )
    store = IndexStore(index, read_only=True) if has_index and not scan else None
    try:
        if not sources:
            assert store is not None
            return SearchScope(store, tuple(indexed_videos(store).values()))
        items = list_items(sources, download=download, on_progress=on_progress)
        return _scope_of(store, items, options, download, on_progress)
    except BaseException:
        if store is not None:
            store.close()
        raise


def _scope_of(
    store: IndexStore | None,
    items: Sequence[WorkItem],
    options: SearchOptions,
    download: DownloadOptions,
    on_progress: OnProgress,
) -> SearchScope:
    known = {} if store is None else _by_path(store)
    videos: dict[str, SearchedVideo] = {}
    failed: dict[str, str] = {}
    skipped = 0
    for item in items:
        entry = known.get(item.path)
        if entry is not None and store is not None and _is_same(store, item):
            videos.setdefault(entry.sha256 or item.path, replace(entry, path=item.path))
            continue
        if not options.confirm:
            skipped += 1
            continue
        try:
            source = resolve_item(item, download, on_progress)
            if source.kind != "video":
                raise UsageError(f"`{item.name}` is no video")
            videos[item.path] = planned_video(item.path, source, options.index)
        except SmolVideoError as error:
            failed[item.path] = str(error)
    notices: tuple[str, ...] = ()
    if skipped:
        notices = (
            f"{format_count(skipped, 'video')} in no index: not searched, as `--no-confirm` looks "
            "at no frames",
        )
    if len(items) == 1 and failed:
        (path,) = failed
        raise UsageError(f"{display_path(path)} cannot be searched: {failed[path]}")
    return SearchScope(store, tuple(videos.values()), failed, notices)


def _by_path(store: IndexStore) -> dict[str, SearchedVideo]:
    """Return every file of the index as a video of its content."""
    entries = {entry.id: entry for entry in store.contents() if entry.error is None}
    return {
        path: SearchedVideo(path, content, entries[content].sha256)
        for path, content in store.paths()
        if content in entries
    }


def _is_same(store: IndexStore, item: WorkItem) -> bool:
    return is_url(item.path) or is_current(store, item.path)
