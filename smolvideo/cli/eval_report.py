"""``smolvideo eval report``, ``compare`` and ``export``: commands on finished runs."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click

from smolvideo.cli.eval_options import GROUP_HELP, default_run_folder
from smolvideo.cli.flags import FilePath, SectionCommand, SectionOption, is_typed
from smolvideo.cli.main import debug_option
from smolvideo.cli.outputs import check_new_file, wrap_write_errors
from smolvideo.errors import EXIT_SOME_FAILED, UsageError
from smolvideo.evals.comparison import compare_runs
from smolvideo.evals.grouping import Grouping, parse_groupings
from smolvideo.evals.lmms_eval import export_lmms_eval
from smolvideo.evals.report_files import csv_report, html_report, markdown_report
from smolvideo.evals.run_folder import RunFolder
from smolvideo.evals.scores import EvalReport, build_report
from smolvideo.evals.settings import Condition
from smolvideo.evals.shards import merge_shards
from smolvideo.records import json_line, write_text_atomic
from smolvideo.show.console import SafeConsole, open_screen
from smolvideo.show.evals import show_comparison, show_report

FORMATS = ("charts", "markdown", "html", "csv", "json")

_run_argument = click.argument("run", type=FilePath(), metavar="RUN")
_output_option = click.option(
    "--output",
    "-o",
    cls=SectionOption,
    type=FilePath(),
    metavar="FILE",
    show_default="stdout",
    help="Write to FILE, atomically.",
)
_overwrite_option = click.option(
    "--overwrite", cls=SectionOption, is_flag=True, help="Replace a FILE that exists."
)


@click.command(cls=SectionCommand)
@_run_argument
@click.option(
    "--format",
    "form",
    cls=SectionOption,
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    help="Charts for the terminal; scores as Markdown or JSON; one HTML file to browse "
    "items, frames and answers; items as CSV, with an apostrophe before cells that a "
    "spreadsheet would run as a formula.",
)
@click.option(
    "--group",
    "group",
    cls=SectionOption,
    multiple=True,
    metavar="FIELD[,FIELD]",
    show_default="each field",
    help=GROUP_HELP,
)
@_output_option
@_overwrite_option
@debug_option
@click.pass_context
def report(
    ctx: click.Context,
    /,
    run: Path,
    form: str,
    group: tuple[str, ...],
    output: Path | None,
    overwrite: bool,
) -> int | None:
    """Show the scores of a run, finished or not.

    Accuracy overall and by every group, with intervals clustered by video, coverage, and bounds for
    missing answers. The exit code is 6 if some items have no answer.
    """
    if output is None and is_typed(ctx, "overwrite"):
        raise UsageError("`--overwrite` has no effect without `--output`")
    if output is not None:
        check_new_file(output, overwrite=overwrite)
    opened = RunFolder.read(run)
    if group and form == "csv":
        raise UsageError("`--group` has no effect with `--format csv`, which has all fields")
    groupings = parse_groupings(group, opened.items)
    scores = build_report(opened, groupings)
    screen = open_screen()
    if form == "charts" and output is None:
        show_report(screen.out, scores)
    else:
        text = _text(form, opened, scores, groupings)
        if output is None:
            screen.write(text)
        else:
            write_text_atomic(output, text, overwrite=overwrite)
            screen.notice(f"the report is in `{output}`")
    return None if scores.complete else EXIT_SOME_FAILED


def _text(form: str, run: RunFolder, scores: EvalReport, groupings: Sequence[Grouping]) -> str:
    if form == "markdown":
        return markdown_report(scores)
    if form == "html":
        return html_report(run, groupings)
    if form == "csv":
        return csv_report(run)
    if form == "json":
        return json_line(scores.to_dict(), indent=2) + "\n"
    written = io.StringIO()
    show_report(SafeConsole(file=written, width=100, no_color=True, markup=False), scores)
    return written.getvalue()


@click.command(cls=SectionCommand)
@click.argument("first", type=FilePath(), metavar="RUN")
@click.argument("second", type=FilePath(), metavar="RUN")
@click.option(
    "--first-condition",
    cls=SectionOption,
    type=click.Choice(get_args(Condition)),
    default="main",
    help="Condition of the first run.",
)
@click.option(
    "--second-condition",
    cls=SectionOption,
    type=click.Choice(get_args(Condition)),
    default="main",
    help="Condition of the second run.",
)
@click.option("--json", "as_json", cls=SectionOption, is_flag=True, help="One JSON object.")
@debug_option
def compare(
    first: Path,
    second: Path,
    first_condition: Condition,
    second_condition: Condition,
    as_json: bool,
) -> None:
    """Compare two runs, question by question.

    Only questions that both runs answered count. The difference has an interval and a p clustered
    by video, and McNemar's exact test. A run can be compared with its own controls.
    """
    if os.path.realpath(first) == os.path.realpath(second) and first_condition == second_condition:
        raise UsageError(
            "both are the same run", hint="`--second-condition blind` compares it with its control"
        )
    comparison = compare_runs(
        RunFolder.read(first),
        RunFolder.read(second),
        first_condition=first_condition,
        second_condition=second_condition,
    )
    screen = open_screen()
    if as_json:
        screen.write(json_line(comparison.to_dict()) + "\n")
    else:
        show_comparison(screen.out, comparison)


@click.command(cls=SectionCommand)
@click.argument("shards", type=FilePath(), metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--run",
    "target",
    cls=SectionOption,
    type=FilePath(),
    metavar="DIR",
    show_default="runs/BENCHMARK-MODEL",
    help="Folder of the merged run; an existing one gets the answers that are new.",
)
@debug_option
def merge(shards: tuple[Path, ...], target: Path | None) -> int | None:
    """Merge the runs of all shards into one run.

    The run has the same items and answers as one without --shard, byte by byte. Missing answers are
    counted; they can be asked in the merged run, or in their shard before another merge. The exit
    code is 6 if there are some.
    """
    if target is None:
        info = RunFolder.read(shards[0]).info
        target = default_run_folder(info.benchmark["name"], info.model["name"])
    screen = open_screen()
    with wrap_write_errors(target):
        merged = merge_shards(shards, target)
    screen.notes(merged.notices)
    report = build_report(merged.run)
    screen.notice(f"the run is in `{target}`; `smolvideo eval report {target}` shows it")
    if report.complete:
        return None
    missing = sum(1 for _ in merged.run.expected_keys()) - sum(
        not answer.failed for answer in merged.run.answers().values()
    )
    screen.notice(f"{missing:,} answers are missing")
    return EXIT_SOME_FAILED


@click.command(cls=SectionCommand)
@_run_argument
@click.argument("folder", type=FilePath(), metavar="DIR")
@_overwrite_option
@debug_option
def export(run: Path, folder: Path, overwrite: bool) -> None:
    """Write a run as lmms-eval does: results as JSON, and samples as JSON lines.

    The paths of the files go to stdout. Controls and unanswered questions are left out.
    """
    opened = RunFolder.read(run)
    with wrap_write_errors(folder):
        paths = export_lmms_eval(opened, folder, overwrite=overwrite)
    open_screen().write_paths(paths)
