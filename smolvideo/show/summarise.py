"""Batches in the terminal: the table of a dry run, live progress, failures, a summary line."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, Self

from rich.cells import cell_len
from rich.control import Control
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from smolvideo.formatting import format_clock, format_count, format_seconds
from smolvideo.progress import Progress
from smolvideo.sanitize import display_name, escape_controls
from smolvideo.show.console import Output
from smolvideo.show.progress_bar import STAGE_WORDS, format_amount
from smolvideo.show.tables import GrowingTable
from smolvideo.summaries import ItemStatus, RunStats, WorkItem
from smolvideo.summaries.dry_run import PlannedAction, PlannedItem

_COLUMNS = ("video", "length", "windows", "frames", "tokens", "what")
_WIDTHS = (7, 7, 6, 10)
"""Widths of the numeric columns: enough for 12 hours and ten million tokens."""
_PLANNED_WORDS: Final[dict[PlannedAction, str]] = {
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
        joint.join(filter(None, (_PLANNED_WORDS[planned.plan], why))),
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


_MADE = "summarised"
_WORDS: Final[dict[ItemStatus, str]] = {
    "made": _MADE,
    "same": "same as another",
    "kept": "done before",
    "busy": "in work elsewhere",
    "failed": "failed",
}
_STYLES: Final[dict[ItemStatus, str]] = {
    "made": "green",
    "same": "cyan",
    "kept": "dim",
    "busy": "dim",
    "failed": "red",
}
_LAST_SHOWN = 4
_ROOM_FOR_A_BAR = 60


class FinishedItem(Protocol):
    """A finished item of a batch: an ``ItemResult``, or one of another kind of run."""

    @property
    def name(self) -> str: ...
    @property
    def outcome(self) -> ItemStatus: ...
    @property
    def error(self) -> str | None: ...
    @property
    def hint(self) -> str | None: ...


class BatchProgress:
    """Displays a batch; pass ``on_progress`` to the core and every finished item to ``done``.

    ``total`` is None if the number of items is unknown; ``made`` says what was done with an item.
    Without a terminal only failures are printed, a line each.
    """

    def __init__(
        self, screen: Output, tally: RunStats, total: int | None, *, made: str = _MADE
    ) -> None:
        self._screen = screen
        self._made = made
        self._tally = tally
        self._total = total
        self._started = time.monotonic()
        self._stage: Progress | None = None
        self._last: list[FinishedItem] = []
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._screen.shows_progress:
            self._live = Live(
                console=self._screen.err,
                get_renderable=self._table,
                transient=True,
                refresh_per_second=5,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def wall_seconds(self) -> float:
        """Wall time since the batch began."""
        return time.monotonic() - self._started

    def on_progress(self, progress: Progress) -> None:
        """Store the current stage; callback of the core, from any thread."""
        if progress.stage != "decode":  # decoding prefetches a later video
            self._stage = progress

    def done(self, done: FinishedItem) -> None:
        """Add a finished item; print a line if it failed."""
        self._last = [*self._last, done][-_LAST_SHOWN:]
        if done.outcome == "failed" and not self._screen.quiet:
            error = str(done.error)
            named = error if done.name in error else f"{done.name}: {error}"
            line = Text.assemble(("failed: ", "red"), escape_controls(named))
            if done.hint:
                line.append(f" ({escape_controls(done.hint)})", "dim")
            self._screen.err.print(line, soft_wrap=True)

    def note(self, sentence: str) -> None:
        """Print a notice above the table, each sentence once."""
        self._screen.notice(sentence)

    def write(self, text: str) -> None:
        """Write data to stdout; stop the table meanwhile if both share a terminal."""
        if self._live is not None and self._screen.out.is_terminal:
            self._live.stop()
            self._screen.write(text)
            self._live.start()
        else:
            self._screen.write(text)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_row(self._head())
        for done in self._last:
            word = _word_of(done.outcome, self._made)
            words = Text(f"{word:>15} ", _STYLES[done.outcome])
            line = Text.assemble(words, display_name(done.name), no_wrap=True)
            line.truncate(self._screen.err.width - 1, overflow="ellipsis")
            table.add_row(line)
        if self._stage is not None:
            stage = self._stage
            amount = format_amount(stage.stage, stage.done, stage.total)
            table.add_row(Text(f"{STAGE_WORDS[stage.stage]:>15}… {amount}", "dim", no_wrap=True))
        return table

    def _head(self) -> Table:
        done, failed = self._tally.total, self._tally.counts["failed"]
        head = Table.grid(padding=(0, 2))
        of = f"/{self._total}" if self._total is not None else ""
        cells: list[Text | ProgressBar] = [Text(f"{done}{of} videos", "bold", no_wrap=True)]
        if self._total and self._screen.err.width >= _ROOM_FOR_A_BAR:
            cells.append(ProgressBar(self._total, done, width=16))
        cells.append(Text(f"{failed} failed", "red" if failed else "dim", no_wrap=True))
        cells.append(Text(self._speed(), no_wrap=True))
        left = self._seconds_left()
        if left is not None:
            cells.append(Text(f"{format_seconds(left)} left", "cyan", no_wrap=True))
        head.add_row(*cells)
        return head

    def _speed(self) -> str:
        wall = self.wall_seconds
        worked = self._tally.total - self._tally.counts["kept"]
        return f"{worked / wall * 60:.0f} a minute" if worked and wall > 0 else ""

    def _seconds_left(self) -> float | None:
        worked = self._tally.total - self._tally.counts["kept"]
        if self._total is None or not worked:
            return None
        return (self._total - self._tally.total) * self.wall_seconds / worked


def _word_of(outcome: ItemStatus, made: str) -> str:
    return made if outcome == "made" else _WORDS[outcome]


def summary_line(tally: RunStats, wall_seconds: float, *, made: str = _MADE) -> str:
    """``300 videos in 1 min 12 s: 262 summarised · 20 same as another · 8 failed``."""
    counts = [f"{count} {_word_of(name, made)}" for name, count in tally.counts.items() if count]
    head = f"{format_count(tally.total, 'video')} in {format_seconds(wall_seconds)}"
    return f"{head}: {' · '.join(counts)}" if counts else head


def timing_line(tally: RunStats) -> str:
    """Times per stage; decoding runs in parallel to the model, which waits only if it is slower."""
    return (
        f"decoding {format_seconds(tally.decoded_seconds)} in threads of its own, "
        f"loading {format_seconds(tally.load_seconds)}, "
        f"model {format_seconds(tally.answered_seconds)}, "
        f"waiting for frames {format_seconds(tally.waited_seconds)}"
    )
