"""Many videos, one after the other: looked at ahead, answered, recorded, written.

The order is that of the list, whatever the threads do, so that a run that was killed and started
again leaves the same as one that was not.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

from smolvideo.engines import Engine
from smolvideo.errors import SmolVideoError
from smolvideo.models import Checkpoint
from smolvideo.progress import OnProgress, no_progress
from smolvideo.source import DownloadOptions
from smolvideo.summaries.ahead import Ahead, Pieces
from smolvideo.summaries.journal import Journal
from smolvideo.summaries.looking import Found, Looker, Piece, frames_of_window
from smolvideo.summaries.options import SummaryOptions, key_of
from smolvideo.summaries.publishing import Publisher
from smolvideo.summaries.record import SummaryRecord
from smolvideo.summaries.recording import Facts, failed_record, same_record
from smolvideo.summaries.summarising import summarise_pieces
from smolvideo.summaries.worklist import WorkItem

Outcome = Literal["made", "same", "kept", "failed"]
"""Summarised now; the same content as another; done by an earlier run; an error in its place."""

_VIDEOS_AHEAD = 3


@dataclass(frozen=True)
class Done:
    """One item of the list, dealt with: its record, and how it came about.

    ``is_new`` is False where the record was there before this run.
    """

    item: WorkItem
    record: SummaryRecord
    outcome: Outcome
    is_new: bool


@dataclass
class Tally:
    """What a run has done so far."""

    counts: dict[Outcome, int] = field(
        default_factory=lambda: {"made": 0, "same": 0, "kept": 0, "failed": 0}
    )
    video_seconds: float = 0.0
    answered_seconds: float = 0.0
    waited_seconds: float = 0.0
    decoded_seconds: float = 0.0
    load_seconds: float = 0.0

    @property
    def total(self) -> int:
        """Videos dealt with."""
        return sum(self.counts.values())


class _EngineMissing(Exception):
    """Carries the error of loading the model past those who look for errors of a video."""

    def __init__(self, why: SmolVideoError) -> None:
        super().__init__(why)
        self.why = why


def _numbered(items: Iterable[WorkItem | None]) -> Iterator[tuple[int, WorkItem] | None]:
    number = 0
    for item in items:
        yield None if item is None else (number, item)
        number += item is not None


@dataclass
class Batch:
    """A run over a list of videos, with one model and one set of options.

    ``engine`` is called once, when the first question is asked; ``quantise`` is its own. ``retry``
    does again what ended in an error of the file itself.
    """

    checkpoint: Checkpoint
    engine: Callable[[], Engine]
    options: SummaryOptions
    journal: Journal
    publisher: Publisher
    download: DownloadOptions = field(default_factory=DownloadOptions)
    retry: bool = False
    quantise: str = "none"
    on_progress: OnProgress = no_progress
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._settings = self.options.settings(self.checkpoint, self.quantise)
        self.settings_key = key_of(self._settings)
        self.looker = Looker(
            self.checkpoint,
            self.options,
            self.download,
            frames_of_window(self.checkpoint, self.options),
        )
        self._loaded: Engine | None = None
        self._claimed: dict[str, int] = {}
        self._lock = threading.Lock()

    def run(self, items: Iterable[WorkItem | None]) -> Iterator[Done]:
        """Deal with every item; its record is on disk when it is yielded. None is no item yet.

        Raises RecordError where records or outputs cannot be written, ModelError where the model
        cannot be loaded; errors of a video are its record.
        """
        threads = min(2, os.cpu_count() or 1)
        with Ahead(_numbered(items), self._look, threads=threads, videos=_VIDEOS_AHEAD) as ahead:
            for (_, item), pieces in ahead:
                try:
                    done = self._deal_with(item, pieces)
                except _EngineMissing as missing:
                    raise missing.why from None
                self.count(done)
                self.tally.waited_seconds = ahead.waited_seconds
                self.tally.decoded_seconds = ahead.busy_seconds
                yield done

    # ------------------------------------------------------------ in the decoding threads

    def _look(self, numbered: tuple[int, WorkItem]) -> Iterator[Piece]:
        number, item = numbered
        return self.looker.pieces(
            item,
            known_hash=self.known_hash,
            is_needed=lambda found: self._is_needed(number, item, found),
            on_progress=self.on_progress,
        )

    def known_hash(self, path: str, stamp: tuple[int, ...]) -> str | None:
        """The hash in the journal of a file that has not changed since."""
        entry = self.journal.entry(path)
        return entry.sha256 if entry is not None and entry.stamp == stamp else None

    def _is_needed(self, number: int, item: WorkItem, found: Found) -> bool:
        """Whether its frames will be asked about: not done before, and no twin that is done or
        earlier in the list."""
        if found.sha256 is None:
            return True
        if self.is_done(item, found) or self.journal.has(found.sha256, self.settings_key):
            return False
        with self._lock:
            first = self._claimed.setdefault(found.sha256, number)
            self._claimed[found.sha256] = min(first, number)
        return first >= number

    def is_done(self, item: WorkItem, found: Found) -> bool:
        """Whether the journal has this content with these settings for this path."""
        entry = self.journal.entry(item.path)
        return (
            entry is not None
            and entry.settings_key == self.settings_key
            and entry.sha256 == found.sha256
            and found.sha256 is not None
            and entry.final
            and not (entry.failed and self.retry)
        )

    # ------------------------------------------------------------ in the thread of the model

    def _deal_with(self, item: WorkItem, pieces: Pieces[Piece]) -> Done:
        stream = iter(pieces)

        def find() -> Found:
            found = next(stream)
            assert isinstance(found, Found)
            return found

        return self.settle(item, find, lambda facts, found: self._answered(facts, found, stream))

    def settle(
        self,
        item: WorkItem,
        find: Callable[[], Found],
        answer: Callable[[Facts, Found], tuple[SummaryRecord, Outcome]],
    ) -> Done:
        """Bring one item to its end: its record on disk, its outputs after it.

        ``find`` says what the item is, ``answer`` makes its record if that is needed; the errors
        that both may raise become its record.
        """
        facts = Facts(item, self.options, self._settings, self.settings_key, self.checkpoint)
        try:
            found = find()
            facts = facts.of(found)
            if self.is_done(item, found):
                return self._keep(item)
            record, outcome = answer(facts, found)
        except SmolVideoError as error:
            record, outcome = failed_record(facts, error), "failed"
        if record.error is not None and self._same_failure(item, record):
            return self._keep(item)
        record = replace(record, output=self.publisher.outputs_of(item, record))
        self.journal.write(record)
        self.publisher.publish(record, is_new=True)
        return Done(item, record, outcome, is_new=True)

    def count(self, done: Done) -> None:
        """Add one item to the tally."""
        self.tally.counts[done.outcome] += 1
        self.tally.video_seconds += done.record.duration_seconds or 0.0

    def _keep(self, item: WorkItem) -> Done:
        record = self.journal.record(item.path)
        if record.path != item.path or not self.publisher.is_placed(record):
            record = replace(record, path=item.path)
            record = replace(record, output=self.publisher.outputs_of(item, record))
            self.journal.write(record)
        self.publisher.publish(record, is_new=False)
        return Done(item, record, "failed" if record.error is not None else "kept", is_new=False)

    def _same_failure(self, item: WorkItem, record: SummaryRecord) -> bool:
        """Whether this very error is in the journal already: of a file that is not there, say."""
        entry = self.journal.entry(item.path)
        if entry is None or not entry.failed or entry.settings_key != self.settings_key:
            return False
        return self.journal.record(item.path).error == record.error and not self.retry

    def _answered(
        self, facts: Facts, found: Found, stream: Iterator[Piece]
    ) -> tuple[SummaryRecord, Outcome]:
        if found.sha256 is not None:
            twin = self.journal.same_content(found.sha256, self.settings_key)
            if twin is not None:
                return same_record(facts, twin), "same"
        opened = next(stream, None)
        if opened is None:  # its earlier twin failed, with an error that is this one's, too
            return self.answer_here(facts, found), "made"
        return self._summarised(facts, chain((opened,), stream)), "made"

    def answer_here(self, facts: Facts, found: Found) -> SummaryRecord:
        """The record of an item that nobody looked at ahead. Raises the errors of the video."""
        stream = self.looker.pieces(
            facts.item, known_hash=lambda *_: found.sha256, is_needed=lambda _: True
        )
        next(stream)
        return self._summarised(facts, stream)

    def _summarised(self, facts: Facts, pieces: Iterator[Piece]) -> SummaryRecord:
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
                raise _EngineMissing(error) from error  # no video's fault: it ends the run
            self.tally.load_seconds = self._loaded.load_seconds
        return self._loaded
