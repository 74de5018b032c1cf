"""Run loop: clip after clip, each answer synced before the next; stale answers are detected."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from smolvideo.engines import Engine, settled_arithmetic
from smolvideo.errors import RecordError, SourceError
from smolvideo.evals.evaluator import Evaluator
from smolvideo.evals.item import Benchmark, EvalItem
from smolvideo.evals.loader import ClipLoader, DecodedClip, prefetch_one
from smolvideo.evals.protocol import extractor_for
from smolvideo.evals.run_folder import (
    EvalAnswer,
    EvalVideo,
    Key,
    RunFolder,
    RunInfo,
    clip_id,
    group_by_clip,
)
from smolvideo.evals.settings import EvalSettings, check_settings, select_items
from smolvideo.evals.shards import Shard, choose_shard
from smolvideo.evals.videos import MissingVideo, VideoFinder
from smolvideo.files import file_state
from smolvideo.models.weight_hash import weights_hash
from smolvideo.pipeline import package_versions
from smolvideo.sanitize import display_name, display_path


@dataclass
class OutdatedAnswers:
    """Stale answers' keys; ``notices`` maps clip ids to the reasons, for their records."""

    keys: set[Key] = field(default_factory=set)
    notices: dict[str, tuple[str, ...]] = field(default_factory=dict)


def outdated_answers(
    run: RunFolder,
    known: Mapping[Key, EvalAnswer],
    looker: ClipLoader,
    on_note: Callable[[str], None],
) -> OutdatedAnswers:
    """Return the ``known`` answers whose video or subtitles have other content now.

    A video is hashed only if its file state differs from the one recorded with its hash. Answers
    about files that no longer exist stay valid; ``on_note`` is called for both cases.
    """
    videos = run.videos()
    outdated = OutdatedAnswers()
    unseen: list[str] = []
    silent: list[str] = []
    with run.video_writer() as writer:
        for items in group_by_clip(run.items):
            # The clip's answers, and the state of its files now.
            answers = _answers_to(items, known, looker)
            before = videos.get(clip_id(items[0]))
            if not answers or before is None or before.sha256 is None:
                continue
            now = _current_state(items[0], before, looker)
            if now is None:
                unseen.append(items[0].video)
                continue
            # Answers about other content.
            other_video = [one for one in answers if (one.sha256 or before.sha256) != now.sha256]
            other_subtitles = _with_other_subtitles(items, answers, looker, silent)
            notices = [
                *_notice_for(f"the video `{display_name(items[0].video)}` has", other_video),
                *(
                    notice
                    for path, of_path in other_subtitles.items()
                    for notice in _notice_for(f"the subtitles {display_path(path)} have", of_path)
                ),
            ]
            changed = [*other_video, *(one for of in other_subtitles.values() for one in of)]
            if changed:
                outdated.keys |= {one.key for one in changed}
                outdated.notices[before.look] = tuple(notices)
                for notice in notices:
                    on_note(notice)
            elif now != before:
                writer.write(now)  # saves the next run hashing the file again
    for noun, gone in (("video", unseen), ("subtitle file", silent)):
        if gone:
            names = ", ".join(f"`{display_name(name)}`" for name in gone[:3])
            more = ", …" if len(gone) > 3 else ""
            on_note(
                f"{_counted(len(gone), noun)} no longer found as answered about, so the answers "
                f"stand as they are: {names}{more}"
            )
    return outdated


def _answers_to(
    items: Sequence[EvalItem], known: Mapping[Key, EvalAnswer], looker: ClipLoader
) -> list[EvalAnswer]:
    keys = [(condition, item.id) for item in items for condition in looker.settings.conditions]
    return [known[key] for key in keys if key in known and not known[key].failed]


def _notice_for(what: str, answers: Sequence[EvalAnswer]) -> Iterable[str]:
    if answers:
        count = _counted(len(answers), "answer")
        yield f"{what} another content than when it was asked about: {count} asked anew"


