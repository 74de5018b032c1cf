"""Progress bars on stderr: their base, and the stages of an answer with the time left.

A bar is erased when its stage ends, and never shown without a terminal.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

from rich.progress import (
    BarColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
)
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from smolvideo.closing import ClosedOnExit
from smolvideo.formatting import format_bytes, format_seconds
from smolvideo.progress import Progress, Stage
from smolvideo.sanitize import escape_controls
from smolvideo.show.console import Output


class ProgressBar:
    """Context manager that shows a bar on ``screen``; ``_bar`` is rich's, with ``columns``."""

    def __init__(self, screen: Output, *columns: ProgressColumn, expand: bool = False) -> None:
        self._screen = screen
        self._bar = Bars(
            *columns,
            console=screen.err,
            transient=True,
            disable=not screen.shows_progress,
            expand=expand,
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


STAGE_WORDS: Final[dict[Stage, str]] = {
    "download": "downloading",
    "convert": "rounding weights to bfloat16",
    "measure": "measuring speed",
    "compile": "compiling kernels for this processor, once",
    "load": "loading the model",
    "decode": "decoding frames",
    "encode": "looking at frames",
    "prefill": "reading the prompt",
    "generate": "answering",
    "explain": "finding the frames that carry the answer",
    "check": "asking again with other frames",
    "find": "looking at windows",
}

_UNITS: Final[dict[Stage, str]] = {
    "decode": "frames",
    "encode": "frames",
    "generate": "tokens",
    "explain": "frames",
    "check": "controls",
    "find": "windows",
}
_ANSWERING: Final = ("encode", "prefill", "generate", "explain", "check")
"""Stages of the engine, in their order: each ends the ones before it; ``compile`` is ended by
``generate`` alone."""
_STALLED_SECONDS = 5.0
"""Without a byte for so long, a download has no rate and no time left."""

_ROOM_FOR_A_BAR = 60
_ROOM_FOR_A_RATE = 75
_ROOM_FOR_ALL = 95


class StageProgress(ClosedOnExit):
    """Displays the stages of one command; pass its ``on_progress`` to the core.

    Thread-safe: weights load while frames are decoded.
    """

    def __init__(self, screen: Output) -> None:
        self._console = screen.err
        self._shown = screen.shows_progress
        self._lock = threading.Lock()
        self._bars: Bars | None = None
        self._tasks: dict[Stage, TaskID] = {}
        self._paused = False
        self._closed = False

    def on_progress(self, progress: Progress) -> None:
        """Update the display; callback of the core, called often and from any thread."""
        if not self._shown:
            return
        with self._lock:
            if not (self._closed or self._paused):
                self._update(progress)

    def finish(self, stage: Stage) -> None:
        """End a stage that has not reported its end."""
        with self._lock:
            self._remove(stage)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hide the display while something else is drawn; reports of threads are ignored."""
        with self._lock:
            self._paused = True
            self._stop()
        try:
            yield
        finally:
            with self._lock:
                self._paused = False

    def close(self) -> None:
        """Remove the display for good."""
        with self._lock:
            self._closed = True
            self._stop()

    def _update(self, progress: Progress) -> None:
        stage = progress.stage
        if stage in _ANSWERING:
            lasting = (stage,) if stage == "generate" else (stage, "compile")
            for earlier in [name for name in self._tasks if name not in lasting]:
                self._remove(earlier)
        if progress.total is not None and progress.done >= progress.total > 0:
            self._remove(stage)
            return
        bars = self._running()
        # The length of an answer is unknown: max_new_tokens is a limit, not a goal.
        total = None if stage == "generate" else progress.total
        words = _description(progress)
        if stage not in self._tasks:
            self._tasks[stage] = bars.add_task(
                words,
                completed=int(progress.done),  # was here before: it does not count for the rate
                total=total,
                stage=stage,
                done=progress.done,
                changed=bars.get_time(),
            )
        task = bars.tasks[bars.task_ids.index(self._tasks[stage])]
        if progress.done != task.fields["done"]:
            task.fields.update(done=progress.done, changed=bars.get_time())
        bars.update(self._tasks[stage], completed=progress.done, total=total, description=words)

    def _running(self) -> Bars:
        if self._bars is None:
            columns: list[ProgressColumn] = [SpinnerColumn(), _Words()]
            width = self._console.width
            if width >= _ROOM_FOR_A_BAR:
                columns.append(BarColumn(bar_width=24 if width >= _ROOM_FOR_ALL else 8))
            self._bars = Bars(
                *columns,
                _Amount(with_rate=width >= _ROOM_FOR_A_RATE),
                _TimeLeft(table_column=Column(no_wrap=True)),
                console=self._console,
                transient=True,
                refresh_per_second=10,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bars.start()
        return self._bars

    def _remove(self, stage: Stage) -> None:
        task = self._tasks.pop(stage, None)
        if self._bars is not None and task is not None:
            self._bars.remove_task(task)
        if not self._tasks:
            self._stop()

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        self._tasks.clear()


def _description(progress: Progress) -> str:
    words = STAGE_WORDS[progress.stage]
    if progress.label and progress.stage in ("download", "convert"):
        return f"{words} {escape_controls(progress.label)}"
    return words


class _Words(ProgressColumn):
    """Name of the stage; truncated, not wrapped."""

    def render(self, task: Task) -> Text:
        text = Text(task.description, overflow="ellipsis", no_wrap=True)
        text.truncate(44, overflow="ellipsis")
        return text


class _Amount(ProgressColumn):
    """``12/50 frames``, ``3.4 MB of 1.0 GB, 12 MB/s``, or nothing if it is unknown; never cut."""

    def __init__(self, *, with_rate: bool) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self._with_rate = with_rate

    def render(self, task: Task) -> Text:
        stage = task.fields["stage"]
        amount = format_amount(stage, task.completed, task.total)
        if self._with_rate and stage == "download":
            idle = _idle_seconds(task)
            if idle >= _STALLED_SECONDS:
                amount += f", no data for {_whole_seconds(idle)}"
            elif task.speed:
                amount += f", {format_bytes(task.speed)}/s"
        return Text(amount, no_wrap=True)


class _TimeLeft(ProgressColumn):
    """``4 s left``; the elapsed time while the rest cannot be estimated."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        stalled = task.fields["stage"] == "download" and _idle_seconds(task) >= _STALLED_SECONDS
        if task.time_remaining is not None and task.total is not None and not stalled:
            return Text(f"{_whole_seconds(task.time_remaining)} left", "cyan", no_wrap=True)
        elapsed = task.elapsed or 0.0
        return Text(_whole_seconds(elapsed) if elapsed >= 1 else "", "dim", no_wrap=True)


def _idle_seconds(task: Task) -> float:
    """Seconds since the last progress: rich keeps the last rate."""
    return float(task.get_time() - task.fields["changed"])


def _whole_seconds(seconds: float) -> str:
    return f"{round(seconds)} s" if seconds < 59.5 else format_seconds(seconds)


def format_amount(stage: Stage, done: float, total: float | None) -> str:
    """Format a stage's progress in its own unit; empty for stages that are not counted."""
    if stage in ("download", "convert"):
        if not done and total is None:
            return ""
        return format_bytes(done) + (f" of {format_bytes(total)}" if total else "")
    unit = _UNITS.get(stage)
    if unit is None:
        return ""
    return f"{done:.0f}/{total:.0f} {unit}" if total else f"{done:.0f} {unit}"
