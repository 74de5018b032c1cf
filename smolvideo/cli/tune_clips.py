"""``smolvideo tune clips``: fine-tune on questions and answers about clips."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from smolvideo.cli.cache import open_feature_cache
from smolvideo.cli.flags import SectionCommand, takes
from smolvideo.cli.outputs import check_folder, wrap_write_errors
from smolvideo.cli.tune_options import TuneFlags, choose_tuned_model, read_options
from smolvideo.cli.tune_report import NoticeLog, report_result, tune_with_progress
from smolvideo.engines import EngineSpec
from smolvideo.engines.devices import set_num_threads
from smolvideo.models import Checkpoint, lookup_model
from smolvideo.records import json_line
from smolvideo.show.console import Output, open_screen
from smolvideo.show.progress_bar import StageProgress
from smolvideo.show.tuning import show_tune_plan
from smolvideo.tune.options import NamedModel, PlannedModel, TuneOptions

if TYPE_CHECKING:
    from smolvideo.tune.items import Items


@click.command(cls=SectionCommand)
@takes(TuneFlags)
def clips(given: TuneFlags) -> int | None:
    """Fine-tune on questions and answers about clips.

    DATA has one JSON object per line: `video` (with `start` and `end` in seconds) or `image`,
    `question`, `answer`; or `messages`, as TRL's; or it is VQAv2's question file. The result is
    DIR/best, an adapter for `--adapter DIR`, with curves and a model card in DIR. The same command
    resumes a stopped run.
    """
    options = read_options(given)
    check_folder("--out", given.out)
    screen = open_screen(quiet=given.quiet)
    set_num_threads()  # before torch is imported
    if given.offline:  # for the libraries: bitsandbytes may look for kernels on the hub
        os.environ["HF_HUB_OFFLINE"] = "1"
    from smolvideo.tune.items import read_items

    items = read_items(given.data, media=given.media, allow_outside=given.allow_outside)
    with StageProgress(screen) as stages:
        spec = choose_tuned_model(given, items, screen, stages, max_frames=options.max_frames)
    if given.dry_run:
        _check_inputs(given, spec, items, screen)
        _plan(given, spec, options, screen)
        return None
    with StageProgress(screen) as stages:
        _check_memory(spec, options)
        checkpoint = spec.checkpoint(weights=True, on_progress=stages.on_progress)
    with wrap_write_errors(given.out):
        _tune(_Run(given, spec, options, checkpoint, screen), items)
    return None


@dataclass(frozen=True)
class _Run:
    given: TuneFlags
    spec: EngineSpec
    options: TuneOptions
    checkpoint: Checkpoint
    screen: Output


def _tune(run: _Run, items: "Items") -> None:
    from smolvideo.tune.exam import check_exam, sit_exam
    from smolvideo.tune.items import left_out
    from smolvideo.tune.rehearsal import open_rehearsal
    from smolvideo.tune.run import Machine, TuneRequest

    given, checkpoint = run.given, run.checkpoint
    notices = NoticeLog(run.screen)
    cache = open_feature_cache("native", on_note=notices)
    machine = Machine(given.device, given.dtype, given.arithmetic, cache)
    rehearsal = open_rehearsal(
        _rehearse(given, checkpoint, notices),
        checkpoint,
        media=given.media,
        allow_outside=given.allow_outside,
    )
    if given.skip_faulty:
        for sentence in left_out(items):
            notices(sentence)
    request = TuneRequest(
        items,
        checkpoint,
        run.options,
        given.out,
        rehearsal=rehearsal,
        machine=machine,
        skip_faulty=given.skip_faulty,
    )
    exam = None
    if given.exam is None:
        result = tune_with_progress(request, notices)
    else:
        check_exam(given.exam, checkpoint)
        folder = given.out / "exam"
        with StageProgress(run.screen) as stages:
            on_progress = stages.on_progress
            before = sit_exam(
                given.exam, checkpoint, folder / "before", machine, on_progress=on_progress
            )
        result = tune_with_progress(request, notices)
        tuned = _tuned_checkpoint(run, given.out / "best")
        exam = before, sit_exam(given.exam, tuned, folder / "after", machine)
    report_result(
        request,
        result,
        notices,
        exam=exam,
        merges=given.merge and run.options.method != "full",
        as_json=given.as_json,
    )


def _rehearse(given: TuneFlags, checkpoint: Checkpoint, note: Callable[[str], None]) -> str:
    if given.rehearse != "auto":
        return given.rehearse
    if checkpoint.is_nano:
        return "world"
    note(
        "nothing is rehearsed, and other abilities may be forgotten: `--rehearse self` mixes in "
        "answers of the model itself, `--exam FILE` shows what was lost"
    )
    return "none"


def _tuned_checkpoint(run: _Run, best: Path) -> Checkpoint:
    from smolvideo.models import read_checkpoint

    if run.options.method == "full":
        return read_checkpoint(best, name=run.checkpoint.name)
    return run.checkpoint.with_adapter(best)


def _check_inputs(given: TuneFlags, spec: EngineSpec, items: "Items", screen: Output) -> None:
    """Refuse the files that the run itself would refuse, as far as no weights are needed."""
    from smolvideo.tune.exam import check_exam
    from smolvideo.tune.items import check_faults, left_out
    from smolvideo.tune.rehearsal import open_rehearsal

    known = lookup_model(spec.model)
    model: NamedModel = (
        replace(spec, offline=True).checkpoint()
        if known is None
        else PlannedModel(known.name, known.is_bundled)
    )
    check_faults(items, skip_faulty=given.skip_faulty)
    choice = None if given.rehearse == "auto" else given.rehearse
    rehearsal = open_rehearsal(choice, model, media=given.media, allow_outside=given.allow_outside)
    if rehearsal is not None and rehearsal.items is not None:
        check_faults(rehearsal.items, skip_faulty=given.skip_faulty)
    if given.exam is not None:
        check_exam(given.exam, model)
    screen.notes(left_out(items))


def _plan(given: TuneFlags, spec: EngineSpec, options: TuneOptions, screen: Output) -> None:
    from dataclasses import asdict

    from smolvideo.tune.plan import plan_run

    plan = plan_run(spec, options, given.data)
    if given.as_json:
        facts = {**asdict(plan), "peak_bytes": plan.peak_bytes, "fits": plan.fits}
        screen.write(json_line(facts) + "\n")
    else:
        show_tune_plan(screen, plan)
    plan.check()


def _check_memory(spec: EngineSpec, options: TuneOptions) -> None:
    """Refuse a run that cannot fit before anything is downloaded."""
    from smolvideo.tune.plan import plan_run

    if lookup_model(spec.model) is None or spec.model == "nano":
        return
    plan_run(spec, options, None).check()
