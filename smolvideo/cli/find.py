"""``smolvideo find``: moments in videos that show a query, with grep's exit codes."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from smolvideo.cli.cache import CacheFlags, open_feature_cache
from smolvideo.cli.flags import (
    FilePath,
    Flags,
    FloatType,
    IntegerType,
    SectionCommand,
    argument,
    flag,
    takes,
)
from smolvideo.cli.index_options import IndexFileFlags, WindowFlags
from smolvideo.cli.model_choice import BackgroundEngine, choose_engine
from smolvideo.cli.model_options import EngineFlags
from smolvideo.cli.options import DownloadFlags, GeometryFlags, ListFlags, read_download, read_list
from smolvideo.cli.outputs import check_new_file, check_not_a_source
from smolvideo.cli.shell_completion import complete_files
from smolvideo.conversation.timestamps import play, player_command
from smolvideo.cost.choose import all_drawn
from smolvideo.engines import Engine, EngineSpec
from smolvideo.errors import SourceError, UsageError
from smolvideo.formatting import format_count
from smolvideo.index.export import EXPORTS, export_hits, format_of
from smolvideo.index.hits import SearchResult
from smolvideo.index.options import IndexOptions
from smolvideo.index.pictures import picture_of
from smolvideo.index.scope import SearchScope, open_scope
from smolvideo.index.search import SearchOptions, VideoSearch
from smolvideo.models.registry import is_auto
from smolvideo.prompt import PromptOptions
from smolvideo.readers import READERS
from smolvideo.records import write_text_atomic
from smolvideo.show.console import Output, open_screen
from smolvideo.show.filmstrip import FilmstripChoice
from smolvideo.show.find import show_cost, show_hits
from smolvideo.show.progress_bar import StageProgress
from smolvideo.source import Named

EXIT_FOUND, EXIT_NOTHING, EXIT_ERROR = 0, 1, 2
STDOUT = Path("-")


class FindCommand(SectionCommand):
    """A command with grep's exit codes: 1 is for no hits, so every error is 2."""

    error_exit_code = EXIT_ERROR


class QueryFlags(Flags):
    """The query and the sources."""

    query: str = argument(metavar="QUERY")
    sources: tuple[str, ...] = argument(
        nargs=-1, metavar="[SOURCE]...", shell_complete=complete_files
    )


class SearchFlags(Flags, section="Search"):
    """Options of the search."""

    limit: int = flag(
        default_from=SearchOptions, type=IntegerType(min=1), metavar="N", help="Hits at most."
    )
    min_score: float = flag(
        "--min",
        default_from=SearchOptions,
        type=FloatType(min=0, max=1),
        metavar="P",
        help="Probability that a hit needs.",
    )
    no_confirm: bool = flag(
        help="Search notes and subtitles alone: no model is loaded, and no frame is looked at."
    )
    max_candidates: int = flag(
        default_from=SearchOptions,
        type=IntegerType(min=1),
        metavar="N",
        help="Windows of the index whose frames are looked at.",
    )
    scan: bool = flag(help="Look at all windows of SOURCE, as if there were no index.")
    reader: str = flag(
        type=click.Choice(["auto", *READERS]), default="auto", help="What decodes videos."
    )


class HitFlags(Flags, section="Output"):
    """Options of the output."""

    as_json: bool = flag("--json", help="Print one JSON object.")
    export: str | None = flag(
        type=click.Choice([*EXPORTS]),
        metavar="FORMAT",
        show_default="that of --output",
        help="Write the hits as csv, edl, m3u or html, to stdout or --output.",
    )
    output: Path | None = flag(
        "-o", type=FilePath(), metavar="FILE", show_default="stdout", help="File of the hits."
    )
    overwrite: bool = flag(help="Replace the file of --output.")
    open_hit: int | None = flag(
        "--open",
        type=IntegerType(min=1),
        metavar="N",
        show_default="none",
        help="Play hit number N, from its start.",
    )
    filmstrip: FilmstripChoice = flag(
        type=click.Choice(["auto", "kitty", "sixel", "blocks", "times", "none"]),
        default="auto",
        envvar="SMOLVIDEO_FILMSTRIP",
        show_envvar=True,
        help="How to show a frame of each hit in a terminal.",
    )
    quiet: bool = flag(excludes=("verbose",), help="Print only hits and errors.")
    verbose: bool = flag("-v", excludes=("quiet",), help="Also print what was searched.")


class FindFlags(
    QueryFlags,
    ListFlags,
    SearchFlags,
    IndexFileFlags,
    WindowFlags,
    EngineFlags,
    CacheFlags,
    GeometryFlags,
    DownloadFlags,
    HitFlags,
):
    """All options of the command."""


