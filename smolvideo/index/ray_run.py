"""A run on a Ray cluster: index file, claims and subtitles stay in this process.

Workers decode and ask the model, one video at a time; this process alone writes, in the order of
the list. So the index is that of a local run, and a run may switch between the two.
"""

import os
import pickle
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smolvideo.engines import EngineSpec, FeatureCache
from smolvideo.errors import ModelError, SmolVideoError
from smolvideo.index.build import IndexedItem, IndexRun
from smolvideo.index.options import IndexOptions
from smolvideo.index.window_notes import NotedPart, NotedWindow, WindowNotes
from smolvideo.ray_cluster import RayOptions, map_rows
from smolvideo.source import DownloadOptions
from smolvideo.summaries.loader import IdentifiedSource, ProbedVideo
from smolvideo.summaries.worklist import WorkItem


@dataclass(frozen=True)
class _NotedVideo:
    """What a worker made of a video: all of it, or what came before its error."""

    parts: tuple[NotedPart, ...]
    error: SmolVideoError | None = None


def run_on_cluster(
    run: IndexRun,
    items: Sequence[WorkItem],
    spec: EngineSpec,
    cluster: RayOptions,
    cache: FeatureCache | None = None,
) -> Generator[IndexedItem]:
    """Run ``IndexRun.run`` with the windows noted by workers; a video is written as a whole.

    All videos are claimed before the first is indexed. Raises as ``IndexRun.run``; UsageError where
    Ray is missing or does not answer, ModelError where the workers fail.
    """
    claimed: dict[int, str] = {}
    try:
        found = [_find(run, item) for item in items]
        rows = []
        for number, (item, one) in enumerate(zip(items, found, strict=True)):
            if isinstance(one, SmolVideoError):
                continue
            there = run.reserve(item, one)
            if there is not None:
                claimed[number] = str(one.sha256)
                rows.append({"task": pickle.dumps((*_on_disk(item, one), there))})
        arguments = (spec, run.options, run.download, run.settings_key, cache)
        with closing(map_rows(rows, _Worker, arguments, cluster)) as answers:
            for number, (item, one) in enumerate(zip(items, found, strict=True)):
                noted = pickle.loads(next(answers)["noted"]) if number in claimed else None
                done = run.index_item(item, _parts(one, noted))
                if number in claimed:
                    run.release(claimed.pop(number))
                if done is not None:
                    yield done
            next(answers, None)  # exhausts the iterator, so that Ray frees the dataset
        yield from run.index_busy()
    finally:
        with suppress(SmolVideoError):
            for sha256 in claimed.values():
                run.release(sha256)


def _find(run: IndexRun, item: WorkItem) -> IdentifiedSource | SmolVideoError:
    try:
        return run.identify(item)
    except SmolVideoError as error:
        return error


def _on_disk(item: WorkItem, found: IdentifiedSource) -> tuple[WorkItem, IdentifiedSource]:
    """Name the file in full, as workers have other working folders; a download is not repeated."""
    source = replace(found.source, path=Path(os.path.abspath(found.source.path)))
    return replace(item, source=source), replace(found, source=source)


def _parts(
    found: IdentifiedSource | SmolVideoError, noted: _NotedVideo | None
) -> Iterator[NotedPart]:
    """Yield the parts of an item as if they were made here. Raises its error."""
    if isinstance(found, SmolVideoError):
        raise found
    yield found
    if noted is not None:
        yield from noted.parts
        if noted.error is not None:
            raise noted.error


class _Worker:
    """Actor with one engine and one loader; constructed once per worker."""

    def __init__(
        self,
        spec: EngineSpec,
        options: IndexOptions,
        download: DownloadOptions,
        settings_key: str,
        cache: FeatureCache | None,
    ) -> None:
        engine = spec.load(cache=cache)
        if options.key(engine.checkpoint, spec.quantize) != settings_key:
            revision = engine.checkpoint.revision
            raise ModelError(
                f"a worker has another `{spec.model}` than this machine: revision {revision}"
            )
        self._notes = WindowNotes(engine.checkpoint, lambda: engine, options)
        self._loader = self._notes.loader(download)

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        noted = [self._note(*pickle.loads(task)) for task in rows["task"]]
        return {"noted": [pickle.dumps(video) for video in noted]}

    def _note(self, item: WorkItem, found: IdentifiedSource, there: Collection[int]) -> _NotedVideo:
        noted: list[ProbedVideo | NotedWindow] = []
        try:
            pieces = self._loader.pieces_of(item, found)
            opened = next(pieces)
            assert isinstance(opened, ProbedVideo)
            noted.append(opened)
            for window in self._notes.note_windows(pieces, there):
                noted.append(window)
        except SmolVideoError as error:
            return _NotedVideo(tuple(noted), error)
        return _NotedVideo(tuple(noted))
