"""Run loop: clip after clip, each answer synced before the next."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from smolvideo.engines import Engine, settled_arithmetic
from smolvideo.evals.evaluator import Evaluator
from smolvideo.evals.item import Benchmark, EvalItem
from smolvideo.evals.loader import ClipLoader, prefetch_one
from smolvideo.evals.outdated import outdated_answers
from smolvideo.evals.protocol import extractor_for
from smolvideo.evals.run_folder import (
    EvalAnswer,
    EvalVideo,
    Key,
    RunFolder,
    RunInfo,
    group_by_clip,
)
from smolvideo.evals.settings import EvalSettings, check_settings, select_items
from smolvideo.evals.shards import Shard, choose_shard
from smolvideo.evals.videos import VideoFinder
from smolvideo.files import file_state
from smolvideo.models import Checkpoint
from smolvideo.models.weight_hash import weights_hash
from smolvideo.pipeline import package_versions


@dataclass(frozen=True)
class EvalProgress:
    """Progress of a run: ``done`` of ``total`` answers; ``num_correct`` of ``answered`` in the main
    condition; ``failed`` have an error instead of an answer. ``video`` is the current one.
    """

    done: int
    total: int
    num_correct: int = 0
    answered: int = 0
    failed: int = 0
    video: str = ""


OnEvalProgress = Callable[[EvalProgress], None]


def open_run(
    folder: Path,
    benchmark: Benchmark,
    settings: EvalSettings,
    engine: Engine,
    shard: Shard | None = None,
) -> RunFolder:
    """Create the run in ``folder``, or open the existing one to resume it; see ``open_run_of``."""
    return open_run_of(folder, benchmark, settings, local_model(engine), shard)


def open_run_of(
    folder: Path,
    benchmark: Benchmark,
    settings: EvalSettings,
    model: "EvalModel",
    shard: Shard | None = None,
) -> RunFolder:
    """Create the run of a model, or open the existing one to resume it.

    Raises UsageError for settings that cannot be honoured or that differ from the existing run's,
    RecordError if the folder cannot be used.
    """
    check_settings(settings, benchmark)
    items = select_items(benchmark.items, settings)
    part = None if shard is None else choose_shard(items, shard)
    if part is not None:
        items = tuple(items[position] for position in part.positions)
    extractor = extractor_for(settings.extractor, benchmark.name)
    info = RunInfo(
        benchmark={
            "name": benchmark.name,
            "source": benchmark.source,
            "sha256": benchmark.sha256,
            "items": len(benchmark.items),
        },
        settings=settings.to_dict() | {"extractor": extractor},
        model=model.identity,
        versions=package_versions(),
        notices=benchmark.notices,
        model_reason=model.checkpoint.model_reason,
        shard=part,
    )
    return RunFolder.open(folder, info, items)


@dataclass(frozen=True)
class ClipAnswers:
    """A clip and the answers about it, which may be computed while they are iterated.

    ``unread`` is a file that could not be read; see ``DecodedClip``.
    """

    items: tuple[EvalItem, ...]
    video: EvalVideo
    thumbnails: bytes | None
    unread: Path | None
    answers: Iterable[EvalAnswer]

    @property
    def is_worth_another_try(self) -> bool:
        """Whether the unreadable file has changed since."""
        return self.unread is not None and file_state(self.unread) != self.video.stamp


AnswerClips = Callable[[Iterable[list[EvalItem]], set[Key]], Iterator[ClipAnswers]]
"""Answers the wanted keys of clips, in order; a clip is a list of items."""


@dataclass(frozen=True)
class LocalAnswers:
    """Answers clips in this process; the next one is decoded meanwhile."""

    engine: Engine
    loader: ClipLoader

    def __call__(self, clips: Iterable[list[EvalItem]], wanted: set[Key]) -> Iterator[ClipAnswers]:
        evaluator = Evaluator(self.engine, self.loader.settings, self.loader.benchmark)
        for clip in prefetch_one(clips, self.loader.load):
            items = tuple(ready.item for ready in clip.items)
            answers = evaluator.evaluate(clip, wanted)
            yield ClipAnswers(items, clip.video, clip.thumbnails, clip.unread, answers)


@dataclass(frozen=True)
class EvalModel:
    """A model that answers: ``identity`` is its ``model_identity``.

    ``answers`` makes the answers of clips with the settings, videos and notices of a loader.
    """

    checkpoint: Checkpoint
    identity: dict[str, Any]
    answers: Callable[[ClipLoader], AnswerClips]


def local_model(engine: Engine) -> EvalModel:
    """Return the model of an engine in this process."""
    return EvalModel(engine.checkpoint, model_identity(engine), partial(LocalAnswers, engine))


def run_eval(
    run: RunFolder,
    settings: EvalSettings,
    engine: Engine,
    finder: VideoFinder,
    *,
    only_failed: bool = False,
    on_news: OnEvalProgress = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> dict[Key, EvalAnswer]:
    """Ask every question without an answer with ``engine``; see ``run_clips``."""
    loader = ClipLoader(engine.checkpoint, settings, run.info.benchmark["name"], finder)
    answer = LocalAnswers(engine, loader)
    return run_clips(run, loader, answer, only_failed=only_failed, on_news=on_news, on_note=on_note)


def run_clips(
    run: RunFolder,
    loader: ClipLoader,
    answer: AnswerClips,
    *,
    only_failed: bool = False,
    on_news: OnEvalProgress = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> dict[Key, EvalAnswer]:
    """Ask every question without an answer, including failed ones (``only_failed``: only those).

    Answers about a file whose content has changed are asked again. Returns all answers of the run
    in its order. Videos that are missing or broken, and prompts that do not fit, are answers with
    an error; a file that was still growing is tried once more at the end. Raises RecordError if the
    folder cannot be written or another process has locked it.
    """
    with run.lock():
        known = run.answers()
        outdated = outdated_answers(run, known, loader, on_note)
        loader.notices = outdated.notices
        wanted = {
            key
            for key in run.expected_keys()
            if key in outdated.keys or (known[key].failed if key in known else not only_failed)
        }
        try:
            _ask_all(run, answer, known, wanted, on_news)
        finally:
            if loader.finder.downloads is not None:
                loader.finder.downloads.stop.set()  # do not wait for unused downloads
        run.rewrite_in_order()
        return run.answers()


def _ask_all(
    run: RunFolder,
    answer: AnswerClips,
    known: dict[Key, EvalAnswer],
    wanted: set[Key],
    on_news: OnEvalProgress,
) -> None:
    conditions = ("main", *run.info.settings["controls"])
    todo = [
        items
        for items in group_by_clip(run.items)
        if any((condition, item.id) in wanted for item in items for condition in conditions)
    ]
    counts = _Counts(run, known, wanted)
    on_news(counts.progress())
    unread: list[ClipAnswers] = []
    with run.answer_writer() as answers, run.video_writer() as videos:

        def keep(clip: ClipAnswers) -> None:
            started = time.perf_counter()
            # Before its answers, from which a later run concludes that the clip is done.
            if clip.thumbnails is not None and clip.video.strip is not None:
                run.save_thumbnails(clip.video.strip, clip.thumbnails)
            videos.write(clip.video)
            for one in clip.answers:
                answers.write(one)
                counts.add(one)
                on_news(counts.progress(one.video))
            spent = round(time.perf_counter() - started, 3)
            # A worker has measured its own.
            seconds = {**clip.video.seconds, "generate": clip.video.seconds.get("generate", spent)}
            videos.write(replace(clip.video, seconds=seconds))

        # Unreadable files that have changed meanwhile get a second try.
        for clip in answer(todo, wanted):
            keep(clip)
            if clip.unread is not None:
                unread.append(clip)
        changed = (list(clip.items) for clip in unread if clip.is_worth_another_try)
        for clip in answer(changed, wanted):
            keep(clip)


class _Counts:
    """Counts of answers in this run and before; the last answer of each key counts."""

    def __init__(self, run: RunFolder, known: dict[Key, EvalAnswer], wanted: set[Key]) -> None:
        self._total = sum(1 for _ in run.expected_keys())
        self._unlabelled = {item.id for item in run.items if item.answer_index is None}
        self._failed: set[Key] = set()
        self._right: dict[Key, bool] = {}
        self._done: set[Key] = set()
        for key, answer in known.items():
            if key not in wanted:
                self.add(answer)

    def add(self, answer: EvalAnswer) -> None:
        self._done.add(answer.key)
        if answer.failed:
            self._failed.add(answer.key)
            return
        self._failed.discard(answer.key)
        if answer.condition == "main" and answer.id not in self._unlabelled:
            self._right[answer.key] = answer.correct

    def progress(self, video: str = "") -> EvalProgress:
        right = sum(self._right.values())
        return EvalProgress(
            len(self._done), self._total, right, len(self._right), len(self._failed), video
        )


def model_identity(engine: Engine) -> dict[str, Any]:
    """Identify the model for a run: checkpoint, revision or else weights hash, and engine."""
    checkpoint = engine.checkpoint
    return {
        "name": checkpoint.name,
        "revision": checkpoint.revision,
        "weights": None if checkpoint.revision else weights_hash(checkpoint),
        "adapter": checkpoint.adapter_sha256,
        "engine": engine.name,
        "device": engine.device,
        "dtype": engine.dtype,
        "quantize": engine.quantize,
        "arithmetic": settled_arithmetic(engine),
    }