@click.command("find", cls=FindCommand)
@takes(FindFlags, window={"help": "Length of a window in seconds, of videos in no index."})
def find(given: FindFlags) -> int:
    """Find moments in videos.

    Those that show QUERY, in indexed videos or in SOURCE. Notes and subtitles are searched first;
    then the model looks at the frames. SOURCE that is not in the index is scanned, after a line on
    what that costs. Each hit is a line: file, time range, probability, note. Exit codes are those
    of grep: 0 found, 1 nothing found, 2 error.

    \b
    smolvideo find "a dog in the snow"
    smolvideo find "somebody blows out candles" party.mp4 --json
    smolvideo find "EXIT" ~/Videos --min 0.8 --export html -o exits.html
    """
    request = _read_request(given)
    screen = open_screen(quiet=given.quiet, verbose=given.verbose)
    with ExitStack() as stack:
        stages = stack.enter_context(StageProgress(screen))
        scope = stack.enter_context(_open_scope(request))
        found = _search(request, scope, screen, stages)
        stages.close()
    screen.notes(found.notices)
    _write(request, found, screen)
    screen.notes(f"`{path}` could not be searched: {why}" for path, why in found.failed.items())
    if given.open_hit is not None and found.hits:
        _play(found, given.open_hit)
    if found.failed:
        return EXIT_ERROR
    return EXIT_FOUND if found.hits else EXIT_NOTHING


@dataclass(frozen=True)
class _Request:
    """All options of the command, validated."""

    given: FindFlags
    sources: tuple[Named, ...]
    options: SearchOptions
    form: str | None


def _read_request(given: FindFlags) -> _Request:
    """Read and validate the options. Raises UsageError or RecordError."""
    if given.no_confirm and given.scan:
        raise UsageError("`--scan` looks at frames, and `--no-confirm` at none")
    if given.as_json and given.export is not None:
        raise UsageError("`--json` and `--export` are two forms of the hits: give one of them")
    if given.is_explicit("overwrite") and given.output is None:
        raise UsageError("`--overwrite` has no effect without `--output`")
    form = given.export
    if form is None and given.output is not None and not given.as_json:
        form = format_of(given.output.name)
        if form is None:
            raise UsageError(
                "`--output` needs a format", hint=f"add `--export {'|'.join(EXPORTS)}` or `--json`"
            )
    sources = (*given.sources, *read_list(given))
    if given.scan and not sources:
        raise UsageError("`--scan` needs a SOURCE")
    if given.output is not None:
        check_new_file(given.output, overwrite=given.overwrite)
        check_not_a_source("--output", given.output, (Path(str(one)) for one in sources))
    index = IndexOptions(
        window_seconds=given.window,
        max_frames=given.max_frames,
        reduce_to_fit=not given.is_explicit("max_frames"),
        prompt_options=PromptOptions(geometry=given.geometry),
        reader=given.reader,
    )
    options = SearchOptions(
        given.limit, given.min_score, not given.no_confirm, given.max_candidates, index
    )
    return _Request(given, sources, options, form)


def _open_scope(request: _Request) -> SearchScope:
    given = request.given
    return open_scope(
        given.index_path,
        request.sources,
        request.options,
        scan=given.scan,
        must_exist=given.is_on_command_line("index"),
        download=read_download(given, request.sources, offline=given.offline),
    )


def _search(
    request: _Request, scope: SearchScope, screen: Output, stages: StageProgress
) -> SearchResult:
    given = request.given

    def load() -> Engine:
        spec = _choose(request, scope, screen, stages)
        cache = open_feature_cache(spec.engine, no_cache=given.no_cache, on_note=screen.notice)
        return spec.load(cache=cache, on_progress=stages.on_progress)

    search = VideoSearch(
        scope.videos,
        scope.store,
        BackgroundEngine(load).result,
        request.options,
        on_progress=stages.on_progress,
    )
    if request.options.confirm:
        with stages.paused():
            show_cost(screen, search.cost(), scanned=scope.scanned)
    found = search.search(given.query)
    return scope.with_failures(found)


def _choose(
    request: _Request, scope: SearchScope, screen: Output, stages: StageProgress
) -> EngineSpec:
    """Return the model: the one named, else that of the index, else as for ``ask``."""
    given = request.given
    if is_auto(given.model) and (model := scope.index_model()) is not None:
        from dataclasses import replace

        from smolvideo.cli.model_options import read_engine_spec

        return replace(read_engine_spec(given), model=model, model_reason="made the index")
    return choose_engine(
        given,
        screen,
        drawn=lambda: all_drawn(scope.sources(), reader=given.reader),
        frames=given.max_frames,
        stages=stages,
    )


def _write(request: _Request, found: SearchResult, screen: Output) -> None:
    """Show the hits, or write them in the format that was asked for."""
    given = request.given
    if given.as_json:
        text = found.to_json() + "\n"
    elif request.form is not None:
        text = export_hits(request.form, found, lambda hit: picture_of(hit, reader=given.reader))
    else:
        show_hits(screen, found, given.filmstrip, reader=given.reader)
        return
    if given.output is None or given.output == STDOUT:
        screen.write(text)
        return
    write_text_atomic(given.output, text, overwrite=given.overwrite)
    screen.notice(f"{format_count(len(found.hits), 'hit')} in `{given.output}`")


def _play(found: SearchResult, number: int) -> None:
    if number > len(found.hits):
        raise UsageError(f"there is no hit {number}: {format_count(len(found.hits), 'hit')}")
    hit = found.hits[number - 1]
    if "://" in hit.path:
        raise SourceError("an address cannot be played from here")
    play(player_command(Path(hit.path), hit.start_seconds))
