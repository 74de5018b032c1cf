"""Batch run over many videos: prefetch, answer, record, write outputs.

Items are processed in list order, independent of the threads, so that a killed and restarted run
leaves the same files as an uninterrupted one.
"""

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

from smolvideo.engines import Engine
from smolvideo.errors import ReaderError, SmolVideoError
from smolvideo.files import file_state
from smolvideo.models import Checkpoint
from smolvideo.progress import OnProgress, no_progress
from smolvideo.source import DownloadOptions
from smolvideo.summaries.inference import (
    RecordContext,
    duplicate_record,
    error_record,
    summarise_pieces,
)
from smolvideo.summaries.loader import IdentifiedSource, LoadedPart, VideoLoader, frames_per_window
from smolvideo.summaries.options import SummaryOptions, settings_hash
from smolvideo.summaries.outputs import OutputWriter
from smolvideo.summaries.prefetch import Prefetcher
from smolvideo.summaries.record_log import RecordLog, SummaryRecord
from smolvideo.summaries.worklist import WorkItem, listed_again

ItemStatus = Literal["made", "same", "kept", "busy", "failed"]
"""made: summarised (or indexed) now · same: duplicate content · kept: done by an earlier run ·
busy: another process indexes it · failed: an error."""

_VIDEOS_AHEAD = 3


@dataclass(frozen=True)
class ItemResult:
    """A finished item: its record and its status.

    ``is_new`` is False where the record existed before this run.
    """

    item: WorkItem
    record: SummaryRecord
    outcome: ItemStatus
    is_new: bool

    @property
    def name(self) -> str:
        """Display name of the video."""
        return self.item.name

    @property
    def error(self) -> str | None:
        """Its error message, or None."""
        return self.record.error

    @property
    def hint(self) -> str | None:
        """What to do about the error."""
        return self.record.hint


@dataclass
class RunStats:
    """Counts and times of a run so far."""

    counts: dict[ItemStatus, int] = field(
        default_factory=lambda: {"made": 0, "same": 0, "kept": 0, "failed": 0}
    )
    answered_seconds: float = 0.0
    waited_seconds: float = 0.0
    decoded_seconds: float = 0.0
    load_seconds: float = 0.0

    @property
    def total(self) -> int:
        """Number of finished videos."""
        return sum(self.counts.values())


class _EngineLoadFailed(Exception):
    """Wraps an error of loading the model, so that handlers of a video's errors let it through."""

    def __init__(self, why: SmolVideoError) -> None:
        super().__init__(why)
        self.why = why


def _numbered(items: Iterable[WorkItem | None]) -> Iterator[tuple[int, WorkItem] | None]:
    number = 0
    for item in items:
        yield None if item is None else (number, item)
        number += item is not None


