"""``smolvideo index add`` and ``rebuild``: fill the index with videos."""

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any

import click

from smolvideo.cli.cache import CacheFlags, open_feature_cache
from smolvideo.cli.flags import Flags, IntegerType, argument, flag, takes
from smolvideo.cli.index_options import IndexFileFlags, WindowFlags
from smolvideo.cli.model_choice import BackgroundEngine, choose_engine
from smolvideo.cli.model_options import EngineFlags
from smolvideo.cli.options import DownloadFlags, GeometryFlags, ListFlags, read_download, read_list
from smolvideo.cli.ray_options import RayCommand, RayFlags, read_cluster
from smolvideo.cli.shell_completion import complete_files
from smolvideo.cli.summary_options import QuietFlags
from smolvideo.cost.choose import all_drawn
from smolvideo.engines import Engine
from smolvideo.errors import EXIT_SOME_FAILED, UsageError
from smolvideo.formatting import format_count
from smolvideo.index.build import IndexedItem, IndexRun, prune
from smolvideo.index.options import IndexOptions
from smolvideo.index.ray_run import run_on_cluster
from smolvideo.index.store import IndexStore
from smolvideo.pipeline import NANO_NOTICE
from smolvideo.prompt import PromptOptions
from smolvideo.ray_cluster import RayOptions
from smolvideo.readers import READERS
from smolvideo.sanitize import display_name
from smolvideo.show.console import Output, open_screen
from smolvideo.show.summarise import BatchProgress, summary_line, timing_line
from smolvideo.source import Named
from smolvideo.summaries import Selection, WorkItem, list_items, watch
from smolvideo.summaries.watch_folder import FolderChanges


class SourceFlags(Flags):
    """The sources."""

    sources: tuple[str, ...] = argument(
        nargs=-1, metavar="SOURCE...", shell_complete=complete_files
    )


class IndexRunFlags(RayFlags, section="Run"):
    """Options of the run."""

    prompt: str | None = flag(
        metavar="TEXT",
        show_default="describe what can be seen",
        help="Your own question for the notes.",
    )
    limit: int | None = flag(
        type=IntegerType(min=1), metavar="N", show_default="all", help="Only the first N videos."
    )
    watch: bool = flag(
        excludes=("ray",),
        help="Continue with videos that appear in the folders, once they are complete. "
        "Ctrl-C ends it.",
    )
    retry: bool = flag(help="Repeat videos that could not be indexed before.")
    reader: str = flag(
        type=click.Choice(["auto", *READERS]), default="auto", help="What decodes videos."
    )


class AddFlags(
    SourceFlags,
    ListFlags,
    IndexFileFlags,
    WindowFlags,
    IndexRunFlags,
    EngineFlags,
    CacheFlags,
    GeometryFlags,
    DownloadFlags,
    QuietFlags,
):
    """All options of the command."""


@click.command("add", cls=RayCommand)
@takes(AddFlags)
def add(given: AddFlags) -> int:
    """Index videos: files, folders, patterns, URLs and playlists.

    What is indexed already takes no time; a bad file is named, and the run continues (exit code 6).

    \b
    smolvideo index ~/Videos
    smolvideo index talk.mp4 --window 20 --max-frames 10
    smolvideo index --ray ~/Videos
    """
    sources: tuple[Named, ...] = (*given.sources, *read_list(given))
    if not sources:
        raise UsageError("nothing to index", hint="`smolvideo index FOLDER` indexes one")
    if given.watch and given.ray is not None:
        raise UsageError("`--watch` and `--ray` contradict each other")
    return _run(given, sources, read_cluster(given))


@click.command("rebuild", cls=RayCommand)
@takes(AddFlags)
def rebuild(given: AddFlags) -> int:
    """Index videos again, from nothing: those named, or all that the index knows.

    The full-text table is built anew, too, and the file is checked.
    """
    if given.watch:
        raise UsageError("`--watch` adds to an index: `smolvideo index --watch FOLDER`")
    cluster = read_cluster(given)
    with IndexStore(given.index_path, must_exist=True) as store:
        store.rebuild_text()
        named: tuple[Named, ...] = (*given.sources, *read_list(given))
        prune(store, named or None)
        known = store.paths(named or None)
    sources = named or tuple(path for path, _ in known)
    if not sources:
        open_screen(quiet=given.quiet).notice("the index holds no videos")
        return 0
    return _run(given, sources, cluster, rebuilt=dict(known))


