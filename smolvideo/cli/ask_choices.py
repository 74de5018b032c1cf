"""``ask --choices`` and ``--rate``: the probabilities of choices, and ``--calibrate`` for them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from smolvideo.answer import Answer
from smolvideo.calibration import (
    Calibration,
    check_calibrations,
    keep_calibration,
    kept_calibration,
)
from smolvideo.cli.cache import open_feature_cache
from smolvideo.cli.conversations import ConversationFlags, read_settings
from smolvideo.cli.flags import FilePath, Flags, flag
from smolvideo.cli.model_choice import choose_engine
from smolvideo.cost.choose import all_drawn
from smolvideo.engines import Engine, GenerationOptions, Session
from smolvideo.errors import EXIT_SOME_FAILED, UsageError
from smolvideo.formatting import format_count
from smolvideo.models import Checkpoint
from smolvideo.pipeline import PreparedPrompt, answer_by_choice, parse_choices, parse_rating
from smolvideo.show.choices import show_reliability
from smolvideo.show.console import Output
from smolvideo.show.progress_bar import StageProgress
from smolvideo.source import resolve_sources

if TYPE_CHECKING:
    from smolvideo.evals.calibrate import CalibrationReport, LabelledQuestion

ONE_TOKEN = GenerationOptions(max_new_tokens=1)
"""Options of generation where nothing is generated."""


class ChoiceFlags(Flags, section="Choices"):
    """Choices in place of a generated answer."""

    choices: str | None = flag(
        excludes=("schema",),
        metavar="A,B,…",
        show_default="a generated answer",
        help="Print the probability of each of these answers, which is read from the model and not "
        "generated: yes,no,unsure.",
    )
    rate: str | None = flag(
        excludes=("schema",),
        metavar="LOW-HIGH",
        show_default="a generated answer",
        help="Print the probability of each number of a scale, and the expected rating: 1-5.",
    )
    calibrate: Path | None = flag(
        type=FilePath(),
        metavar="FILE",
        show_default="none",
        help="Fit a scale of two numbers to labelled questions, by which probabilities of the same "
        "choices and model are corrected from then on. JSON lines with `video`, `question` and "
        "`answer`.",
    )
    uncalibrated: bool = flag(help="Print the probabilities as the model gives them.")


@dataclass(frozen=True)
class Choices:
    """The choices of a question; ``is_calibrated``: a kept scale corrects their probabilities."""

    names: tuple[str, ...]
    is_calibrated: bool

    def calibration(self, checkpoint: Checkpoint) -> Calibration | None:
        """Return the kept scale for ``checkpoint``; raises as ``kept_calibration``."""
        return kept_calibration(checkpoint, self.names) if self.is_calibrated else None


def read_choices(given: ChoiceFlags) -> Choices | None:
    """Read the options of choices; None without any.

    Raises UsageError for contradictory options, and for those that have no effect; RecordError
    where the kept scales cannot be read, before anything is computed.
    """
    if given.choices is not None and given.rate is not None:
        raise UsageError("`--choices` and `--rate` are two kinds of choices: give one of them")
    if given.choices is None and given.rate is None:
        useless = given.first_explicit("calibrate", "uncalibrated")
        if useless:
            raise UsageError(
                f"`{useless}` has no effect without choices", hint="add `--choices yes,no`"
            )
        return None
    if given.calibrate is not None and given.uncalibrated:
        raise UsageError("`--calibrate` and `--uncalibrated` contradict each other")
    if isinstance(given, ConversationFlags):
        _check_generation(given)
    names = (
        parse_rating(given.rate) if given.rate is not None else parse_choices(given.choices or "")
    )
    if not given.uncalibrated:
        check_calibrations()
    return Choices(names, not given.uncalibrated)


def _check_generation(given: ConversationFlags) -> None:
    """Raise UsageError for options of generation: nothing is generated."""
    names = [part.name for part in fields(GenerationOptions) if hasattr(given, part.name)]
    if useless := given.first_explicit(*names):
        raise UsageError(f"`{useless}` has no effect on choices: nothing is generated")


def answer_choices(
    choices: Choices,
    prepared: PreparedPrompt,
    engine: Engine,
    session: Session | None,
    stages: StageProgress,
) -> Answer:
    """Return the most likely choice as the answer, with the probabilities of all.

    They are computed by ``session``, if the engine has sessions, which then holds the prompt.
    """
    calibration = choices.calibration(engine.checkpoint)
    scorer = engine if session is None else session
    answer = answer_by_choice(
        scorer,
        engine.checkpoint,
        prepared,
        choices.names,
        calibration=calibration,
        on_progress=stages.on_progress,
    )
    stages.close()
    return answer


def describe_calibration(answer: Answer) -> str | None:
    """Return the line on the scale of an answer's probabilities; None for a generated answer."""
    if answer.choices is None:
        return None
    kept = answer.choices.calibration
    if kept is None:
        return "not calibrated: `--calibrate FILE` makes the probabilities those of your videos"
    return (
        f"calibrated on {kept['questions']:,} questions about "
        f"{format_count(int(kept['videos']), 'video')}: ECE {kept['ece_before']:.3f} → "
        f"{kept['ece_after']:.3f}"
    )


