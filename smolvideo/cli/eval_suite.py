"""``smolvideo eval suite``: models × benchmarks × settings of a TOML file, in one table."""

import io
from pathlib import Path
from typing import Any

import click

from smolvideo.cli.eval_options import EvalFlags
from smolvideo.cli.eval_run import benchmark_command, run_benchmark
from smolvideo.cli.flags import FilePath, SectionCommand, SectionOption, is_typed
from smolvideo.cli.main import debug_option
from smolvideo.cli.outputs import check_new_file
from smolvideo.errors import EXIT_SOME_FAILED, RecordError, SmolVideoError, UsageError
from smolvideo.evals.run_folder import RunFolder
from smolvideo.evals.scores import EvalReport, build_report
from smolvideo.evals.suite import SuiteRun, read_suite, to_arguments
from smolvideo.evals.suite_table import (
    SuiteTable,
    html_table,
    latex_table,
    markdown_table,
    suite_table,
)
from smolvideo.records import write_text_atomic
from smolvideo.sanitize import display_name
from smolvideo.show.console import Output, SafeConsole, open_screen
from smolvideo.show.evals import show_suite

FORMATS = ("table", "markdown", "latex", "html")


@click.command(cls=SectionCommand)
@click.argument("file", type=FilePath(), metavar="FILE.toml")
@click.option(
    "--run",
    "folder",
    cls=SectionOption,
    type=FilePath(),
    metavar="DIR",
    show_default="runs/NAME of the file",
    help="Folder of the runs, each in a folder of its own.",
)
@click.option(
    "--format",
    "form",
    cls=SectionOption,
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    help="Table for the terminal, in Markdown, LaTeX, or as one HTML file.",
)
@click.option(
    "--output",
    "-o",
    cls=SectionOption,
    type=FilePath(),
    metavar="FILE",
    show_default="stdout",
    help="Write the table to FILE, atomically.",
)
@click.option("--overwrite", cls=SectionOption, is_flag=True, help="Replace a FILE that exists.")
@click.option(
    "--table-only",
    cls=SectionOption,
    is_flag=True,
    help="Ask nothing: the table of the runs so far.",
)
@click.option("--quiet", cls=SectionOption, is_flag=True, help="Print nothing to stderr.")
@debug_option
@click.pass_context
def suite(
    ctx: click.Context,
    /,
    file: Path,
    folder: Path | None,
    form: str,
    output: Path | None,
    overwrite: bool,
    table_only: bool,
    quiet: bool,
) -> int | None:
    """Run models × benchmarks × settings, and show all scores in one table.

    FILE has the options of `eval BENCHMARK` in tables; later tables win over earlier ones, and
    `file` is the benchmark's FILE. Paths are relative to the file.

    \b
    [options]                    # of all runs
    max-frames = 8
    [[model]]
    model = "nano"
    [[benchmark]]
    benchmark = "cinepile"
    file = "cinepile.json"
    [[setting]]                  # none are needed
    name = "open"
    prompt = "open"

    The same command resumes a suite that was stopped. A run that cannot start is named, and the
    others continue. The exit code is 6 if some answers are missing.
    """
    if output is None and is_typed(ctx, "overwrite"):
        raise UsageError("`--overwrite` has no effect without `--output`")
    if output is not None:
        check_new_file(output, overwrite=overwrite)
    screen = open_screen(quiet=quiet)
    plan = read_suite(file, folder)
    # All options are read before the first run starts.
    flags = [_read_flags(ctx, run, plan.folder) for run in plan.runs]
    reports: dict[SuiteRun, EvalReport | str] = {}
    for number, (run, given) in enumerate(zip(plan.runs, flags, strict=True), 1):
        if not table_only:
            screen.notice(f"run {number} of {len(flags)}: {display_name(_title(run))}")
            reports[run] = _run(screen, run, given)
        elif (run.folder / "run.json").exists():
            reports[run] = _report_of(screen, run)
    table = suite_table(plan.runs, reports)
    if form == "table" and output is None:
        show_suite(screen.out, table)
    else:
        text = _text(form, table, file.stem)
        if output is None:
            screen.write(text)
        else:
            write_text_atomic(output, text, overwrite=overwrite)
            screen.notice(f"the table is in `{output}`")
    done = [one for one in reports.values() if isinstance(one, EvalReport) and one.complete]
    return None if len(done) == len(plan.runs) else EXIT_SOME_FAILED


def _run(screen: Output, run: SuiteRun, given: EvalFlags) -> EvalReport | str:
    """Return the report of one run, or why it failed; the others continue."""
    try:
        return run_benchmark(given, run.command, screen)
    except SmolVideoError as error:
        screen.notice(f"{display_name(_title(run))} failed: {error}")
        return str(error)


def _report_of(screen: Output, run: SuiteRun) -> EvalReport | str:
    try:
        return build_report(RunFolder.read(run.folder))
    except RecordError as error:
        screen.notice(f"{display_name(_title(run))}: {error}")
        return str(error)


def _text(form: str, table: SuiteTable, title: str) -> str:
    if form == "markdown":
        return markdown_table(table)
    if form == "latex":
        return latex_table(table)
    if form == "html":
        return html_table(table, title)
    written = io.StringIO()
    show_suite(SafeConsole(file=written, width=100, no_color=True, markup=False), table)
    return written.getvalue()


def _title(run: SuiteRun) -> str:
    return " · ".join(name for name in (run.model, run.benchmark, run.setting) if name)


def _read_flags(ctx: click.Context, run: SuiteRun, folder: Path) -> EvalFlags:
    """Read the options of one run, as from a command line. Raises UsageError."""
    command = benchmark_command(run.command)
    options = {name: _resolve(command, name, value, folder) for name, value in run.options.items()}
    names = {name.removeprefix("--"): one for one in command.params for name in one.opts}
    flags = [name for name, one in names.items() if getattr(one, "is_flag", False)]
    try:
        words = list(to_arguments(options, flags))
        words = [f"--run={run.folder}", "--quiet", *words]
        with command.make_context(run.command, words, parent=ctx.parent) as context:
            return EvalFlags.read(context)
    except (UsageError, click.UsageError) as error:
        said = error.format_message() if isinstance(error, click.UsageError) else str(error)
        raise UsageError(f"{display_name(_title(run))}: {display_name(said, 300)}") from error


def _resolve(command: click.Command, name: str, value: Any, folder: Path) -> Any:
    """A path of the file, relative to its folder; other values as they are."""
    wanted = "data" if name == "file" else name
    for one in command.params:
        if wanted in (one.name, *(opt.removeprefix("--") for opt in one.opts)):
            is_path = isinstance(one.type, FilePath) and isinstance(value, str)
            return str(folder / Path(value).expanduser()) if is_path else value
    return value
