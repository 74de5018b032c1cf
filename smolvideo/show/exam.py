"""Evaluation of nano in the terminal: progress bar and table of results."""

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from smolvideo.evals.report_text import percent
from smolvideo.sanitize import display_name
from smolvideo.show.console import Output
from smolvideo.show.progress_bar import ProgressBar

if TYPE_CHECKING:
    from smolvideo.train.exam.run import ExamReport


class ExamProgress(ProgressBar):
    """A bar with the share of right answers; without a terminal, a line per tenth of the run."""

    def __init__(self, screen: Output) -> None:
        super().__init__(
            screen,
            TextColumn("examining"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} videos"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[right]}"),
        )
        self._task = self._bar.add_task("", total=1, right="")
        self._told = 0

    def show(self, done: int, videos: int, right: int, asked: int) -> None:
        """Update the display; callback of the evaluation after every video."""
        share = f"{right / max(asked, 1):.1%} right"
        self._bar.update(self._task, completed=done, total=videos, right=share)
        tenth = 10 * done // videos
        if not self._screen.shows_progress and not self._screen.quiet and tenth > self._told:
            self._told = tenth
            self._screen.err.print(f"{done:,} of {videos:,} videos, {share}")


def show_exam_report(console: Console, report: "ExamReport") -> None:
    """Print one row per type of question: accuracy, accuracy with grey frames, and count."""
    summary = report.summary()
    name = display_name(report.setting["model"])
    title = f"{name}: {summary['questions']:,} questions about drawn worlds"
    console.print(Text(title, "bold"))
    console.print()
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for header in ("right", "grey frames", "asked"):
        table.add_column(header, justify="right")
    choices = sum(answer.type == "choice" for answer in report.answers)
    opened, grey = len(report.answers) - choices, summary["blind"]
    table.add_row("open questions", *_row(summary["open"], grey["open"], opened), style="bold")
    for name, scores in summary["by_type"].items():
        table.add_row(f"  {name}", *_row(scores["right"], scores["blind"], scores["asked"]))
    table.add_row(
        "five options, a letter wanted",
        *_row(summary["multiple_choice"], grey["multiple_choice"], choices),
        style="bold",
    )
    if (right := summary["multiple_choice_by_score"]) is not None:
        blind = grey["multiple_choice_by_score"]
        table.add_row("five options, the likeliest taken", *_row(right, blind, choices))
    console.print(table)
    console.print()
    for what in ("combinations", "wordings"):
        shares: dict[str, Any] = summary[what]
        known, novel = _percent(shares["known"]), _percent(shares["novel"])
        console.print(f"open questions, {what} of training: {known}; others: {novel}")


def _row(right: float | None, blind: float | None, asked: int) -> tuple[str, str, str]:
    return _percent(right), _percent(blind), f"{asked:,}"


def _percent(share: float | None) -> str:
    return "-" if share is None else percent(share)