_OF_A_QUESTION = {
    "goes_on": "--continue",
    "question": "--question",
    "source_list": "--list",
    "output": "--output",
    "save": "--save",
    "dry_run": "--dry-run",
    "subtitles": "--subtitles",
    "words": "SOURCE",
}
"""Fields that `--calibrate` does not take, with what the user typed."""


def run_calibration(given: ConversationFlags, screen: Output) -> int:
    """Fit and keep the scale of the choices of ``given``, and print its error before and after.

    Return the exit code: ``EXIT_SOME_FAILED`` where videos were left out.

    Raises UsageError for options of a question, and as ``read_labelled``, ``calibrate`` and
    ``keep_calibration`` do.
    """
    from smolvideo.evals.calibrate import calibrate, check_videos, read_labelled

    for name, typed in _OF_A_QUESTION.items():
        if given.is_explicit(name):
            raise UsageError(
                f"`{typed}` is for one question, and `--calibrate` has its own in the file"
            )
    assert isinstance(given, ChoiceFlags)
    choices = read_choices(given)
    assert choices is not None
    assert given.calibrate is not None
    settings = read_settings(given)
    labelled = read_labelled(given.calibrate, choices.names)
    check_videos(labelled)  # before a model is chosen, and downloaded
    with StageProgress(screen) as stages:
        spec = choose_engine(
            given,
            screen,
            drawn=lambda: _all_drawn(labelled, settings.reader),
            frames=settings.sampling.max_frames,
            stages=stages,
        )
        cache = open_feature_cache(settings.engine, no_cache=False, on_note=screen.notice)
        with spec.load(cache=cache, on_progress=stages.on_progress) as engine:
            report = calibrate(
                engine,
                labelled,
                choices.names,
                sampling=settings.sampling,
                prompt_options=settings.prompt_options,
                reader=settings.reader,
                on_progress=stages.on_progress,
            )
            checkpoint = engine.checkpoint
    screen.notes(report.notices)
    if getattr(given, "as_json", False):
        screen.write(json.dumps(report.to_dict()) + "\n")
    else:
        _show(report, checkpoint.name, screen)
    # Shown first, so that a full disk does not lose what took minutes.
    file = keep_calibration(checkpoint, choices.names, report.calibration)
    screen.notice(f"kept in `{file}`")
    return EXIT_SOME_FAILED if report.left_out else 0


def _all_drawn(labelled: "Sequence[LabelledQuestion]", reader: str) -> bool:
    """Whether all videos are drawn ones, of those that are there."""
    from smolvideo.evals.calibrate import videos_here

    videos = videos_here(labelled)
    return bool(videos) and all_drawn(resolve_sources([*map(str, videos)]), reader=reader)


def _show(report: "CalibrationReport", model: str, screen: Output) -> None:
    kept = report.calibration
    lines = (
        f"{', '.join(report.choices)}: {kept.questions:,} questions about "
        f"{format_count(kept.videos, 'video')}, {report.accuracy:.1%} right, by {model}",
        f"scale: slope {kept.slope:.3f}, offset {kept.offset:+.3f}",
    )
    for line in lines:
        screen.out.print(line, soft_wrap=True, highlight=False, markup=False)
    show_reliability(screen.out, f"before: ECE {report.before.ece:.3f}", report.before)
    after = f"after: ECE {report.after.ece:.3f}, each by a scale fitted to other videos"
    show_reliability(screen.out, after, report.after)
