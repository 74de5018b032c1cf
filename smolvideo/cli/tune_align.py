"""``smolvideo tune align``: align a model by pairs of a better and a worse answer."""

from pathlib import Path

import click

from smolvideo.cli.cache import open_feature_cache
from smolvideo.cli.flags import FilePath, Flags, FloatType, IntegerType, SectionCommand, flag, takes
from smolvideo.cli.model_choice import choose_engine
from smolvideo.cli.outputs import check_folder, wrap_write_errors
from smolvideo.cli.tune_options import DataFlags, TuneModelFlags, read_tune_spec
from smolvideo.cli.tune_report import draw_curves
from smolvideo.cost.choose import all_drawn
from smolvideo.engines.devices import set_num_threads
from smolvideo.records import json_line, write_text_atomic
from smolvideo.show.console import open_screen
from smolvideo.show.progress_bar import StageProgress
from smolvideo.show.tuning import TuningProgress, show_tune_result
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
        default=0.2,
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
    from smolvideo.tune.card import NOT_HELD_OUT, losses, model_card, score_rows
    from smolvideo.tune.items import left_out, read_items
    from smolvideo.tune.preferences import PreferenceOptions
    from smolvideo.tune.run import Machine, TuneRequest, merge, result_facts, tune

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
    noted: list[str] = []

    def note(sentence: str) -> None:
        noted.append(sentence)
        screen.notice(sentence)

    if given.skip_faulty:
        for sentence in left_out(items):
            note(sentence)
    with StageProgress(screen) as stages, wrap_write_errors(given.out):
        spec = choose_engine(
            given,
            screen,
            drawn=lambda: all_drawn([one.source for i in items.items for one in i.media][:50]),
            frames=options.max_frames,
            stages=stages,
        )
        checkpoint = read_tune_spec(given, spec).checkpoint(
            weights=True, on_progress=stages.on_progress
        )
        cache = open_feature_cache("native", on_note=note)
        request = TuneRequest(
            items,
            checkpoint,
            options,
            given.out,
            machine=Machine(given.device, given.dtype, given.arithmetic, cache),
            skip_faulty=given.skip_faulty,
            preferences=preferences,
        )
        with TuningProgress(screen) as progress:
            result = tune(
                request, on_progress=stages.on_progress, on_step=progress.show, on_note=note
            )
        write_text_atomic(given.out / "README.md", model_card(result, None, noted), overwrite=True)
        draw_curves(given.out, checkpoint.name)
        paths = [given.out / "best", *([merge(request)] if given.merge else [])]
    show_tune_result(screen, result, score_rows(result), None)
    if losses(result) is None:
        screen.notice(NOT_HELD_OUT)
    facts = {**result_facts(result), "notices": noted}
    del facts["lines"]
    if given.as_json:
        screen.write(json_line(facts) + "\n")
    else:
        screen.write_paths(paths)