@dataclass
class SummaryRun:
    """A run over a list of videos, with one model and one set of options.

    ``engine`` is called once, before the first prompt; ``quantize`` is the engine's setting.
    ``retry`` repeats items whose record is an error of the file itself.
    """

    checkpoint: Checkpoint
    engine: Callable[[], Engine]
    options: SummaryOptions
    journal: RecordLog
    publisher: OutputWriter
    download: DownloadOptions = field(default_factory=DownloadOptions)
    retry: bool = False
    quantize: str = "none"
    on_progress: OnProgress = no_progress
    tally: RunStats = field(default_factory=RunStats)

    def __post_init__(self) -> None:
        self._settings = self.options.settings(self.checkpoint, self.quantize)
        self.settings_key = settings_hash(self._settings)
        self.looker = VideoLoader(
            self.checkpoint,
            self.options,
            self.download,
            frames_per_window(self.checkpoint, self.options),
        )
        self._loaded: Engine | None = None
        self._claimed: dict[str, int] = {}
        self._lock = threading.Lock()
        self._failures: list[tuple[ItemResult, IdentifiedSource | None]] = []

    def run(self, items: Iterable[WorkItem | None]) -> Generator[ItemResult]:
        """Process every item; its record is on disk when it is yielded. None means no item yet.

        Raises RecordError where records or outputs cannot be written, ModelError where the model
        cannot be loaded; the error of a video becomes its record. A list ends with ``try_again``.
        """
        has_end = isinstance(items, Sequence)
        threads = min(2, os.cpu_count() or 1)
        with Prefetcher(
            _numbered(items), self._look, threads=threads, max_items=_VIDEOS_AHEAD
        ) as ahead:
            for (_, item), pieces in ahead:
                done = self._summarise_item(item, iter(pieces))
                self.tally.waited_seconds = ahead.stall_seconds
                self.tally.decoded_seconds = ahead.busy_seconds
                yield done
                if not has_end:
                    self._failures.clear()  # a folder watch yields changed files again itself
        yield from self.try_again()

    def try_again(self) -> Iterator[ItemResult]:
        """Retry unreadable files that have changed since: they were empty or still being written.

        An item whose result differs from the first one is yielded again.
        """
        failures, self._failures = self._failures, []
        for before, found in failures:
            item = listed_again(before.item)
            if found is not None and file_state(found.source.path) == found.state:
                continue
            pieces = self.looker.load(
                item,
                known_hash=self.known_hash,
                is_needed=lambda found, item=item: not self.is_done(item, found),  # type: ignore[misc]
                on_progress=self.on_progress,
            )
            self.tally.counts["failed"] -= 1
            done = self._summarise_item(item, pieces)
            if done.record.error is None or done.record.error != before.record.error:
                yield done

    # ------------------------------------------------------------ on the prefetch threads

    def _look(self, numbered: tuple[int, WorkItem]) -> Iterator[LoadedPart]:
        number, item = numbered
        return self.looker.load(
            item,
            known_hash=self.known_hash,
            is_needed=lambda found: self._is_needed(number, item, found),
            on_progress=self.on_progress,
        )

    def known_hash(self, path: str, stamp: tuple[int, ...]) -> str | None:
        """Return the recorded hash of a file that has not changed since."""
        entry = self.journal.entry(path)
        return entry.sha256 if entry is not None and entry.file_stat == stamp else None

    def _is_needed(self, number: int, item: WorkItem, found: IdentifiedSource) -> bool:
        """Whether the item must be decoded: not done before, and no duplicate is done or earlier in
        the list.
        """
        if found.sha256 is None:
            return True
        if self.is_done(item, found) or self.journal.has(found.sha256, self.settings_key):
            return False
        with self._lock:
            first = self._claimed.setdefault(found.sha256, number)
            self._claimed[found.sha256] = min(first, number)
        return first >= number

    def is_done(self, item: WorkItem, found: IdentifiedSource) -> bool:
        """Whether the log has a final record of this path, content and settings."""
        entry = self.journal.entry(item.path)
        return (
            entry is not None
            and entry.settings_key == self.settings_key
            and entry.sha256 == found.sha256
            and found.sha256 is not None
            and entry.is_final
            and not (entry.failed and self.retry)
        )

    # ------------------------------------------------------------ on the model's thread

    def _summarise_item(self, item: WorkItem, stream: Iterator[LoadedPart]) -> ItemResult:
        def find() -> IdentifiedSource:
            found = next(stream)
            assert isinstance(found, IdentifiedSource)
            return found

        def answer(
            facts: RecordContext, found: IdentifiedSource
        ) -> tuple[SummaryRecord, ItemStatus]:
            return self._answered(facts, found, stream)

        try:
            return self.finish_item(item, find, answer)
        except _EngineLoadFailed as missing:
            raise missing.why from None

    def finish_item(
        self,
        item: WorkItem,
        find: Callable[[], IdentifiedSource],
        answer: Callable[[RecordContext, IdentifiedSource], tuple[SummaryRecord, ItemStatus]],
    ) -> ItemResult:
        """Finish one item: write its record, then its outputs, and count it.

        ``find`` identifies the item, ``answer`` creates its record if one is needed; the errors
        that both may raise become its record.
        """
        facts = RecordContext(
            item, self.options, self._settings, self.settings_key, self.checkpoint
        )
        try:
            found = find()
            facts = facts.with_source(found)
            if self.is_done(item, found):
                return self._counted(self._reuse_record(item), found)
            record, outcome = answer(facts, found)
        except SmolVideoError as error:
            record, outcome = error_record(facts, error), "failed"
        if record.error is not None and self._same_failure(item, record):
            return self._counted(self._reuse_record(item), facts.found)
        record = replace(record, output=self.publisher.assign_output_name(item, record))
        self.journal.write(record)
        self.publisher.write(record, is_new=True)
        return self._counted(ItemResult(item, record, outcome, is_new=True), facts.found)

    def _counted(self, done: ItemResult, found: IdentifiedSource | None) -> ItemResult:
        """Add ``done`` to the tally; remember unreadable files for ``try_again``."""
        self.tally.counts[done.outcome] += 1
        if done.record.exit_code == ReaderError.exit_code and done.record.source.url is None:
            self._failures.append((done, found))
        return done

    def _reuse_record(self, item: WorkItem) -> ItemResult:
        record = self.journal.record(item.path)
        if record.path != item.path or not self.publisher.has_output_name(record):
            record = replace(record, path=item.path)
            record = replace(record, output=self.publisher.assign_output_name(item, record))
            self.journal.write(record)
        self.publisher.write(record, is_new=False)
        return ItemResult(
            item, record, "failed" if record.error is not None else "kept", is_new=False
        )

    def _same_failure(self, item: WorkItem, record: SummaryRecord) -> bool:
        """Whether the log already has this error, for example of a missing file."""
        entry = self.journal.entry(item.path)
        if entry is None or not entry.failed or entry.settings_key != self.settings_key:
            return False
        return self.journal.record(item.path).error == record.error and not self.retry

    def _answered(
        self, facts: RecordContext, found: IdentifiedSource, stream: Iterator[LoadedPart]
    ) -> tuple[SummaryRecord, ItemStatus]:
        if found.sha256 is not None:
            twin = self.journal.find_duplicate(found.sha256, self.settings_key)
            if twin is not None:
                return duplicate_record(facts, twin), "same"
        opened = next(stream, None)
        if opened is None:  # not prefetched: an earlier duplicate was expected to succeed
            return self.summarise_inline(facts, found), "made"
        return self._summarised(facts, chain((opened,), stream)), "made"

    def summarise_inline(self, facts: RecordContext, found: IdentifiedSource) -> SummaryRecord:
        """Decode and summarise an item that was not prefetched. Raises the video's errors."""
        return self._summarised(facts, self.looker.pieces_of(facts.item, found))

    def _summarised(self, facts: RecordContext, pieces: Iterator[LoadedPart]) -> SummaryRecord:
        started = time.perf_counter()
        try:
            engine = self._engine()
            return summarise_pieces(facts, pieces, engine, on_progress=self.on_progress)
        finally:
            self.tally.answered_seconds += time.perf_counter() - started

    def _engine(self) -> Engine:
        if self._loaded is None:
            try:
                self._loaded = self.engine()
            except SmolVideoError as error:
                raise _EngineLoadFailed(error) from error  # it ends the run, not one video
            self.tally.load_seconds = self._loaded.load_seconds
        return self._loaded
