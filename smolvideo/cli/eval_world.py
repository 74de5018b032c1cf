"""``smolvideo eval world``: evaluate a model on rendered synthetic scenes (nano's domain)."""

from pathlib import Path

import click

from smolvideo.cli.eval_options import default_run_folder
from smolvideo.cli.flags import Flags, default_of, flag, takes
from smolvideo.cli.model_choice import choose_engine
from smolvideo.cli.options import EngineFlags
from smolvideo.cli.outputs import check_new_file, wrap_write_errors
from smolvideo.cli.params import FilePath, IntegerType, SectionCommand
from smolvideo.errors import UsageError
from smolvideo.records import write_text_atomic
from smolvideo.show.console import open_screen
from smolvideo.show.progress_bar import StageProgress
from smolvideo.show.training import ExamProgress, show_exam_report
from smolvideo.train.exam import ExamOptions


class ExamRunFlags(Flags, section="Exam"):
    """Which exam, and where it is kept."""

    limit: int = flag(
        type=IntegerType(min=1),
        metavar="N",
        default=default_of(ExamOptions, "videos"),
        help="The first N videos; about thirteen questions each.",
    )
    seed: int = flag(
        type=IntegerType(min=0),
        metavar="N",
        default_from=ExamOptions,
        help="Another number is another exam: only the same ones compare.",
    )
    videos: Path | None = flag(
        type=FilePath(),
        metavar="DIR",
        show_default="gone afterwards",
        help="Leave the rendered videos in DIR, or take them from there.",
    )
    run: Path | None = flag(
        type=FilePath(),
        metavar="DIR",
        show_default="runs/world-MODEL",
        help="Where the run is kept, and gone on with if it was stopped.",
    )


class ExamOutputFlags(Flags, section="Output"):
    """Where scores and answers go."""

    as_json: bool = flag("--json", help="One line of JSON instead of the table.")
    output: Path | None = flag(
        "-o",
        type=FilePath(),
        metavar="FILE",
        show_default="none",
        help="Write every question with its answers to FILE, one JSON object a line.",
    )
    overwrite: bool = flag(help="Replace an --output that exists.")
    quiet: bool = flag(help="No progress.")


class ExamFlags(EngineFlags, ExamRunFlags, ExamOutputFlags):
    """All options of the command."""


@click.command(cls=SectionCommand)
@takes(ExamFlags)
def exam(given: ExamFlags) -> None:
    """Examine a model on drawn worlds that nano was never shown.

    The videos are rendered as mp4 files of many sizes and rates, and asked about as `ask` does:
    open questions, exact answers wanted; and five options in CinePile's form. The same questions
    are asked about grey frames, to show what can be answered without looking. Half of the videos
    hold a combination of colour, shape and behaviour, or a number, that nano's training leaves out;
    half are asked about in words that it leaves out.
    """
    if given.output is not None:
        check_new_file(given.output, overwrite=given.overwrite)
    elif given.is_explicit("overwrite"):
        raise UsageError("`--overwrite` has no effect without `--output`")
    screen = open_screen(quiet=given.quiet)
    with StageProgress(screen) as stages:
        # The exam is drawn, so that nano is the choice of auto.
        spec = choose_engine(given, screen, drawn=lambda: True, frames=0, stages=stages)
        engine = spec.load(on_progress=stages.on_progress)
    from smolvideo.train.exam.evaluate import evaluate_exam
    from smolvideo.train.exam.run import ExamRun

    # Evaluate, resuming a run in the folder.
    options = ExamOptions(videos=given.limit, seed=given.seed)
    folder = given.videos
    kept = given.run or default_run_folder("world", spec.model)
    run = ExamRun.open(kept, engine, options)
    try:
        with ExamProgress(screen) as progress, wrap_write_errors(folder or kept):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            report = evaluate_exam(
                engine, options, folder=folder, run=run, on_progress=progress.show
            )
    except KeyboardInterrupt:
        screen.notice(f"the answers so far are in `{kept}`; the same command goes on from there")
        raise
    # Write and show the report.
    if given.output is not None:
        write_text_atomic(given.output, report.to_jsonl(), overwrite=given.overwrite)
    if given.as_json:
        screen.write(report.to_json() + "\n")
    else:
        show_exam_report(screen.out, report)
