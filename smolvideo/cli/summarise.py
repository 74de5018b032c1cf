"""``smolvideo summarise``: summarise files, folders, URLs, playlists and lists."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from smolvideo.cli.flags import Flags, argument, takes
from smolvideo.cli.model_choice import BackgroundEngine, choose_engine, choose_for_plan
from smolvideo.cli.model_options import EngineFlags, RemoteFlags, read_engine_spec
from smolvideo.cli.options import (
    DownloadFlags,
    GenerationFlags,
    GeometryFlags,
    SchemaFlags,
    read_download,
    read_generation,
    read_list,
)
from smolvideo.cli.ray_options import RayCommand, read_cluster
from smolvideo.cli.shell_completion import complete_files
from smolvideo.cli.summary_options import (
    PlaceFlags,
    QuietFlags,
    RunFlags,
    SelectionFlags,
    SummaryFlags,
    read_out,
)
from smolvideo.cost.choose import all_drawn
from smolvideo.engines import EngineSpec
from smolvideo.errors import EXIT_SOME_FAILED, SmolVideoError, UsageError
from smolvideo.pipeline import NANO_NOTICE, open_for_plan
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import PromptOptions
from smolvideo.sanitize import display_name, escape_controls
from smolvideo.show.console import Output, open_screen
from smolvideo.show.progress_bar import StageProgress
from smolvideo.show.summarise import BatchProgress, show_plan, summary_line, timing_line
from smolvideo.source import Named, is_url
from smolvideo.summaries import (
    ItemResult,
    OutputOptions,
    RunOptions,
    Selection,
    SummaryOptions,
    SummaryRun,
    WorkItem,
    list_items,
    open_run,
    watch,
)
from smolvideo.summaries.dry_run import plan_items, seconds_per_frame
from smolvideo.summaries.formats import TEXT_FORMATTERS, to_text
from smolvideo.summaries.ray_run import run_on_cluster
from smolvideo.summaries.watch_folder import FolderChanges

STDOUT = Path("-")
_ON_STDOUT = {"md": ".summary.md", "srt": ".summary.srt", "vtt": ".summary.vtt"}


class SourceFlags(Flags):
    """The sources."""

    sources: tuple[str, ...] = argument(
        nargs=-1, metavar="SOURCE...", shell_complete=complete_files
    )


class SummariseFlags(
    SourceFlags,
    SelectionFlags,
    SummaryFlags,
    RemoteFlags,
    EngineFlags,
    GeometryFlags,
    GenerationFlags,
    SchemaFlags,
    DownloadFlags,
    PlaceFlags,
    RunFlags,
    QuietFlags,
):
    """All options of the command."""


@click.command(cls=RayCommand)
@takes(SummariseFlags)
def summarise(given: SummariseFlags) -> int:
    """Summarise videos: files, folders, URLs, playlists, lists.

    SOURCE is a video, a folder (with its subfolders), a pattern in quotes, or the URL of a video or
    a playlist. With --out the same command resumes an interrupted run, and computes only what is
    new or has changed. A bad file gets a record with its error; the run continues.

    \b
    smolvideo summarise party.mp4
    smolvideo summarise --style chapters --format md,srt,html --out notes/ lectures/
    smolvideo summarise --jsonl - holiday/*.mp4 | jq -r .text
    """
    request = _read_request(given)
    screen = open_screen(quiet=given.quiet, verbose=given.verbose)
    if given.dry_run:
        return _plan(request, screen)
    spec = choose_engine(given, screen, drawn=lambda: _all_drawn(request), frames=given.max_frames)
    request = replace(request, spec=spec)
    checkpoint = request.spec.checkpoint()
    with ExitStack() as stack:
        loading: BackgroundEngine | None = None
        progress: BatchProgress | None = None

        def on_progress(event: Any) -> None:
            if progress is not None:
                progress.on_progress(event)

        # Lock the records; the engine loads with the first prompt.
        loading = BackgroundEngine(lambda: request.spec.load(on_progress=on_progress))
        batch = stack.enter_context(
            open_run(
                checkpoint,
                loading.result,
                request.sources,
                request.options,
                request.outputs,
                request.run,
                quantize=request.spec.quantize,
                on_progress=on_progress,
            )
        )
        items = None if given.watch else _list(request, request.run.selection, on_progress)
        progress = BatchProgress(screen, batch.tally, None if items is None else len(items))
        return _run(request, screen, batch, items, progress)


def _plan(request: "_Request", screen: Output) -> int:
    """Show what would be done. Nothing is downloaded: of a model that is not here the registered
    figures are taken, and token counts are estimates."""
    with StageProgress(screen) as stages:
        spec, notices = choose_for_plan(
            request.spec,
            drawn=lambda: _all_drawn(request),
            frames=request.given.max_frames,
            on_progress=stages.on_progress,
        )
    model = open_for_plan(spec)
    if model.checkpoint is None and not notices:
        notices = (f"`{spec.model}` is not on this machine: token counts are estimates",)
    screen.notes(notices)
    checkpoint = replace(model.checkpoint_or_nano, model_reason=spec.model_reason)
    with open_run(
        checkpoint,
        spec.load,
        request.sources,
        request.options,
        request.outputs,
        request.run,
        quantize=spec.quantize,
    ) as batch:
        items = _list(request, request.run.selection, no_progress)
        show_plan(screen, items, plan_items(batch, items), lambda: seconds_per_frame(batch))
    return 0


@dataclass(frozen=True)
class _Request:
    """All options of the command, validated."""

    given: SummariseFlags
    sources: tuple[Named, ...]
    options: SummaryOptions
    outputs: OutputOptions
    run: RunOptions
    spec: EngineSpec
    stdout_format: str | None
    """Output on stdout per video: a format, ``jsonl``, or None for no output."""


def _read_request(given: SummariseFlags) -> _Request:
    """Read and validate the options. Raises UsageError, SourceError or RecordError."""
    sources: tuple[Named, ...] = (*given.sources, *read_list(given))
    if not sources:
        raise UsageError("nothing to summarise", hint="`smolvideo summarise VIDEO` summarises one")
    if given.quiet and given.verbose:
        raise UsageError("`--quiet` and `--verbose` contradict each other")
    _check_combinations(given)
    options = SummaryOptions(
        style=given.style,
        prompt=given.prompt,
        window_seconds=given.window,
        max_frames=given.max_frames,
        reduce_to_fit=not given.is_explicit("max_frames"),
        prompt_options=PromptOptions(geometry=given.geometry),
        generation=read_generation(given),
        reader=given.reader,
        check_share=given.check,
    )
    outputs, stdout_format = _read_outputs(given)
    selection = Selection(given.newer_than, given.shuffle, given.limit)
    download = read_download(given, sources, offline=given.offline)
    run = RunOptions(selection, download, given.retry, given.dry_run)
    spec = read_engine_spec(given)
    return _Request(given, sources, options, outputs, run, spec, stdout_format)


def _check_combinations(given: SummariseFlags) -> None:
    """Raises UsageError for contradictory options."""
    if given.prompt is not None and given.is_explicit("style") and given.style == "bullets":
        raise UsageError("`--prompt` takes the place of `--style bullets`: give one of them")
    for name, used in (("--dry-run", given.dry_run), ("--ray", given.ray is not None)):
        if given.server is not None and used:
            raise UsageError(f"`{name}` is about this machine, and `--server` is another")
    others = {"--dry-run": given.dry_run, "--shuffle": given.shuffle, "--ray": given.ray}
    for name, value in others.items():
        if given.watch and value not in (None, False):
            raise UsageError(f"`--watch` and `{name}` contradict each other")
    read_cluster(given)
    if given.is_explicit("overwrite") and given.out is None and not given.beside:
        raise UsageError("`--overwrite` has no effect without `--out` or `--beside`")


def _read_outputs(given: SummariseFlags) -> tuple[OutputOptions, str | None]:
    """Return the options of output files, and the format on stdout."""
    out, records, formats = read_out(given), given.jsonl, given.formats
    has_place = out is not None or given.beside
    if not has_place and not given.is_explicit("formats"):
        formats = None
    on_stdout = "jsonl" if records == STDOUT else None
    if records == STDOUT:
        records = None
    if not has_place and formats is not None:
        if on_stdout is not None or records is not None or len(formats) > 1:
            raise UsageError("`--format` needs a place for its files", hint="name `--out DIR`")
        if formats[0] in ("html", "chapters"):
            raise UsageError(f"format `{formats[0]}` is a file", hint="name `--out DIR`")
        on_stdout = formats[0]
    elif not has_place and on_stdout is None and records is None:
        on_stdout = "txt"
    outputs = OutputOptions(
        folder=out,
        next_to_source=given.beside,
        formats=(formats or ("txt",)) if has_place else (),
        records=records,
        overwrite=given.overwrite,
    )
    return outputs, on_stdout


def _all_drawn(request: _Request) -> bool:
    """Whether all videos are drawn ones; of addresses, and of what will appear, none is known."""
    if request.given.watch or any(is_url(str(source)) for source in request.sources):
        return False
    items = _list(request, request.run.selection, no_progress)
    if any(item.source is None and item.error is None for item in items):
        return False
    sources = (item.source for item in items if item.source is not None)
    return all_drawn(sources, reader=request.given.reader)


def _list(request: _Request, selection: Selection, on_progress: OnProgress) -> list[WorkItem]:
    return list_items(
        request.sources, selection, download=request.run.download, on_progress=on_progress
    )


def _run(
    request: _Request,
    screen: Output,
    batch: SummaryRun,
    items: list[WorkItem] | None,
    progress: BatchProgress,
) -> int:
    """Process all videos, show their results and the statistics, and return the exit code."""
    alone = items is not None and len(items) == 1
    failures: dict[str, ItemResult] = {}
    try:
        # Closed explicitly, so that Ray's processes end after Ctrl-C, too.
        with progress, closing(_results(request, batch, items)) as dones:
            for done in dones:
                if done.outcome == "failed":
                    failures[done.item.path] = done
                else:
                    failures.pop(done.item.path, None)  # a retry succeeded
                if not (alone and done.outcome == "failed"):
                    progress.done(done)
                text = _shown(request, done, alone=alone)
                if text or done.is_new:
                    _note(progress, done, alone=alone)
                if text:
                    progress.write(text)
                if done.outcome == "failed" and request.given.fail_fast:
                    break
    finally:
        if not screen.quiet and not alone:
            screen.err.print(summary_line(batch.tally, progress.wall_seconds), soft_wrap=True)
        if screen.verbose:
            screen.err.print(timing_line(batch.tally), style="dim", soft_wrap=True)
    if not failures:
        return 0
    if alone:
        raise _error_of(next(iter(failures.values())))
    return EXIT_SOME_FAILED


def _note(progress: BatchProgress, done: ItemResult, *, alone: bool) -> None:
    """Show the notices of a summary; ``NANO_NOTICE`` without a file name, so only once per run."""
    for notice in done.record.notices:
        of_one = alone or notice == NANO_NOTICE
        progress.note(notice if of_one else f"`{display_name(done.record.source.name)}`: {notice}")


def _results(
    request: _Request, batch: SummaryRun, items: list[WorkItem] | None
) -> Generator[ItemResult]:
    if items is None:
        return batch.run(_watched(request))
    cluster = read_cluster(request.given)
    if cluster is None:
        return batch.run(items)
    return run_on_cluster(batch, items, request.spec, cluster)


def _watched(request: _Request) -> Iterator[WorkItem | None]:
    everything = replace(request.run.selection, limit=None)
    with FolderChanges(request.sources) as changes:
        yield from watch(
            lambda: _list(request, everything, lambda _: None),
            changes=changes,
            limit=request.run.selection.limit,
        )


def _shown(request: _Request, done: ItemResult, *, alone: bool) -> str:
    """Format the output on stdout for one video."""
    wanted, record = request.stdout_format, done.record
    if wanted is None:
        return ""
    if wanted == "jsonl":
        return record.to_json() + "\n"
    if record.error is not None:
        return ""
    if wanted == "json":
        return TEXT_FORMATTERS[".summary.json"](record)
    if wanted in _ON_STDOUT:
        return TEXT_FORMATTERS[_ON_STDOUT[wanted]](record) + ("" if alone else "\n")
    if alone:
        return to_text(record)
    return f"{escape_controls(done.item.name)}\n{_indented(to_text(record))}\n"


def _indented(text: str) -> str:
    return "".join(f"  {line}".rstrip() + "\n" for line in text.splitlines())


def _error_of(done: ItemResult) -> SmolVideoError:
    """Rebuild the error of the only video from its record; it becomes the command's error."""
    record = done.record
    error = SmolVideoError(str(record.error), hint=record.hint)
    kinds: Iterable[type[SmolVideoError]] = SmolVideoError.__subclasses__()
    kind = next((kind for kind in kinds if kind.exit_code == record.exit_code), None)
    return error if kind is None else kind(str(record.error), hint=record.hint)
