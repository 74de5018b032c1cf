"""Dry run of a batch: a table row per video as soon as it is planned, and the totals."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from smolvideo.sanitize import display_name, escape_controls
from smolvideo.show.console import Output
from smolvideo.show.format import format_count, format_seconds
from smolvideo.show.tables import GrowingTable
from smolvideo.summaries import WorkItem
from smolvideo.summaries.dry_run import PlannedAction, PlannedItem
from smolvideo.times import format_clock

_COLUMNS = ("video", "length", "windows", "frames", "tokens", "what")
_WIDTHS = (7, 7, 6, 10)
"""Widths of the numeric columns: enough for 12 hours and ten million tokens."""
_WORDS: Final[dict[PlannedAction, str]] = {
    "new": "new",
    "changed": "changed",
    "settings": "other settings",
    "again": "failed before",
    "done": "done",
    "same": "same as",
    "fetch": "to be fetched",
    "error": "cannot be done",
}
_WIPE = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))


def show_plan(
    screen: Output,
    items: Sequence[WorkItem],
    plan: Iterable[PlannedItem],
    seconds_per_frame: Callable[[], float | None],
) -> None:
    """Print a dry run's table on stdout, each row as ``plan`` yields it, and totals on stderr.

    ``items`` are all items of ``plan``; the progress is shown on stderr, in a terminal.
    """
    widest = max((cell_len(escape_controls(display_name(item.name))) for item in items), default=0)
    table = GrowingTable(
        screen, _COLUMNS, (widest, *_WIDTHS, 0), right=frozenset(range(1, len(_COLUMNS) - 1))
    )
    sums = _Sums()
    progress = _PlannedSoFar(screen, len(items))
    try:
        with progress.wiped_off():
            table.show_head()
        for planned in plan:
            sums.add(planned)
            with progress.wiped_off():
                table.add(_row(planned))
    finally:
        progress.wipe_off()
    if not screen.quiet:
        screen.err.print(Text(sums.line(seconds_per_frame())), soft_wrap=True)


@dataclass
class _Sums:
    videos: int = 0
    to_do: int = 0
    frames: int = 0
    tokens: int = 0

    def add(self, planned: PlannedItem) -> None:
        self.videos += 1
        self.to_do += bool(planned.frames or planned.plan in ("fetch", "same"))
        self.frames += planned.frames
        self.tokens += planned.tokens

    def line(self, seconds_per_frame: float | None) -> str:
        line = (
            f"{self.to_do} of {format_count(self.videos, 'video')} to do: "
            f"{format_count(self.frames, 'frame')}, {self.tokens:,} tokens to read"
        )
        if seconds_per_frame is None:
            return line
        seconds = format_seconds(self.frames * seconds_per_frame)
        return f"{line}, about {seconds} as measured in this folder"


def _row(planned: PlannedItem) -> Sequence[str]:
    why = display_name(planned.reason) if planned.reason else ""
    joint = " " if planned.plan == "same" else ": "
    costs = planned.frames > 0
    return (
        display_name(planned.item.name),
        "" if planned.duration_seconds is None else format_clock(planned.duration_seconds),
        str(planned.windows or "") if costs else "",
        str(planned.frames) if costs else "",
        f"{planned.tokens:,}" if costs else "",
        joint.join(filter(None, (_WORDS[planned.plan], why))),
    )


class _PlannedSoFar:
    """Counter of planned videos on the last line of stderr.

    Thousands of rows may go to the same terminal: the counter is erased and printed again around
    each row, without a thread of its own.
    """

    def __init__(self, screen: Output, total: int) -> None:
        self._console = screen.err
        self._shown = screen.shows_progress
        self._total = total
        self._done = 0

    @contextmanager
    def wiped_off(self) -> Iterator[None]:
        """Erase the counter while a row is printed, then print it one higher."""
        self.wipe_off()
        yield
        if self._shown and self._done < self._total:
            line = Text(f"planned {self._done}/{self._total}", "dim", no_wrap=True)
            self._console.print(line, end="", overflow="crop")
        self._done += 1

    def wipe_off(self) -> None:
        if self._shown:
            self._console.control(_WIPE)
