"""Benchmark runs in the terminal: progress bar, bar chart of scores, comparison of two runs."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from smolvideo.evals.report_text import (
    caveats,
    comparison_remarks,
    headline,
    interval,
    p_value,
    percent,
    settings_lines,
)
from smolvideo.sanitize import display_name
from smolvideo.show.choices import show_reliability
from smolvideo.show.console import Output
from smolvideo.show.progress_bar import ProgressBar

if TYPE_CHECKING:
    from smolvideo.evals.comparison import Comparison
    from smolvideo.evals.run import EvalProgress
    from smolvideo.evals.scores import EvalReport, Score
    from smolvideo.evals.statistics import PairedComparison
    from smolvideo.evals.suite_table import SuiteTable

_MAX_BAR = 60
_NUMBERS = len("  100.0 %  86.9 to 100.0  4941/4941  ")
"""Columns that the numbers after a bar take."""


class BenchmarkProgress(ProgressBar):
    """A bar with the accuracy so far; without a terminal, a line per tenth of the run."""

    def __init__(self, screen: Output) -> None:
        super().__init__(
            screen,
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[right]}"),
            expand=True,
        )
        self._task = self._bar.add_task("asking", total=1, right="")
        self._told = -1

    def show(self, progress: "EvalProgress") -> None:
        """Update the display; callback of the run."""
        failed = f", {progress.failed} failed" if progress.failed else ""
        share = (
            f"{progress.num_correct / progress.answered:.1%} right{failed}"
            if progress.answered
            else failed
        )
        self._bar.update(
            self._task,
            completed=progress.done,
            total=progress.total,
            description=display_name(progress.video, 28) if progress.video else "asking",
            right=share.strip(", "),
        )
        tenth = 10 * progress.done // max(progress.total, 1)
        if not self._screen.shows_progress and not self._screen.quiet and tenth > self._told:
            self._told = tenth
            line = f"{progress.done:,} of {progress.total:,} answers"
            self._screen.err.print(f"{line}, {share.strip(', ')}" if share else line)


def show_report(console: Console, report: "EvalReport") -> None:
    """Print the setting, the scores of all conditions, and all groups of the main condition."""
    console.print(Text(headline(report), "bold"))
    for line in settings_lines(report):
        console.print(Text(line, "dim"), soft_wrap=not console.is_terminal)
    console.print()
    rows: list[tuple[str, Score]] = [
        ("accuracy" if name == "main" else name, scores.overall)
        for name, scores in report.conditions.items()
    ]
    console.print(_chart(console, rows))
    for group, members in report.main.groups.items():
        console.print()
        console.print(Text(display_name(group.replace("_", " ")), "bold"))
        console.print(_chart(console, list(members.items())))
    if report.main.reliability is not None:
        console.print()
        title = "accuracy by confidence; | marks the mean confidence"
        show_reliability(console, title, report.main.reliability)
    console.print()
    for line in caveats(report):
        console.print(Text(line), soft_wrap=not console.is_terminal)


def show_comparison(console: Console, comparison: "Comparison") -> None:
    """Print the difference of two runs, overall and by group."""
    title = f"{display_name(comparison.first)} less {display_name(comparison.second)}"
    console.print(Text(title, "bold"))
    for line in comparison.differences:
        console.print(Text(display_name(line, 300), "dim"), soft_wrap=not console.is_terminal)
    console.print()
    wide = console.width >= 100
    longest = min(44, console.width // 4)
    table = Table(box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    for header in ("first", "second", "less", "95 %", "p", "n", *(["only one right"] * wide)):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_row(*_pair_row("all", comparison.overall, wide=wide))
    for group, members in comparison.groups.items():
        table.add_row(Text(display_name(group.replace("_", " "), longest), "bold"))
        for value, pair in members.items():
            table.add_row(*_pair_row(f"  {display_name(value, longest - 2)}", pair, wide=wide))
    console.print(table)
    console.print()
    for line in comparison_remarks(comparison):
        console.print(Text(line), soft_wrap=not console.is_terminal)


def show_suite(console: Console, table: "SuiteTable") -> None:
    """Print the table of a suite."""
    shown = Table(box=None, pad_edge=False)
    names = len(table.header) - len(table.rows[0][1])
    for number, title in enumerate(table.header):
        shown.add_column(
            Text(display_name(title, 40)), justify="left" if number < names else "right"
        )
    for row, cells in table.rows:
        shown.add_row(
            *(Text(display_name(name, 40)) for name in row), *(Text(cell.text) for cell in cells)
        )
    console.print(shown)
    console.print(Text("accuracy with its 95 % interval, clustered by video", "dim"))


def _pair_row(name: str, pair: "PairedComparison", *, wide: bool) -> list[str]:
    ends = "-"
    if pair.low is not None and pair.high is not None:
        ends = f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f}"
    cells = [
        name,
        percent(pair.first),
        percent(pair.second),
        f"{100 * pair.difference:+.1f}",
        ends,
        "-" if pair.p is None else p_value(pair.p),
        f"{pair.questions:,}",
    ]
    return [*cells, f"{pair.only_first}:{pair.only_second}"] if wide else cells


def _chart(console: Console, rows: "list[tuple[str, Score]]") -> Table:
    """Bar chart, one row per score, with confidence interval and chance level."""
    longest = min(44, console.width // 3)
    names = max(len(display_name(name, longest)) for name, _ in rows)
    width = max(6, min(_MAX_BAR, console.width - names - _NUMBERS))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, min_width=names)
    table.add_column(no_wrap=True, width=width)
    for _ in range(3):
        table.add_column(justify="right", no_wrap=True)
    for name, score in rows:
        value = score.share.value
        table.add_row(
            Text(display_name(name, longest)),
            _bar(score, width),
            "-" if value is None else percent(value),
            interval(score),
            f"{score.share.right}/{score.share.answered}",
        )
    return table


def _bar(score: "Score", width: int) -> Text:
    """``━━━━──●──``: thick up to the interval, thin inside it, ``●`` the share, ``|`` chance."""
    share = score.share
    text = Text(" " * width)
    if share.value is None:
        return text
    place_of = [round(end * (width - 1)) for end in (share.value, score.chance)]
    low = place_of[0] if share.low is None else round(share.low * (width - 1))
    high = place_of[0] if share.high is None else round(share.high * (width - 1))
    cells = []
    for place in range(width):
        if place == place_of[0]:
            cells.append(("●", "bold cyan"))
        elif place == place_of[1]:
            cells.append(("|", "bold"))
        elif place < low:
            cells.append(("━", "cyan"))
        else:
            cells.append(("─" if place <= high else " ", "blue"))
    return Text.assemble(*cells)