def _run(
    given: AddFlags,
    sources: Sequence[Named],
    cluster: RayOptions | None,
    *,
    rebuilt: Mapping[str, int] | None = None,
) -> int:
    """Index ``sources``; what the index holds of those in ``rebuilt`` (path → content) is dropped
    first, once there are a model and files to make it again."""
    download = read_download(given, sources, offline=given.offline)
    screen = open_screen(quiet=given.quiet, verbose=given.verbose)

    def listed(limit: int | None) -> list[WorkItem]:
        return list_items(sources, Selection(limit=limit), download=download)

    spec = choose_engine(
        given, screen, drawn=lambda: _all_drawn(given, listed), frames=given.max_frames
    )
    checkpoint = spec.checkpoint()
    cache = open_feature_cache(spec.engine, no_cache=given.no_cache, on_note=screen.notice)
    with ExitStack() as stack:
        store = stack.enter_context(IndexStore(given.index_path))
        progress: BatchProgress | None = None

        def on_progress(event: Any) -> None:
            if progress is not None:
                progress.on_progress(event)

        def load() -> Engine:
            return spec.load(cache=cache, on_progress=on_progress)

        run = IndexRun(
            checkpoint,
            BackgroundEngine(load).result,
            _read_options(given),
            store,
            download=download,
            retry=given.retry,
            quantize=spec.quantize,
            on_progress=on_progress,
        )
        items = None if given.watch else listed(given.limit)
        if rebuilt and items:
            paths = {path for one in items if one.error is None for path in _paths_of(one)}
            store.drop_windows(sorted({rebuilt[path] for path in paths & rebuilt.keys()}))
        progress = BatchProgress(
            screen, run.tally, None if items is None else len(items), made="indexed"
        )
        if cluster is None or items is None:
            dones = run.run(items or _watched(given, sources, listed))
        else:
            dones = run_on_cluster(run, items, spec, cluster, cache)
        failed = _index(screen, run, dones, progress)
        _tidy(screen, store, sources)
    return EXIT_SOME_FAILED if failed else 0


def _read_options(given: AddFlags) -> IndexOptions:
    return IndexOptions(
        prompt=given.prompt,
        window_seconds=given.window,
        max_frames=given.max_frames,
        at_shot_changes=given.shot_changes,
        reduce_to_fit=not given.is_explicit("max_frames"),
        prompt_options=PromptOptions(geometry=given.geometry),
        reader=given.reader,
    )


def _paths_of(item: WorkItem) -> tuple[str, str]:
    """Return the paths by which the index may know an item: its own, and in full."""
    return item.path, os.path.abspath(item.path)


def _index(
    screen: Output, run: IndexRun, dones: Generator[IndexedItem], progress: BatchProgress
) -> bool:
    """Index all items, and show failures, notices and counts; return whether any failed."""
    failed = False
    try:
        # Closed explicitly, so that Ray's processes end after Ctrl-C, too.
        with progress, closing(dones):
            for done in dones:
                failed |= done.outcome == "failed"
                progress.done(done)
                for notice in done.notices:
                    named = notice if notice == NANO_NOTICE else f"`{done.name}`: {notice}"
                    progress.note(display_name(named, 2_000))
    finally:
        if not screen.quiet:
            screen.err.print(
                summary_line(run.tally, progress.wall_seconds, made="indexed"), soft_wrap=True
            )
        if screen.verbose:
            screen.err.print(timing_line(run.tally), style="dim", soft_wrap=True)
    return failed


def _tidy(screen: Output, store: IndexStore, sources: Sequence[Named]) -> None:
    """Remove files that are gone, of what was named."""
    gone = prune(store, sources)
    if gone:
        screen.notice(f"{format_count(gone, 'file')} no longer there: left out of the index")


def _watched(given: AddFlags, sources: Sequence[Named], listed: Any) -> Iterator[WorkItem | None]:
    if not given.watch:
        return
    with FolderChanges(sources) as changes:
        yield from watch(lambda: listed(None), changes=changes, limit=given.limit)


def _all_drawn(given: AddFlags, listed: Any) -> bool:
    """Whether all videos are drawn ones; of addresses, and of what will appear, none is known."""
    if given.watch:
        return False
    items = listed(given.limit)
    if any(item.source is None and item.error is None for item in items):
        return False
    sources = (item.source for item in items if item.source is not None)
    return all_drawn(sources, reader=given.reader)
