"""Build an index: the windows of every video, each with a note, committed as it is made.

The way of a video is that of a summary: listed, identified by its hash, decoded in threads ahead of
the model, cut into windows. A run that was killed continues at the first window that is missing.
"""

import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from smolvideo.engines import Engine
from smolvideo.errors import RecordError, SmolVideoError, SourceError
from smolvideo.index.claims import this_process
from smolvideo.index.entries import cues_between
from smolvideo.index.named_paths import folders_among
from smolvideo.index.options import IndexOptions
from smolvideo.index.store import IndexStore
from smolvideo.index.subtitle_files import subtitle_state, video_cues
from smolvideo.index.window_notes import EngineLoadFailed, NotedPart, WindowNotes
from smolvideo.models import Checkpoint
from smolvideo.progress import OnProgress, no_progress
from smolvideo.sanitize import display_path
from smolvideo.source import DownloadOptions, Named, resolve_source
from smolvideo.subtitles import Cue
from smolvideo.summaries.loader import IdentifiedSource, LoadedPart, ProbedVideo
from smolvideo.summaries.prefetch import Prefetcher
from smolvideo.summaries.run import ItemStatus, RunStats
from smolvideo.summaries.worklist import WorkItem

_VIDEOS_AHEAD = 3
_NEW_SUBTITLES = "its subtitles have changed, and were read again"


