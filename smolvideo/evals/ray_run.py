"""A run on a Ray cluster: run folder, items and answers stay in this process.

Workers decode and answer, one video at a time. As all files of the run are local, a cluster run
resumes as a local one does, a run may switch between the two, and its answers are the same bytes.
"""

import os
import pickle
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from smolvideo.engines import EngineSpec
from smolvideo.errors import ModelError
from smolvideo.evals.evaluator import Evaluator
from smolvideo.evals.item import EvalItem
from smolvideo.evals.loader import ClipLoader
from smolvideo.evals.run import ClipAnswers, EvalModel, model_identity
from smolvideo.evals.run_folder import Key, clip_id
from smolvideo.evals.settings import EvalSettings
from smolvideo.evals.videos import VideoFinder, VideoFolder
from smolvideo.ray_cluster import RayOptions, connected, map_rows


class _Clip(NamedTuple):
    items: list[EvalItem]
    wanted: set[Key]
    notices: tuple[str, ...]


@contextmanager
def cluster_model(spec: EngineSpec, cluster: RayOptions) -> Iterator[EvalModel]:
    """Connect to a cluster, whose workers load ``spec``; raises as ``map_rows`` does.

    The first worker names the engine, because its device and arithmetic may be others than those
    of this machine.
    """
    with connected(cluster):
        rows = [{"task": pickle.dumps(None)}]
        (row,) = map_rows(rows, _Identity, (spec,), replace(cluster, workers=1))
        model = dict(pickle.loads(row["found"]))
        yield EvalModel(spec.checkpoint(), model, partial(_ClusterAnswers, spec, cluster, model))


@dataclass(frozen=True)
class _ClusterAnswers:
    """Answers clips on a cluster, the clips of one video on one worker."""

    spec: EngineSpec
    cluster: RayOptions
    model: dict[str, Any]
    loader: ClipLoader

    def __call__(self, clips: Iterable[list[EvalItem]], wanted: set[Key]) -> Iterator[ClipAnswers]:
        videos: dict[tuple[str, ...], list[list[EvalItem]]] = {}
        order = []
        for items in clips:
            videos.setdefault(items[0].video_names, []).append(items)
            order.append(clip_id(items[0]))
        tasks = [[self._task(items, wanted) for items in of] for of in videos.values()]
        waiting: dict[str, ClipAnswers] = {}
        with closing(self._answered(tasks)) as answered:
            for clip in order:
                while clip not in waiting:
                    waiting |= {clip_id(one.items[0]): one for one in next(answered)}
                yield waiting.pop(clip)
            next(answered, None)  # exhausts the iterator, so that Ray frees the dataset

    def _answered(self, tasks: list[list[_Clip]]) -> Generator[list[ClipAnswers]]:
        folder = self.loader.finder.folder
        assert folder is not None, "workers do not download"
        videos = Path(os.path.abspath(folder.folder))  # workers have other working folders
        arguments = (self.spec, self.loader.settings, self.loader.benchmark, videos, self.model)
        rows = [{"task": pickle.dumps(task)} for task in tasks]
        for row in map_rows(rows, _Worker, arguments, self.cluster):
            yield pickle.loads(row["found"])

    def _task(self, items: list[EvalItem], wanted: set[Key]) -> _Clip:
        conditions = self.loader.settings.conditions
        own = {(condition, item.id) for item in items for condition in conditions}
        notices = self.loader.notices.get(clip_id(items[0]), ())
        return _Clip(items, {key for key in own if key in wanted}, notices)


class _Identity:
    """Actor that loads the engine and names it."""

    def __init__(self, spec: EngineSpec) -> None:
        self._model = model_identity(spec.load())

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        return {"found": [pickle.dumps(self._model) for _ in rows["task"]]}


class _Worker:
    """Actor with one engine and one loader; constructed once per worker."""

    def __init__(
        self,
        spec: EngineSpec,
        settings: EvalSettings,
        benchmark: str,
        videos: Path,
        model: dict[str, Any],
    ) -> None:
        engine = spec.load()
        own = model_identity(engine)
        if own != model:
            differing = [f"{name} {own[name]}" for name in own if own[name] != model.get(name)]
            raise ModelError(f"a worker has another engine than the run: {', '.join(differing)}")
        finder = VideoFinder(VideoFolder(videos))
        self._loader = ClipLoader(engine.checkpoint, settings, benchmark, finder)
        self._evaluator = Evaluator(engine, settings, benchmark)

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        found = [[self._answer(clip) for clip in pickle.loads(task)] for task in rows["task"]]
        return {"found": [pickle.dumps(clips) for clips in found]}

    def _answer(self, clip: _Clip) -> ClipAnswers:
        self._loader.notices = {clip_id(clip.items[0]): clip.notices}
        look = self._loader.load(clip.items)
        started = time.perf_counter()
        answers = tuple(self._evaluator.evaluate(look, clip.wanted))
        spent = round(time.perf_counter() - started, 3)
        video = replace(look.video, seconds={**look.video.seconds, "generate": spent})
        return ClipAnswers(tuple(clip.items), video, look.thumbnails, look.unread, answers)
