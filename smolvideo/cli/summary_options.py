"""Options and parameter types of ``smolvideo summarise``."""

import re
import time
from pathlib import Path
from typing import Any, get_args

import click

from smolvideo.cli.flags import (
    FilePath,
    Flags,
    FloatType,
    IntegerType,
    TimeType,
    flag,
)
from smolvideo.cli.options import ListFlags
from smolvideo.cli.ray_options import RayFlags
from smolvideo.errors import UsageError
from smolvideo.file_names import existing_path
from smolvideo.readers import READERS
from smolvideo.sampling import RelativeTime
from smolvideo.summaries.options import Style, SummaryOptions
from smolvideo.summaries.outputs import FORMATS

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*(min|h|d|w)")
_AGE_SECONDS = {"min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class FormatsType(click.ParamType):  # type: ignore[type-arg]
    """Comma-separated output formats: ``txt,md,html``."""

    name = "formats"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip().lower() for name in str(value).split(",") if name.strip())
        for name in names:
            if name not in FORMATS:
                self.fail(f"unknown format `{name}`: {', '.join(FORMATS)}", param, ctx)
        if not names:
            self.fail("no format is named", param, ctx)
        return tuple(dict.fromkeys(names))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[Any]:
        before, comma, last = incomplete.rpartition(",")
        names = (name for name in FORMATS if name.startswith(last))
        return [click.shell_completion.CompletionItem(before + comma + name) for name in names]


class SinceType(click.ParamType):  # type: ignore[type-arg]
    """A time in the past: ``7d``, ``12h``, ``2026-11-01``, or the mtime of a file."""

    name = "when"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        from datetime import datetime

        if isinstance(value, float):
            return value
        text = str(value).strip()
        if match := _AGE.fullmatch(text):
            return time.time() - float(match[1]) * _AGE_SECONDS[match[2]]
        try:
            return datetime.fromisoformat(text).timestamp()
        except ValueError:
            pass
        try:
            return existing_path(Path(text)).stat().st_mtime
        except (OSError, ValueError):
            self.fail(
                f"`{text}` is no age (7d, 12h, 30min), no date (2026-11-01) and no file", param, ctx
            )


class WindowType(TimeType):
    """A duration: ``90``, ``1:30``."""

    name = "length"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        length = super().convert(value, param, ctx)
        if isinstance(length, RelativeTime):
            self.fail(f"`{value}` is a share, not a length of time", param, ctx)
        if length < 1:
            self.fail("a window lasts 1 second or more", param, ctx)
        return length


class SelectionFlags(ListFlags, section="Sources"):
    """Options that choose the videos."""

    newer_than: float | None = flag(
        type=SinceType(),
        metavar="WHEN",
        show_default="any",
        help="Only files modified since: 7d, 12h, 30min, 2026-11-01, or the time of a FILE.",
    )
    shuffle: int | None = flag(
        type=IntegerType(min=0),
        metavar="SEED",
        excludes=("watch",),
        show_default="as given",
        help="Shuffle the list; the same seed gives the same order.",
    )
    limit: int | None = flag(
        type=IntegerType(min=1),
        metavar="N",
        show_default="all",
        help="Only the first N videos.",
    )
    watch: bool = flag(
        excludes=("dry_run", "shuffle", "ray"),
        help="Continue with videos that appear in the folders, once they are complete. "
        "Ctrl-C ends it.",
    )


class SummaryFlags(Flags, section="Summary"):
    """Options of style, windows and frames."""

    style: Style = flag(
        default_from=SummaryOptions, type=click.Choice(get_args(Style)), help="Form of the summary."
    )
    prompt: str | None = flag(
        metavar="TEXT",
        show_default="that of the style",
        help="Your own question in place of that of the style.",
    )
    window: float = flag(
        type=WindowType(),
        default=SummaryOptions.window_seconds,
        show_default="60",
        help="Window of a long video in seconds; its boundaries move to shot changes. A "
        "video of up to 1.5 times that length is one window.",
    )
    max_frames: int = flag(
        default_from=SummaryOptions,
        type=IntegerType(min=1),
        metavar="N",
        help="Maximum number of frames per window. Too many for the context are an error "
        "if this option is given; otherwise they are reduced.",
    )
    reader: str = flag(
        type=click.Choice(["auto", *READERS]), default="auto", help="What decodes videos."
    )
    check: float = flag(
        default=SummaryOptions.check_share,
        type=FloatType(min=0, max=1),
        metavar="SHARE",
        excludes=("dry_run",),
        help="Ask again with grey frames for this share of the videos, and mark summaries that do "
        "not need the frames: 0.1 is one in ten.",
    )


class PlaceFlags(Flags, section="Output"):
    """Options of output files."""

    out: Path | None = flag(
        "-o",
        type=FilePath(),
        metavar="DIR",
        show_default="text on stdout",
        help="Folder of the outputs; an interrupted run is resumed there.",
    )
    beside: bool = flag(help="Write next to each video.")
    formats: tuple[str, ...] | None = flag(
        "--format",
        type=FormatsType(),
        metavar="LIST",
        show_default="txt",
        help=f"By commas: {', '.join(FORMATS)}.",
    )
    jsonl: Path | None = flag(
        type=FilePath(),
        metavar="FILE",
        show_default="summaries.jsonl in the folder",
        help="File of the records, one JSON line per video; - is stdout.",
    )
    overwrite: bool = flag(help="Replace existing files that smolvideo did not write.")


class RunFlags(RayFlags, section="Run"):
    """Options of the run."""

    dry_run: bool = flag(excludes=("watch",), help="Show what would be done and what it costs.")
    fail_fast: bool = flag(help="End at the first failure.")
    retry: bool = flag(help="Repeat videos that failed because of the file itself.")


class QuietFlags(Flags, section="Terminal"):
    """Options of verbosity."""

    quiet: bool = flag(excludes=("verbose",), help="Print only data and errors.")
    verbose: bool = flag("-v", excludes=("quiet",), help="Also print seconds per stage.")


def read_out(given: PlaceFlags) -> Path | None:
    """Read ``--out``. Raises UsageError if it is an existing file."""
    out = given.out
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"`--out {out}` is a file, not a folder")
    return out
