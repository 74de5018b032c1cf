"""A run on a Ray cluster: list, records and outputs stay in this process.

Workers decode and answer. As the records are local, a cluster run resumes as a local one does, and
a run may switch between the two. Workers return finished summaries only, see ``ray_cluster.py``.
"""

import pickle
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

from smolvideo.engines import EngineSpec
from smolvideo.errors import SmolVideoError
from smolvideo.ray_cluster import RayOptions, map_rows
from smolvideo.source import DownloadOptions
from smolvideo.summaries.inference import (
    RecordContext,
    duplicate_record,
    error_record,
    summarise_pieces,
)
from smolvideo.summaries.loader import IdentifiedSource, VideoLoader, frames_per_window, identify
from smolvideo.summaries.options import SummaryOptions, settings_hash
from smolvideo.summaries.record_log import SummaryRecord
from smolvideo.summaries.run import ItemResult, ItemStatus, SummaryRun
from smolvideo.summaries.worklist import WorkItem, resolve_item


def run_on_cluster(
    batch: SummaryRun, items: Sequence[WorkItem], spec: EngineSpec, cluster: RayOptions
) -> Generator[ItemResult]:
    """Run ``SummaryRun.run`` with the answers computed by workers.

    Raises UsageError where Ray is missing or does not answer, ModelError where the workers cannot
    load the model.
    """
    found = [_find(batch, item) for item in items]
    rows = _rows_to_do(batch, items, found)
    answers = _answers(batch, rows, spec, cluster)
    needed = {row["number"] for row in rows}
    with closing(answers):
        for number, item in enumerate(items):
            row = next(answers) if number in needed else None
            yield batch.finish_item(item, _raise_or(found[number]), _answer_of(batch, row))
        next(answers, None)  # exhausts the iterator, so that Ray frees the dataset
    yield from batch.try_again()


def _find(batch: SummaryRun, item: WorkItem) -> IdentifiedSource | SmolVideoError:
    try:
        source = resolve_item(item, batch.download, batch.on_progress)
        return identify(source, item.path, batch.known_hash)
    except SmolVideoError as error:
        return error


def _rows_to_do(
    batch: SummaryRun, items: Sequence[WorkItem], found: Sequence[IdentifiedSource | SmolVideoError]
) -> list[dict[str, Any]]:
    """Rows of the items that need an answer: not done before, and the first of their content."""
    rows, contents = [], set()
    for number, (item, one) in enumerate(zip(items, found, strict=True)):
        if isinstance(one, SmolVideoError) or batch.is_done(item, one) or one.sha256 in contents:
            continue
        if one.sha256 is not None:
            contents.add(one.sha256)
            if batch.journal.find_duplicate(one.sha256, batch.settings_key) is not None:
                continue
        rows.append({"number": number, "task": pickle.dumps((item, one))})
    return rows


def _raise_or(found: IdentifiedSource | SmolVideoError) -> Any:
    def find() -> IdentifiedSource:
        if isinstance(found, SmolVideoError):
            raise found
        return found

    return find


def _answer_of(batch: SummaryRun, row: SummaryRecord | None) -> Any:
    def answer(facts: RecordContext, found: IdentifiedSource) -> tuple[SummaryRecord, ItemStatus]:
        if row is not None:
            return row, "failed" if row.error is not None else "made"
        assert found.sha256 is not None
        twin = batch.journal.find_duplicate(found.sha256, batch.settings_key)
        if twin is not None:
            return duplicate_record(facts, twin), "same"
        # The first item with this content failed: repeat it here, for an error or a result.
        return batch.summarise_inline(facts, found), "made"

    return answer


def _answers(
    batch: SummaryRun, rows: list[dict[str, Any]], spec: EngineSpec, cluster: RayOptions
) -> Generator[SummaryRecord]:
    """Yield the records of ``rows`` from the workers, in order."""
    arguments = (spec, batch.options, batch.download)
    for row in map_rows(rows, _Worker, arguments, cluster):
        yield SummaryRecord.from_json(row["record"])


class _Worker:
    """Actor with one engine and one loader; constructed once per worker."""

    def __init__(
        self, spec: EngineSpec, options: SummaryOptions, download: DownloadOptions
    ) -> None:
        self._engine = spec.load()
        self._options = options
        checkpoint = self._engine.checkpoint
        self._settings = options.settings(checkpoint, spec.quantize)
        frames = frames_per_window(checkpoint, options)
        self._looker = VideoLoader(checkpoint, options, download, frames)

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        records = [self._summarise(*pickle.loads(task)).to_json() for task in rows["task"]]
        return {"record": records}

    def _summarise(self, item: WorkItem, found: IdentifiedSource) -> SummaryRecord:
        key = settings_hash(self._settings)
        facts = RecordContext(
            item, self._options, self._settings, key, self._engine.checkpoint
        ).with_source(found)
        try:
            return summarise_pieces(facts, self._looker.pieces_of(item, found), self._engine)
        except SmolVideoError as error:
            return error_record(facts, error)
