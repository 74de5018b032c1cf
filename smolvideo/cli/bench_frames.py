"""``smolvideo bench frames``: compare video readers with each other and with a lower bound."""

import tempfile
from pathlib import Path

import click

from smolvideo.cli.flags import FilePath, IntegerType, SectionCommand, SectionOption, is_typed
from smolvideo.cli.main import debug_option
from smolvideo.errors import UsageError
from smolvideo.sanitize import display_path, escape_controls
from smolvideo.show.console import Output, open_screen
from smolvideo.source import resolve_source


def _complete_ways(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from smolvideo.bench import frame_report as bench

    return [way for way in bench.installed_methods() if way.startswith(incomplete)]


@click.command("frames", cls=SectionCommand)
@click.argument("files", nargs=-1, type=FilePath(), metavar="[FILE]...")
@click.option(
    "--way",
    "ways",
    cls=SectionOption,
    multiple=True,
    metavar="WAY",
    shell_complete=_complete_ways,
    show_default="all that are installed",
    help="auto, a reader, or `pyav plainly` and the like: that decoder as its own "
    "documentation uses it. Repeatable.",
)
@click.option(
    "--max-frames",
    cls=SectionOption,
    type=IntegerType(min=1),
    default=50,
    metavar="N",
    help="Frames wanted, evenly spaced.",
)
@click.option(
    "--repeats",
    cls=SectionOption,
    type=IntegerType(min=1),
    default=3,
    metavar="N",
    help="Measurements of each way, alternating; medians are reported.",
)
@click.option(
    "--films",
    cls=SectionOption,
    type=FilePath(),
    metavar="DIR",
    show_default="a temporary one",
    help="Folder of the films that are rendered without FILE.",
)
@click.option("--quiet", is_flag=True, cls=SectionOption, help="Print nothing to stderr.")
@debug_option
@click.pass_context
def bench_frames(
    ctx: click.Context,
    /,
    files: tuple[Path, ...],
    ways: tuple[str, ...],
    max_frames: int,
    repeats: int,
    films: Path | None,
    quiet: bool,
) -> None:
    """Measure the cost of decoding frames.

    Compares each reader, and each decoder used plainly, with the lower bound: the time to decode
    the required packets and nothing else. Each measurement runs in its own process, alternating.
    Without FILE, three films are rendered first: 20 seconds and 10 minutes of 1080p, an hour of
    720p (1.5 GB). A table goes to stderr; the last line of stdout is one JSON object.
    """
    from smolvideo.bench import frame_report as bench

    known = bench.installed_methods()
    for way in ways:
        if way not in known:
            raise UsageError(f"unknown way `{way}`", hint=", ".join(known))
    if files and is_typed(ctx, "films"):
        raise UsageError("`--films` is for the films that are made if no FILE is given")
    for path in files:
        _check_video(path)
    screen = open_screen(quiet=quiet)

    def tell(text: str) -> None:
        if not quiet:
            screen.err.print(escape_controls(text), style="dim", highlight=False, markup=False)

    with tempfile.TemporaryDirectory(prefix="smolvideo-bench-") as folder:
        report = bench.bench_frames(
            files or _write_synthetic_videos(films or Path(folder), tell),
            ways or known,
            frames=max_frames,
            repeats=repeats,
            on_way=lambda name, way, run, runs: tell(f"{name}: {way}, {run} of {runs}"),
        )
    if not quiet:
        for file in report.files:
            _show(screen, file)
    click.echo(report.to_json())


def _check_video(path: Path) -> None:
    """Check that ``path`` is a video file. Raises SourceError if it is missing, else UsageError."""
    (source, *_) = resolve_source(str(path))
    if path.is_dir() or source.kind != "video":
        what = "folder" if path.is_dir() else "picture"
        raise UsageError(
            f"{display_path(path)} is a {what}, and only videos are measured",
            hint="name a video file",
        )


def _write_synthetic_videos(folder: Path, tell: "object") -> list[Path]:
    from smolvideo.bench.input_videos import SYNTHETIC_VIDEOS, write_synthetic_video

    assert callable(tell)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for film in SYNTHETIC_VIDEOS:
        tell(f"making {film.name}")
        paths.append(write_synthetic_video(film, folder))
    return paths


def _show(screen: Output, file: "object") -> None:
    from rich.table import Table

    from smolvideo.bench.frame_report import FileResult
    from smolvideo.formatting import format_bytes

    assert isinstance(file, FileResult)
    title = f"{escape_controls(file.name)}: {file.must_decode} packets must be decoded"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold")
    table.add_column("")
    for column in ("wall, s", "processor, s", "times the floor", "peak memory", "frames"):
        table.add_column(column, justify="right")
    table.add_row("floor", f"{file.floor:.2f}", f"{file.floor_cpu:.2f}", "1.00", "", "")
    for way in file.ways:
        times = file.slowdown(way)
        if way.error is not None or times is None:
            table.add_row(way.way, escape_controls(way.error or ""), "", "", "", "")
            continue
        peak = format_bytes(way.peak_memory_bytes or 0)
        cells = (f"{way.wall:.2f}", f"{way.cpu:.2f}", f"{times:.2f}", peak, str(way.frames))
        table.add_row(way.way, *cells)
    screen.err.print(table)
