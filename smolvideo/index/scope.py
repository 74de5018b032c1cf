"""What a search covers: the whole index, or sources, of which those in no index are scanned."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from smolvideo.errors import SmolVideoError, UsageError
from smolvideo.files import content_hash
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
            notices = (*store.notices, *_incomplete_notices(store))
            return SearchScope(store, tuple(indexed_videos(store)), notices=notices)
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
    known = None if store is None else _KnownVideos(store)
    videos: dict[str, SearchedVideo] = {}
    failed: dict[str, str] = {}
    skipped = 0
    for item in items:
        entry = None if known is None else known.find(item)
        if entry is not None:
            videos.setdefault(entry.sha256 or item.path, entry)
            continue
        if not options.confirm and item.error is None:
            skipped += 1
            continue
        try:
            source = resolve_item(item, download, on_progress)
            if source.kind != "video":
                raise UsageError(f"`{item.name}` is no video")
            videos[item.path] = planned_video(item.path, source, options.index)
        except SmolVideoError as error:
            failed[item.path] = str(error)
    if len(items) == 1 and failed:
        (path,) = failed
        raise UsageError(f"{display_path(path)} cannot be searched: {failed[path]}")
    notices: list[str] = []
    if store is not None:
        contents = [one.content for one in videos.values() if one.content is not None]
        notices += [*store.notices, *_incomplete_notices(store, contents)]
    if skipped:
        notices.append(
            f"{format_count(skipped, 'video')} in no index: not searched, as `--no-confirm` looks "
            "at no frames"
        )
    return SearchScope(store, tuple(videos.values()), failed, tuple(notices))


class _KnownVideos:
    """The videos of an index, found by path, and by content where a file of that size is known: a
    copy, a link and a file that was touched cost their hash alone."""

    def __init__(self, store: IndexStore) -> None:
        self._store = store
        entries = {entry.id: entry for entry in store.contents() if entry.error is None}
        self._by_path = {
            path: SearchedVideo(path, content, entries[content].sha256)
            for path, content in store.paths()
            if content in entries
        }
        self._by_hash = {video.sha256: video for video in self._by_path.values()}

    def find(self, item: WorkItem) -> SearchedVideo | None:
        """Return the video of an item, by the path of the item; None where it is not known as it
        is now."""
        video = self._by_path.get(item.path)
        if video is not None and (is_url(item.path) or is_current(self._store, item.path)):
            return video
        if item.source is None or item.source.kind != "video":
            return None
        try:
            if not self._store.has_size(item.source.path.stat().st_size):
                return None
            video = self._by_hash.get(content_hash(item.source.path))
        except (OSError, SmolVideoError):
            return None  # decoding it names the error
        if video is None or video.sha256 is None:
            return None
        return replace(video, path=item.path, source=item.source)


def _incomplete_notices(store: IndexStore, contents: Sequence[int] | None = None) -> Iterator[str]:
    """Say what the index does not have, of ``contents`` alone if they are given."""
    entries = store.contents()
    if contents is not None:
        chosen = {*contents}
        entries = [entry for entry in entries if entry.id in chosen]
    unfinished = sum(not entry.is_complete and entry.error is None for entry in entries)
    failed = len(store.failures()) if contents is None else 0
    if unfinished:
        yield (
            f"{format_count(unfinished, 'video')} of the index not indexed to the end, and "
            "searched as far as it is: `smolvideo index` continues"
        )
    if failed:
        yield (
            f"{format_count(failed, 'file')} could not be indexed, and cannot be found: "
            "`smolvideo index status` names them"
        )
