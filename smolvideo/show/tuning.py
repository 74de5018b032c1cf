"""A tuning run in the terminal: progress with the scores, and the result."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from smolvideo.formatting import format_bytes, format_seconds
from smolvideo.sanitize import escape_controls
from smolvideo.show.console import Output
from smolvideo.show.progress_bar import ProgressBar

if TYPE_CHECKING:
    from smolvideo.tune.memory import TunePlan
    from smolvideo.tune.run import TuneResult
    from smolvideo.tune.training import TuneProgress


class TuningProgress(ProgressBar):
    """A bar with the time left and the loss; a line of scores after every evaluation."""

    def __init__(self, screen: Output) -> None:
        super().__init__(
            screen,
            TextColumn("tuning"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("step {task.completed:.0f}/{task.total:.0f}  loss {task.fields[loss]:.3f}"),
        )
        self._task = self._bar.add_task("", total=1, loss=float("nan"))

    def show(self, progress: "TuneProgress") -> None:
        """Update the display; callback of the training."""
        self._bar.update(
            self._task, completed=progress.step, total=progress.steps, loss=progress.loss
        )
        if progress.scores and not self._screen.quiet:
            scores = "  ".join(_score(name, value) for name, value in progress.scores.items())
            left = progress.seconds_left
            more = f"  {format_seconds(left)} left" if left else ""
            self._screen.err.print(
                Text(f"step {progress.step:5}  loss {progress.loss:.3f}  {scores}{more}"),
                soft_wrap=True,
            )


def _score(name: str, value: float) -> str:
    return f"{name} {value:.3f}" if name.endswith("loss") else f"{name} {value:.0%}"


def show_tune_result(
    screen: Output,
    result: "TuneResult",
    rows: Sequence[tuple[str, float, float, int]],
    exam: tuple[Mapping[str, tuple[float, int]], Mapping[str, tuple[float, int]]] | None,
) -> None:
    """Print exact match before and after, and what an exam lost."""
    if screen.quiet:
        return
    table = _table("exact answers", "before", "after", "answers")
    for name, before, after, count in rows:
        table.add_row(escape_controls(name), f"{before:.1%}", f"{after:.1%}", f"{count}")
    if exam is not None:
        for name, (share, count) in exam[0].items():
            after = exam[1].get(name, (0.0, 0))[0]
            table.add_row(
                escape_controls(f"exam: {name}"), f"{share:.1%}", f"{after:.1%}", f"{count}"
            )
    if table.row_count:
        screen.err.print(table)
    words = (
        f"best at step {result.course.best_step} of {result.course.step}; "
        f"{result.frames_encoded:,} frames encoded, {result.frames_from_cache:,} from the cache; "
        f"{format_seconds(result.course.seconds)} of training"
    )
    screen.err.print(Text(words), soft_wrap=True)


def show_tune_plan(screen: Output, plan: "TunePlan") -> None:
    """Print the predicted memory by what holds it, the time of a step, and what would fit."""
    table = _table(f"{plan.model}, {plan.method}", "memory")
    for name, size in plan.memory.items():
        table.add_row(name, format_bytes(size))
    table.add_row("peak", format_bytes(plan.peak_bytes), style="bold")
    table.add_row("free on this machine", format_bytes(plan.free_bytes))
    screen.out.print(table)
    lines = [f"{plan.steps:,} steps of {plan.batch_size} samples of about {plan.tokens:,} tokens"]
    if plan.seconds_per_step is not None:
        total = format_seconds(plan.seconds_per_step * plan.steps)
        lines.append(f"{format_seconds(plan.seconds_per_step)} a step, {total} in all, predicted")
    if plan.encode_seconds is not None:
        lines.append(
            f"{format_seconds(plan.encode_seconds)} before, to encode {plan.frames:,} frames"
        )
    lines.append(
        f"adapter: {format_bytes(plan.adapter_bytes)}; samples: {format_bytes(plan.disk_bytes)}"
    )
    lines += plan.advice
    for line in lines:
        screen.out.print(Text(line), soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table: Any = Table(box=None, pad_edge=False)
    table.add_column(escape_controls(title))
    for column in columns:
        table.add_column(column, justify="right")
    result: Table = table
    return result
