"""Calibration of choices on labelled questions: scores, a scale, and its error on other videos."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from smolvideo.calibration import (
    IDENTITY,
    Calibration,
    LabelledScores,
    Reliability,
    cross_validated,
    fit_scale,
    reliability,
)
from smolvideo.engines import Engine, GenerationOptions, SessionEngine
from smolvideo.engines.choices import Scorer, check_choices, choice_log_probabilities
from smolvideo.errors import ReaderError, SourceError
from smolvideo.evals.datasets.table_files import InvalidRowError, read_rows, text_of
from smolvideo.pipeline import PreparedPrompt, prepare
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import PromptOptions, pack_prompt
from smolvideo.sampling import FrameSampling
from smolvideo.sanitize import display_name, display_path

_ONE_TOKEN = GenerationOptions(max_new_tokens=1)
_MAX_NAMED = 3


@dataclass(frozen=True)
class LabelledQuestion:
    """A question about a video, and the index of the right choice."""

    video: Path
    question: str
    label: int


@dataclass(frozen=True)
class CalibrationReport:
    """The fitted scale of ``choices``, and reliability without it and with it.

    ``after`` is of scales that were fitted to other videos than those they are judged on; so is
    ``log_loss_after``. Log losses are means of -log(probability of the right choice). Where it
    would not be lower, the scale changes nothing, and both are as before.
    """

    choices: tuple[str, ...]
    calibration: Calibration
    before: Reliability
    after: Reliability
    accuracy: float
    log_loss_before: float
    log_loss_after: float
    notices: tuple[str, ...] = ()
    left_out: int = 0
    """Videos that cannot be read."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return {
            "record": "smolvideo.calibration/1",
            "choices": list(self.choices),
            "calibration": asdict(self.calibration),
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "accuracy": self.accuracy,
            "log_loss_before": self.log_loss_before,
            "log_loss_after": self.log_loss_after,
            "notices": list(self.notices),
        }


def read_labelled(file: Path, choices: Sequence[str]) -> list[LabelledQuestion]:
    """Read labelled questions, one JSON object per line (or Parquet, CSV): ``video``, a path from
    the file's folder, ``question``, and ``answer``, one of ``choices``.

    Raises SourceError where the file cannot be read, and for a row without one of them.
    """
    labels = {choice.casefold(): place for place, choice in enumerate(choices)}
    found = []
    for number, row in enumerate(read_rows(file), start=1):
        try:
            answer = text_of(row, "answer").strip()
            if answer.casefold() not in labels:
                raise InvalidRowError(f"the answer `{display_name(answer)}` is none of the choices")
            video, question = file.parent / text_of(row, "video"), text_of(row, "question")
            found.append(LabelledQuestion(video, question.strip(), labels[answer.casefold()]))
        except InvalidRowError as problem:
            raise SourceError(
                f"{display_path(file)}, row {number}: {problem}",
                hint="each row has a `video`, a `question` and an `answer`, one of the choices",
            ) from problem
    return found


def videos_here(labelled: Sequence[LabelledQuestion]) -> list[Path]:
    """Return the videos that exist, each once."""
    return [one for one in dict.fromkeys(one.video for one in labelled) if _exists(one)]


def check_videos(labelled: Sequence[LabelledQuestion]) -> None:
    """Raise SourceError where none of the videos exists."""
    if not videos_here(labelled):
        first = display_path(labelled[0].video)
        raise SourceError(
            f"no video of the labelled questions can be read: no such file {first}",
            hint="the path of a `video` begins at the folder of the file",
        )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, a null byte
        return False


