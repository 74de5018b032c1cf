"""Replay of the answers of an eval run, from its folder."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolvideo.errors import RecordError, SmolVideoError, UsageError
from smolvideo.evals.evaluator import Evaluator
from smolvideo.evals.item import EvalItem
from smolvideo.evals.loader import ClipLoader
from smolvideo.evals.run_folder import EvalAnswer, RunFolder
from smolvideo.evals.settings import EvalSettings
from smolvideo.evals.videos import VideoFinder, VideoFolder
from smolvideo.replay.answers import generation_of, prompt_options_of, sampling_of
from smolvideo.replay.comparison import Comparison, ReplayResult
from smolvideo.replay.engines import EnginePool, compare_checkpoint, compare_engine
from smolvideo.sanitize import display_name

_TOLERANCE = 1e-3
"""Of log-probabilities, which are recorded with four decimals."""


@dataclass(frozen=True)
class RecordedRun:
    """The model of a run, as its run.json has it, under the names of records."""

    content: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def model(self) -> str | None:
        return self._text("name")

    @property
    def revision(self) -> str | None:
        return self._text("revision")

    @property
    def adapter(self) -> str | None:
        return self._text("adapter")

    @property
    def engine(self) -> str | None:
        return self._text("engine")

    @property
    def device(self) -> str | None:
        return self._text("device")

    @property
    def dtype(self) -> str | None:
        return self._text("dtype")

    @property
    def quantize(self) -> str | None:
        return self._text("quantize")

    @property
    def arithmetic(self) -> str | None:
        return self._text("arithmetic")

    def _text(self, name: str) -> str | None:
        value = self.content.get(name)
        return None if value is None else str(value)


def replay_run(
    folder: Path, pool: EnginePool, *, only: int | None = None
) -> Iterator[ReplayResult]:
    """Yield the replay of each answer of the run in ``folder``, or of line ``only`` of its
    answers.

    Raises RecordError where the run cannot be read, UsageError without the folder of its videos.
    """
    run = RunFolder.read(folder)
    if pool.options.folder is None:
        raise UsageError(
            "the videos of an eval run are found by their names",
            hint="name their folder: `--videos DIR`",
        )
    model = RecordedRun(run.info.model, run.info.versions)
    items = {item.id: item for item in run.items}
    settings = _settings(run.info.settings, pool.options.reader)
    for line, answer in enumerate(run.answers().values(), start=1):
        if only is None or only == line:
            yield _replay(answer, items[answer.id], line, run, model, settings, pool)


def _replay(
    answer: EvalAnswer,
    item: EvalItem,
    line: int,
    run: RunFolder,
    model: RecordedRun,
    settings: EvalSettings,
    pool: EnginePool,
) -> ReplayResult:
    name = f"{answer.id} ({answer.condition})"
    why = pool.why_not(model) or ("it holds an error" if answer.failed else None)
    if why is not None:
        return ReplayResult(display_name(name), line, skipped=why)
    found = Comparison()
    notices = () if answer.hashes else ("the record has no hashes of frames and prompt",)
    _compare(found, answer, item, run, model, settings, pool)
    return found.result(name, line, notices)


def _compare(
    found: Comparison,
    answer: EvalAnswer,
    item: EvalItem,
    run: RunFolder,
    model: RecordedRun,
    settings: EvalSettings,
    pool: EnginePool,
) -> None:
    try:
        checkpoint = pool.checkpoint(model)
    except SmolVideoError as error:
        found.differs("model", str(error), model.model)
        return
    assert pool.options.folder is not None
    finder = VideoFinder(VideoFolder(pool.options.folder))
    benchmark = str(run.info.benchmark["name"])
    clip = ClipLoader(checkpoint, settings, benchmark, finder).load([item])
    if clip.items[0].error is not None:
        found.differs("file", str(clip.items[0].error))
        return
    if answer.sha256 is not None and answer.sha256 != clip.video.sha256:
        text = f"`{display_name(answer.file or answer.video)}` has another content"
        found.differs("file", text, answer.sha256, clip.video.sha256)
        return
    found.same("file")
    recorded_reader = run.info.settings.get("reader")
    found.values("reader", {"reader": recorded_reader}, {"reader": settings.reader})
    weights = answer.hashes.weights if answer.hashes is not None else run.info.model.get("weights")
    if not compare_checkpoint(found, model, weights, checkpoint):
        return
    engine = pool.engine(model)
    (again,) = Evaluator(engine, settings, benchmark).evaluate(clip, {answer.key})
    if again.error is not None:
        found.differs("prompt", again.error)
        return
    if answer.hashes is not None and again.hashes is not None:
        frames = {"frames": answer.hashes.frames}
        found.values("frames", frames, {"frames": again.hashes.frames})
        prompt = {"token ids": answer.hashes.prompt}
        found.values("prompt", prompt, {"token ids": again.hashes.prompt})
    compare_engine(found, model, engine)
    names = ("text", "choice", "correct", "stop_reason")
    found.values(
        "answer",
        {name: getattr(answer, name) for name in names},
        {name: getattr(again, name) for name in names},
    )
    pairs = list(zip(answer.scores or (), again.scores or (), strict=False))
    if any(abs(before - now) > _TOLERANCE for before, now in pairs):
        found.differs("answer", "the log-probabilities differ", answer.scores, again.scores)


def _settings(content: Mapping[str, Any], reader: str | None) -> EvalSettings:
    names = ("prompt", "extractor", "scoring", "subtitles", "seed", "sample", "limit", "reader")
    own = {name: content[name] for name in names if name in content}
    if reader is not None:
        own["reader"] = reader
    try:
        return EvalSettings(
            **own,
            controls=tuple(content["controls"]),
            sampling=sampling_of(content["sampling"]),
            prompt_options=prompt_options_of(content.get("prompt_options", {})),
            generation=generation_of(content["generation"]),
        )
    except (KeyError, TypeError, ValueError, SmolVideoError) as error:
        raise RecordError(f"the settings of the run are damaged: {error}") from error
