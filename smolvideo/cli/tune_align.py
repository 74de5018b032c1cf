"""``smolvideo tune align``: align a model by pairs of a better and a worse answer."""

from pathlib import Path

import click

from smolvideo.cli.cache import open_feature_cache
from smolvideo.cli.flags import FilePath, Flags, FloatType, IntegerType, SectionCommand, flag, takes
from smolvideo.cli.outputs import check_folder, wrap_write_errors
from smolvideo.cli.tune_options import DataFlags, TuneModelFlags, choose_tuned_model
from smolvideo.cli.tune_report import NoticeLog, report_result, tune_with_progress
from smolvideo.engines.devices import set_num_threads
from smolvideo.show.console import open_screen
from smolvideo.show.progress_bar import StageProgress
from smolvideo.tune.options import TuneOptions


class AlignTrainingFlags(Flags, section="Training"):
    """How it is trained."""

    beta: float = flag(
        default=0.1,
        type=FloatType(min=0, min_open=True),
        metavar="X",
        help="How closely the model is held to the untuned one: smaller is freer.",
    )
    answer_weight: float = flag(
        default=1.0,
        type=FloatType(min=0),
        metavar="X",
        help="Weight of the loss of the better answer itself, beside the preference.",
    )
    steps: int | None = flag(
        default_from=TuneOptions,
        type=IntegerType(min=1),
        metavar="N",
        show_default="three times the pairs",
        help="Steps of the whole run.",
    )
    batch_size: int = flag(
        default_from=TuneOptions, type=IntegerType(min=1), metavar="N", help="Pairs of a step."
    )
    micro_batch: int = flag(
        default_from=TuneOptions,
        type=IntegerType(min=1),
        metavar="N",
        help="Answers in memory at a time.",
    )
    learning_rate: float | None = flag(
        default_from=TuneOptions,
        type=FloatType(min=0, min_open=True),
        metavar="RATE",
        show_default="2e-4; nano 1e-3",
        help="Highest rate of AdamW.",
    )
    rank: int = flag(
        default_from=TuneOptions, type=IntegerType(min=1), metavar="N", help="Rank of LoRA."
    )
    seed: int = flag(
        default_from=TuneOptions, type=IntegerType(min=0), metavar="N", help="As for `tune`."
    )


class AlignOutputFlags(Flags, section="Output"):
    """Where the result goes."""

    out: Path = flag(
        type=FilePath(),
        default=Path("runs/aligned"),
        metavar="DIR",
        help="Folder of the run: a run found there goes on.",
    )
    merge: bool = flag(help="Also write DIR/merged, a checkpoint with the adapter in its weights.")
    as_json: bool = flag("--json", help="Write the result as one JSON object.")
    quiet: bool = flag(help="Print only the result and errors.")


class AlignFlags(DataFlags, TuneModelFlags, AlignTrainingFlags, AlignOutputFlags):
    """All options of ``tune align``."""


@click.command(cls=SectionCommand)
@takes(AlignFlags)
def align(given: AlignFlags) -> None:
    """Align by pairs of a better and a worse answer (DPO).

    DATA has one JSON object per line: `video` or `image`, `question` (or TRL's `prompt`), `chosen`
    and `rejected`. The result is DIR/best, an adapter for `--adapter DIR`, chosen by greedy answers
    to held-out prompts. A model that was tuned before is aligned from its merged checkpoint.
    """
    screen = open_screen(quiet=given.quiet)
    check_folder("--out", given.out)
    set_num_threads()  # before torch is imported
    from smolvideo.tune.items import left_out, read_items
    from smolvideo.tune.preferences import PreferenceOptions
    from smolvideo.tune.run import Machine, TuneRequest

    options = TuneOptions(
        steps=given.steps,
        batch_size=given.batch_size,
        micro_batch=given.micro_batch,
        learning_rate=given.learning_rate,
        rank=given.rank,
        dropout=0.0,  # the two answers of a pair are to be compared
        held_out=given.held_out,
        rehearse_share=0.0,
        max_frames=given.max_frames,
        seed=given.seed,
    )
    preferences = PreferenceOptions(given.beta, given.answer_weight)
    items = read_items(given.data, media=given.media, allow_outside=given.allow_outside, pairs=True)
    notices = NoticeLog(screen)
    if given.skip_faulty:
        for sentence in left_out(items):
            notices(sentence)
    with wrap_write_errors(given.out):
        with StageProgress(screen) as stages:
            spec = choose_tuned_model(given, items, screen, stages, max_frames=options.max_frames)
            checkpoint = spec.checkpoint(weights=True, on_progress=stages.on_progress)
        cache = open_feature_cache("native", on_note=notices)
        request = TuneRequest(
            items,
            checkpoint,
            options,
            given.out,
            machine=Machine(given.device, given.dtype, given.arithmetic, cache),
            skip_faulty=given.skip_faulty,
            preferences=preferences,
        )
        result = tune_with_progress(request, notices)
        report_result(request, result, notices, merges=given.merge, as_json=given.as_json)