@dataclass(frozen=True)
class IndexedItem:
    """A finished item. ``outcome`` is ``busy`` where another process is indexing the content;
    ``windows`` are those made now."""

    item: WorkItem
    outcome: ItemStatus
    windows: int = 0
    error: str | None = None
    hint: str | None = None
    notices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Display name of the video."""
        return self.item.name


def new_stats() -> RunStats:
    """Return the counts of a run that has not begun."""
    return RunStats({"made": 0, "same": 0, "kept": 0, "busy": 0, "failed": 0})


@dataclass
class IndexRun:
    """A run over a list of videos, with one model and one set of options.

    ``engine`` is called once, before the first prompt; ``quantize`` is the engine's setting.
    ``retry`` repeats videos that could not be indexed before.
    """

    checkpoint: Checkpoint
    engine: Callable[[], Engine]
    options: IndexOptions
    store: IndexStore
    download: DownloadOptions = field(default_factory=DownloadOptions)
    retry: bool = False
    quantize: str = "none"
    on_progress: OnProgress = no_progress
    tally: RunStats = field(default_factory=new_stats)

    def __post_init__(self) -> None:
        self.settings_key = self.options.key(self.checkpoint, self.quantize)
        self.notes = WindowNotes(
            self.checkpoint, self.engine, self.options, self.on_progress, self.tally
        )
        self.looker = self.notes.loader(self.download)
        self._ahead: set[str] = set()
        self._busy: dict[WorkItem, str] = {}
        self._lock = threading.Lock()

    def run(self, items: Iterable[WorkItem | None]) -> Generator[IndexedItem]:
        """Index every item; its last window is on disk when it is yielded. None means no item yet.

        Raises RecordError where the index cannot be written, ModelError where the model cannot be
        loaded; the error of a video is part of its item.
        """
        threads = min(2, os.cpu_count() or 1)
        with Prefetcher(
            self._with_freed(items), self._look, threads=threads, max_items=_VIDEOS_AHEAD
        ) as ahead:
            for item, pieces in ahead:
                done = self.index_item(item, iter(pieces))
                self.tally.waited_seconds = ahead.stall_seconds
                self.tally.decoded_seconds = ahead.busy_seconds
                if done is not None:
                    yield done
            yield from self.index_busy()

    def index_item(self, item: WorkItem, parts: Iterator[NotedPart]) -> IndexedItem | None:
        """Index one item, whose ``parts`` begin with its identity; None where another process does,
        until ``index_busy``. Raises as ``run``."""
        done = self._index(item, parts)
        if done.outcome == "busy":
            return None
        self.tally.counts[done.outcome] += 1
        return done

    def index_busy(self) -> Iterator[IndexedItem]:
        """Index what other processes had claimed: they may have finished it, or ended."""
        for item in [*self._busy]:
            done = self._index(item, self._look(item))
            self.tally.counts[done.outcome] += 1
            yield done

    def identify(self, item: WorkItem) -> IdentifiedSource:
        """Find and hash the file of an item. Raises its errors."""
        _require_storable(item)
        parts = self.looker.load(
            item,
            known_hash=self.store.known_hash,
            is_needed=lambda _: False,
            on_progress=self.on_progress,
        )
        found = next(parts)
        assert isinstance(found, IdentifiedSource)
        return found

    def reserve(self, item: WorkItem, found: IdentifiedSource) -> frozenset[int] | None:
        """Claim an item that is to be indexed later in this run, by ``index_item``.

        Return the numbers of the windows that are there; None where nothing is to be done, or
        another process does it. ``release`` gives it back.
        """
        sha256 = found.sha256
        if sha256 is None or not self._is_needed(found):
            return None
        if not self._claim(sha256, is_reserved=True):
            return None
        if self.store.known_hash(item.path, found.stamp) != sha256:
            self.store.add_path(item.path, sha256, found.stamp)
        entry = self.store.content(sha256)
        assert entry is not None
        is_same = entry.settings_key == self.settings_key
        return self.store.window_numbers(sha256) if is_same else frozenset()

    def release(self, sha256: str) -> None:
        """Give the claim of this process back, if it has one."""
        self.store.release(sha256, owner=this_process())

    def _with_freed(self, items: Iterable[WorkItem | None]) -> Iterator[WorkItem | None]:
        """Yield the items, and in between those that another process has left."""
        for item in items:
            yield (self._next_free() if item is None else item)

    def _next_free(self) -> WorkItem | None:
        """Return an item that was busy, and whose process has finished it or ended."""
        for item, sha256 in self._busy.items():
            if not self.store.is_claimed(sha256):
                del self._busy[item]
                return item
        return None

    # ------------------------------------------------------------ on the prefetch threads

    def _look(self, item: WorkItem) -> Iterator[LoadedPart]:
        _require_storable(item)
        yield from self.looker.load(
            item,
            known_hash=self.store.known_hash,
            is_needed=self._is_needed,
            on_progress=self.on_progress,
        )

    def _is_needed(self, found: IdentifiedSource) -> bool:
        """Whether to decode: not indexed, and no other item of the run has the content."""
        if found.sha256 is None or found.source.kind != "video" or self._is_done(found.sha256):
            return False
        with self._lock:
            is_first = found.sha256 not in self._ahead
            self._ahead.add(found.sha256)
        return is_first

    def _is_done(self, sha256: str) -> bool:
        entry = self.store.content(sha256)
        if entry is None or entry.settings_key != self.settings_key:
            return False
        return entry.is_complete or (entry.error is not None and not self.retry)

    # ------------------------------------------------------------ on the model's thread

    def _index(self, item: WorkItem, pieces: Iterator[NotedPart]) -> IndexedItem:
        try:
            found = next(pieces)
            assert isinstance(found, IdentifiedSource)
            if found.source.kind != "video" or found.sha256 is None:
                raise SourceError(f"`{item.name}` is no video, and an index is of videos")
        except SmolVideoError as error:
            if _is_storable(item.path):
                self.store.add_failure(item.path, str(error))
            return IndexedItem(item, "failed", error=str(error), hint=error.hint)
        path, sha256 = item.path, found.sha256
        known = self.store.known_hash(path, found.stamp) == sha256
        if self._is_done(sha256):
            return self._keep(item, found, sha256, "kept" if known else "same")
        if not self._claim(sha256):
            self.store.add_path(path, sha256, found.stamp)
            self._busy[item] = sha256
            return IndexedItem(item, "busy")
        self.store.add_path(path, sha256, found.stamp, subtitles=subtitle_state(found.source.path))
        try:
            return self._make_windows(item, found, sha256, pieces)
        except EngineLoadFailed as error:
            raise error.why from None
        except RecordError:  # of the index
            raise
        except SmolVideoError as error:
            self.store.finish(sha256, error=str(error))
            return IndexedItem(item, "failed", error=str(error), hint=error.hint)
        finally:
            with suppress(SmolVideoError):
                self.release(sha256)

    def _keep(
        self, item: WorkItem, found: IdentifiedSource, sha256: str, outcome: ItemStatus
    ) -> IndexedItem:
        """Add the path of a content that is indexed, and its subtitles where they have changed."""
        entry = self.store.content(sha256)
        assert entry is not None
        before = self.store.subtitle_states([entry.id]).get(item.path, "")
        state = subtitle_state(found.source.path)
        self.store.add_path(item.path, sha256, found.stamp, subtitles=state)
        if entry.error is not None:
            return IndexedItem(item, "failed", error=entry.error)
        if state == before:
            return IndexedItem(item, outcome)
        cues, notices = self._cues(item, found, entry.id)
        if self.store.replace_cues(entry.id, cues):
            return IndexedItem(item, "made", notices=(_NEW_SUBTITLES, *notices))
        return IndexedItem(item, outcome, notices=notices)

    def _cues(
        self, item: WorkItem, found: IdentifiedSource, content: int
    ) -> tuple[tuple[Cue, ...], tuple[str, ...]]:
        """Return the subtitles of a content: of the first of its files that has a file of them."""
        states = self.store.subtitle_states([content])
        owner = next((path for path, state in states.items() if state), item.path)
        source = found.source
        if owner != item.path:
            with suppress(SmolVideoError):
                (source,) = resolve_source(owner)[:1]
        return video_cues(source, self.options.reader)

    def _claim(self, sha256: str, *, is_reserved: bool = False) -> bool:
        return self.store.claim(
            sha256,
            settings_key=self.settings_key,
            model=self.checkpoint.name,
            window_seconds=self.options.window_seconds,
            owner=this_process(),
            is_reserved=is_reserved,
        )

    def _make_windows(
        self,
        item: WorkItem,
        found: IdentifiedSource,
        sha256: str,
        pieces: Iterator[NotedPart],
    ) -> IndexedItem:
        opened = next(pieces, None)
        if opened is None:  # not decoded ahead: another item with this content has failed
            pieces = self.looker.pieces_of(item, found)
            opened = next(pieces)
        assert isinstance(opened, ProbedVideo)
        entry = self.store.content(sha256)
        assert entry is not None
        cues, notices = self._cues(item, found, entry.id)
        there = self.store.window_numbers(sha256)
        notices += tuple(opened.metadata.notices)
        made = 0
        for window, about in self.notes.note_windows(pieces, there):
            said = cues_between(cues, window.start_seconds, window.end_seconds)
            self.store.add_window(sha256, replace(window, cues=said))
            self.store.renew(sha256, owner=this_process())
            notices += about
            made += 1
        if there:
            self.store.replace_cues(entry.id, cues)
        found.check_unchanged()
        duration = opened.metadata.duration_seconds
        self.store.finish(sha256, duration_seconds=duration, notices=notices)
        return IndexedItem(item, "made", made, notices=tuple(dict.fromkeys(notices)))


def _is_storable(path: str) -> bool:
    """Whether ``path`` is Unicode: SQLite keeps texts as UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _require_storable(item: WorkItem) -> None:
    if not _is_storable(item.path):
        raise SourceError(
            f"the name of {display_path(item.path)} is not UTF-8, and an index cannot hold it",
            hint="rename the file",
        )


def prune(store: IndexStore, sources: Sequence[Named | Path] | None = None) -> int:
    """Remove the files of the index that are gone, of ``sources`` alone if they are given; return
    how many could be searched.

    A folder that is missing itself keeps its files: it may be a drive that is not mounted.
    """
    folders = folders_among(sources or ())
    indexed = dict(store.paths(sources))
    gone = []
    for path in dict.fromkeys([*indexed, *store.failures(sources)]):
        if "://" in path or os.path.lexists(path):
            continue
        if _is_reachable(Path(path), folders):
            gone.append(path)
    store.forget(gone)
    return sum(path in indexed for path in gone)


def _is_reachable(path: Path, folders: Sequence[Path]) -> bool:
    """Whether a missing file was deleted: the folder given, or its own, is there and not empty."""
    roots = [folder for folder in folders if folder in path.parents]
    for root in roots or [path.parent]:
        try:
            with os.scandir(root) as entries:
                if next(entries, None) is not None:
                    return True
        except OSError:
            continue
    return False
