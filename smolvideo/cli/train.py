"""``smolvideo train``: train the bundled model from scratch, and render the sample videos."""

import json
from pathlib import Path

import click

from smolvideo.cli.flags import (
    FilePath,
    FloatType,
    IntegerType,
    PlainGroup,
    SectionCommand,
    SectionOption,
    default_of,
)
from smolvideo.cli.main import debug_option
from smolvideo.cli.outputs import check_folder, wrap_write_errors
from smolvideo.records import write_text_atomic
from smolvideo.show.console import open_screen
from smolvideo.show.training import TrainingProgress, curves_svg, show_scores
from smolvideo.train.schedule import TrainOptions


@click.group(cls=PlainGroup)
@debug_option
def train() -> None:
    """Train the bundled model, or render the sample videos.

    nano's world is drawn: up to four objects of five shapes and six colours on four backgrounds, of
    which one may move, appear, disappear or change its colour; two or three shots of one object
    each; a word or a number over them. nano is for trying, testing and teaching; it knows nothing
    of real footage. `smolvideo eval world` evaluates it.
    """


@train.command(cls=SectionCommand)
@click.option(
    "--minutes",
    cls=SectionOption,
    section="Training",
    type=FloatType(min=0, min_open=True),
    metavar="N",
    default=default_of(TrainOptions, "minutes"),
    help="Wall time of the whole training, summed over all runs that resume it.",
)
@click.option(
    "--out",
    cls=SectionOption,
    section="Training",
    type=FilePath(),
    default=Path("runs/nano"),
    metavar="DIR",
    help="Folder of saved states, curve and checkpoint; a training found there is resumed.",
)
@click.option(
    "--processes",
    cls=SectionOption,
    section="Training",
    type=IntegerType(min=1),
    metavar="N",
    default=None,
    show_default="one per core with that much free memory",
    help="Processes that share the work; each takes a core and up to 2 GB of memory, or 4 GB where "
    "the processor has no bfloat16.",
)
@click.option(
    "--seed",
    cls=SectionOption,
    section="Training",
    type=IntegerType(),
    metavar="N",
    default=0,
    help="Seed of the initial weights and of all drawn scenes.",
)
@click.option(
    "--from",
    "start",
    cls=SectionOption,
    section="Training",
    metavar="NAME",
    default=None,
    show_default="random weights",
    help="Begin with the weights of this checkpoint of nano, and train answers alone: nano, or a "
    "folder.",
)
@click.option("--quiet", is_flag=True, cls=SectionOption, help="No progress on stderr.")
@debug_option
def nano(
    minutes: float, out: Path, processes: int | None, seed: int, start: str | None, quiet: bool
) -> None:
    """Train nano from scratch, on scenes that are rendered during the training.

    Three stages: labels of image patches, then text in images, then answers to questions. Ctrl-C
    stops it; the same command resumes from the last saved state. The checkpoint is a folder like
    any other: `smolvideo ask --model DIR/nano …`. The curves are drawn into DIR/curves.svg.
    """
    from smolvideo.train.nano import train_nano

    screen = open_screen(quiet=quiet)
    options = TrainOptions(minutes=minutes, processes=processes, seed=seed, start=start)
    check_folder("--out", out)
    with wrap_write_errors(out), TrainingProgress(screen) as progress:
        folder = train_nano(out, options, progress.show)
        curve = [json.loads(line) for line in (out / "curve.jsonl").read_text("utf-8").splitlines()]
        title = "nano: exact answers about held-out scenes, on the way"
        write_text_atomic(out / "curves.svg", curves_svg(curve, title), overwrite=True)
    show_scores(screen, folder)
    screen.write_paths([folder])


@train.command(cls=SectionCommand)
@click.argument("folder", type=FilePath(), metavar="DIR")
@debug_option
def samples(folder: Path) -> None:
    """Render the sample videos and their questions into DIR.

    Files of the same names are replaced.
    """
    from smolvideo.train.samples import write_samples

    with wrap_write_errors(folder):
        write_samples(folder)
    open_screen().write_paths([folder])