def calibrate(
    engine: Engine,
    labelled: Sequence[LabelledQuestion],
    choices: Sequence[str],
    *,
    sampling: FrameSampling = FrameSampling(),  # noqa: B008 -- frozen
    prompt_options: PromptOptions = PromptOptions(),  # noqa: B008 -- frozen
    reader: str = "auto",
    on_progress: OnProgress = no_progress,
) -> CalibrationReport:
    """Fit a scale to the probabilities that ``engine`` gives the choices of labelled questions.

    Frames of a video are decoded and encoded once for all of its questions. Videos that cannot be
    read are left out, with a notice. Raises UsageError for too few questions and videos, and as
    ``prepare`` and the engine do.
    """
    choices = check_choices(choices)
    videos: dict[Path, list[LabelledQuestion]] = {}
    for one in labelled:
        videos.setdefault(one.video, []).append(one)
    examples: list[LabelledScores] = []
    problems: list[str] = []
    for video, asked in videos.items():
        try:
            prepared = prepare(
                engine.checkpoint,
                str(video),
                asked[0].question,
                sampling=sampling,
                prompt_options=prompt_options,
                generation=_ONE_TOKEN,
                reader=reader,
                on_progress=on_progress,
            )
        except (SourceError, ReaderError) as error:
            problems.append(str(error))
            continue
        examples += _scored(engine, prepared, asked, choices)
    return _report(choices, examples, problems)


def _scored(
    engine: Engine,
    prepared: PreparedPrompt,
    asked: Sequence[LabelledQuestion],
    choices: Sequence[str],
) -> Iterator[LabelledScores]:
    """Yield the scores of the questions about one video; its frames are encoded once."""
    scorer: Scorer = engine.open_session() if isinstance(engine, SessionEngine) else engine
    *before, last = prepared.messages
    for one in asked:
        messages = (*before, replace(last, content=(*last.content[:-1], one.question)))
        prompt = pack_prompt(messages, engine.checkpoint, prepared.prompt_options)
        prompt = replace(prompt, images=prepared.prompt.images)
        scores = choice_log_probabilities(scorer, engine.checkpoint, prompt, choices)
        yield LabelledScores(tuple(scores), one.label, one.video)


def _report(
    choices: tuple[str, ...], examples: Sequence[LabelledScores], problems: Sequence[str]
) -> CalibrationReport:
    if problems and not examples:
        raise SourceError(f"no video of the labelled questions can be read: {problems[0]}")
    raw = [IDENTITY.probabilities(one.log_probabilities) for one in examples]
    scaled, scale = cross_validated(examples), fit_scale(examples)
    labels = [one.label for one in examples]
    helps = _log_loss(scaled, labels) < _log_loss(raw, labels)
    if not helps:
        scaled, scale = raw, IDENTITY
    before, after = _reliability(raw, labels), _reliability(scaled, labels)
    right = sum(p.index(max(p)) == label for p, label in zip(raw, labels, strict=True))
    return CalibrationReport(
        choices,
        Calibration(
            slope=round(scale.slope, 6),
            offset=round(scale.offset, 6),
            questions=len(examples),
            videos=len({one.group for one in examples}),
            ece_before=round(before.ece, 4),
            ece_after=round(after.ece, 4),
        ),
        before,
        after,
        accuracy=right / len(examples),
        log_loss_before=_log_loss(raw, labels),
        log_loss_after=_log_loss(scaled, labels),
        notices=_notices(problems, scale.slope, helps=helps),
        left_out=len(problems),
    )


def _reliability(found: Sequence[Sequence[float]], labels: Sequence[int]) -> Reliability:
    right = [list(p).index(max(p)) == label for p, label in zip(found, labels, strict=True)]
    return reliability([max(p) for p in found], right)


def _log_loss(found: Sequence[Sequence[float]], labels: Sequence[int]) -> float:
    smallest = 1e-300
    losses = (-math.log(max(smallest, p[at])) for p, at in zip(found, labels, strict=True))
    return round(sum(losses) / len(labels), 6)


def _notices(problems: Sequence[str], slope: float, *, helps: bool) -> tuple[str, ...]:
    notices = []
    if not helps:
        notices.append(
            "the probabilities stay as they are: on other videos a fitted scale would be no better"
        )
    if problems:
        named = "; ".join(problems[:_MAX_NAMED])
        more = f"; and {len(problems) - _MAX_NAMED} more" if len(problems) > _MAX_NAMED else ""
        notices.append(f"videos left out: {named}{more}")
    if slope <= 0:
        notices.append(
            "the probabilities are worse than chance on these questions: the scale turns them round"
        )
    return tuple(notices)