def _with_other_subtitles(
    items: Sequence[EvalItem],
    answers: Sequence[EvalAnswer],
    looker: ClipLoader,
    silent: list[str],
) -> dict[Path, list[EvalAnswer]]:
    """Return the answers whose subtitle file has other content now, by that file.

    Videos whose file no longer exists are added to ``silent``. Answers from before subtitle hashes
    were recorded stay valid, unless they had no subtitles.
    """
    found: dict[Path, list[EvalAnswer]] = {}
    for item in items:
        of_item = [answer for answer in answers if answer.id == item.id]
        path = _subtitles_now(item, looker)
        if path is None:
            if any(answer.subtitles_sha256 for answer in of_item):
                silent.append(item.video)
            continue
        now = looker.content_hash(path)
        for answer in of_item:
            is_known = answer.subtitles_sha256 is not None or answer.subtitles is None
            if is_known and answer.subtitles_sha256 != now:
                found.setdefault(path, []).append(answer)
    return found


def _subtitles_now(item: EvalItem, looker: ClipLoader) -> Path | None:
    try:
        return looker.subtitle_file(item, looker.finder.find(item).source.path)
    except (MissingVideo, RecordError, SourceError):  # the evaluation reports it
        return None


def _current_state(item: EvalItem, before: EvalVideo, looker: ClipLoader) -> EvalVideo | None:
    """``before`` with the file's current state and hash; None without a file."""
    try:
        path = looker.finder.path(item)
        if path is None:
            return None
        source = looker.finder.find(item).source
        stamp = file_state(source.path)
        if stamp and stamp == before.stamp:
            return before
        return replace(before, stamp=stamp, sha256=looker.content_hash(source.path))
    except (MissingVideo, RecordError):
        return None
    except SourceError:  # the file exists but is no longer a video
        return replace(before, sha256=None)


def _counted(count: int, noun: str) -> str:
    return f"1 {noun} is" if count == 1 else f"{count:,} {noun}s are"


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
    """Create the run in ``folder``, or open the existing one to resume it.

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
        model=model_identity(engine),
        versions=package_versions(),
        notices=benchmark.notices,
        model_reason=engine.checkpoint.model_reason,
        shard=part,
    )
    return RunFolder.open(folder, info, items)


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
    """Ask every question without an answer, including failed ones (``only_failed``: only those).

    Answers about a file whose content has changed are asked again. Returns all answers of the run
    in its order. Videos that are missing or broken, and prompts that do not fit, are answers with
    an error; a file that was still growing is tried once more at the end. Raises RecordError if the
    folder cannot be written or another process has locked it.
    """
    with run.lock():
        known = run.answers()
        looker = ClipLoader(engine.checkpoint, settings, run.info.benchmark["name"], finder)
        outdated = outdated_answers(run, known, looker, on_note)
        looker.notices = outdated.notices
        wanted = {
            key
            for key in run.expected_keys()
            if key in outdated.keys or (known[key].failed if key in known else not only_failed)
        }
        _ask_all(run, looker, Evaluator(engine, settings, looker.benchmark), known, wanted, on_news)
        run.rewrite_in_order()
        return run.answers()


def _ask_all(
    run: RunFolder,
    looker: ClipLoader,
    asker: Evaluator,
    known: dict[Key, EvalAnswer],
    wanted: set[Key],
    on_news: OnEvalProgress,
) -> None:
    conditions = asker.settings.conditions
    todo = [
        items
        for items in group_by_clip(run.items)
        if any((condition, item.id) in wanted for item in items for condition in conditions)
    ]
    counts = _Counts(run, known, wanted)
    on_news(counts.progress())
    unread: list[DecodedClip] = []
    try:
        with run.answer_writer() as answers, run.video_writer() as videos:

            def ask(look: DecodedClip) -> None:
                started = time.perf_counter()
                # Before its answers, from which a later run concludes that the clip is done.
                _keep(run, look)
                videos.write(look.video)
                for answer in asker.evaluate(look, wanted):
                    answers.write(answer)
                    counts.add(answer)
                    on_news(counts.progress(answer.video))
                seconds = {
                    **look.video.seconds,
                    "generate": round(time.perf_counter() - started, 3),
                }
                videos.write(replace(look.video, seconds=seconds))

            # Unreadable files that have changed meanwhile get a second try.
            for look in prefetch_one(todo, looker.load):
                ask(look)
                if look.unread is not None:
                    unread.append(look)
            for look in unread:
                if look.is_worth_another_try:
                    ask(looker.load([ready.item for ready in look.items]))
    finally:
        if looker.finder.downloads is not None:
            looker.finder.downloads.stop.set()  # do not wait for downloads that nothing will use


def _keep(run: RunFolder, look: DecodedClip) -> None:
    if look.thumbnails is not None and look.video.strip is not None:
        run.save_thumbnails(look.video.strip, look.thumbnails)


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
