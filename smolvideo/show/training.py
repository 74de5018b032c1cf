"""Training and evaluation of nano in the terminal; accuracies and loss over time as SVG."""

import json
import math
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
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
    from smolvideo.train.schedule import TrainProgress


BLOCKS = "▁▂▃▄▅▆▇█"


class TrainingProgress(ProgressBar):
    """A bar with the time left and the loss; a line of accuracies after every evaluation.

    Without a terminal, one line per progress event.
    """

    def __init__(self, screen: Output) -> None:
        super().__init__(
            screen,
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("step {task.fields[step]}  loss {task.fields[loss]:.3f}"),
        )
        self._task = self._bar.add_task("drawing the world", total=None, step=0, loss=float("nan"))

    def show(self, progress: "TrainProgress") -> None:
        """Update the display; callback of the training."""
        self._bar.update(
            self._task,
            description=f"learning to {progress.stage}",
            completed=progress.seconds,
            total=progress.total_seconds,
            step=progress.step,
            loss=progress.loss,
        )
        if progress.scores or not self._screen.shows_progress:
            self._line(progress)

    def _line(self, progress: "TrainProgress") -> None:
        if self._screen.quiet:
            return
        scores = "  ".join(f"{name} {share:.2f}" for name, share in progress.scores.items())
        minutes = f"{progress.seconds / 60:6.1f} min"
        stage = f"{minutes}  {progress.stage:6}  step {progress.step:5}  loss {progress.loss:.3f}"
        self._screen.err.print(f"{stage}  {scores}".rstrip())


def show_scores(screen: Output, folder: Path) -> None:
    """Print the checkpoint's accuracy on held-out scenes by type, seen and blind, and its curve."""
    if screen.quiet:
        return
    facts = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    screen.err.print("exact answers about held-out scenes (and about grey frames):")
    for name, share in facts["held_out"].items():
        grey = facts["held_out_grey"][name]
        screen.err.print(f"  {display_name(name):12} {share:6.1%}   ({grey:.1%})")
    lines = (folder.parent / "curve.jsonl").read_text(encoding="utf-8").splitlines()
    curve = [json.loads(line) for line in lines]
    screen.err.print(f"accuracy over time: {sparkline([c['scores'].get('all') for c in curve])}")


def sparkline(shares: list[float | None]) -> str:
    """Render shares as a row of blocks; missing ones are left out."""
    known = [share for share in shares if share is not None]
    return "".join(BLOCKS[min(int(share * len(BLOCKS)), len(BLOCKS) - 1)] for share in known)


WIDTH, HEIGHT = 820, 460
_LEFT, _RIGHT, _TOP = 48, 660, 34
_SHARES_BOTTOM, _LOSS_TOP, _LOSS_BOTTOM = 320, 350, 424
_LABEL_HEIGHT = 13
_STYLE = """
  text { font: 11px system-ui, sans-serif; fill: #444; }
  .title { font-size: 14px; font-weight: 600; }
  .grid { stroke: #0002; } .stage { stroke: #0006; stroke-dasharray: 3 3; }
  .line { fill: none; stroke-width: 1.6; stroke-linejoin: round; } .all { stroke-width: 3; }
  .loss { fill: none; stroke: #888; }
  @media (prefers-color-scheme: dark) {
    text { fill: #ccc; } .grid { stroke: #fff2; } .stage { stroke: #fff6; }
  }
"""


def curves_svg(curve: Sequence[dict[str, Any]], title: str, *, unit: str = "minutes") -> str:
    """Return an SVG of the points of ``curve.jsonl``: ``seconds``, ``stage``, ``loss`` and, after
    an evaluation, ``scores`` by type as shares. With another ``unit`` than minutes, ``seconds`` are
    counts of it."""
    end = max((point["seconds"] for point in curve), default=1.0)

    def x(seconds: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * seconds / end, 1)

    parts = [
        f'<text class="title" x="{_LEFT}" y="18">{escape(title)}</text>',
        *_grid(end, x, unit),
        *_stages(curve, x),
        *_accuracies(curve, x),
        *_losses(curve, x),
    ]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}">\n<style>{_STYLE}</style>\n{body}\n</svg>\n'
    )


def _height(share: float) -> float:
    return round(_SHARES_BOTTOM - (_SHARES_BOTTOM - _TOP) * share, 1)


def _grid(end: float, x: Any, unit: str) -> Iterator[str]:
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _height(share)
        yield f'<line class="grid" x1="{_LEFT}" y1="{y}" x2="{_RIGHT}" y2="{y}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{share:.0%}</text>'
    per_unit = 60 if unit == "minutes" else 1
    length = end / per_unit
    steps = (0.5, 1, 2, 5, 10, 20, 60, 100, 200, 500, 1000, 2000, 5000)
    step = next((s for s in steps if length / s <= 10), length / 10)
    for number in range(int(length / step) + 1):
        at, words = x(number * step * per_unit), f"{number * step:g}"
        yield f'<text x="{at}" y="{_LOSS_BOTTOM + 16}" text-anchor="middle">{words}</text>'
    yield f'<text x="{_RIGHT}" y="{_LOSS_BOTTOM + 30}" text-anchor="end">{unit}</text>'
    yield f'<text x="{_LEFT}" y="{_LOSS_TOP - 6}">loss (logarithmic)</text>'


def _stages(curve: Sequence[dict[str, Any]], x: Any) -> Iterator[str]:
    """A vertical line and a label where each stage begins."""
    stage = None
    for point in curve:
        if point["stage"] != stage:
            stage = point["stage"]
            at = x(point["seconds"]) if point is not curve[0] else _LEFT
            yield f'<line class="stage" x1="{at}" y1="{_TOP}" x2="{at}" y2="{_LOSS_BOTTOM}"/>'
            yield f'<text x="{at + 4}" y="{_TOP - 4}">{escape(stage)}</text>'


def _accuracies(curve: Sequence[dict[str, Any]], x: Any) -> Iterator[str]:
    """A line per type of question, ``all`` the thickest, labelled at its end."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for point in curve:
        for name, share in point["scores"].items():
            lines.setdefault(name, []).append((x(point["seconds"]), _height(share)))
    ends = sorted((points[-1][1], name) for name, points in lines.items())
    colours = {
        name: "#e4572e" if name == "all" else f"hsl({360 * place // max(len(lines), 1)} 60% 50%)"
        for place, name in enumerate(sorted(lines))
    }
    for name, points in lines.items():
        joined = " ".join(f"{across},{down}" for across, down in points)
        kind = "line all" if name == "all" else "line"
        yield f'<polyline class="{kind}" stroke="{colours[name]}" points="{joined}"/>'
    free = float(_TOP)
    for y, name in ends:
        free = max(free, y)
        colour = colours[name]
        yield f'<text x="{_RIGHT + 8}" y="{free + 4}" style="fill:{colour}">{escape(name)}</text>'
        free += _LABEL_HEIGHT


def _losses(curve: Sequence[dict[str, Any]], x: Any) -> Iterator[str]:
    losses = [(point["seconds"], math.log(max(point["loss"], 1e-4))) for point in curve]
    if not losses:
        return
    low, high = min(loss for _, loss in losses), max(loss for _, loss in losses)
    scale = (_LOSS_BOTTOM - _LOSS_TOP) / max(high - low, 1e-9)
    joined = " ".join(
        f"{x(seconds)},{round(_LOSS_BOTTOM - (loss - low) * scale, 1)}" for seconds, loss in losses
    )
    yield f'<polyline class="loss" points="{joined}"/>'


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
    title = f"{name}: {len(report.answers):,} questions about drawn worlds"
    console.print(Text(title, "bold"))
    console.print()
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for header in ("right", "grey frames", "asked"):
        table.add_column(header, justify="right")
    if summary["questions"]:
        _old_rows(table, report, summary)
    worded, redrawn = summary["new_wordings"], summary["second_renderer"]
    if worded["all"]["asked"]:
        table.add_row("new wordings", *_counted(worded["all"]), style="bold")
        for row, group in (
            ("yes-no questions", "yes_no"),
            ("  truth is yes", "truth_yes"),
            ("  truth is no", "truth_no"),
        ):
            table.add_row(f"  {row}", *_counted(worded[group]))
        _group_rows(table, worded["by_intent"])
    if redrawn["all"]["asked"]:
        table.add_row("second renderer", *_counted(redrawn["all"]), style="bold")
        _group_rows(table, redrawn["by_type"])
    if table.row_count:
        console.print(table)
        console.print()
    for line in _exam_sentences(summary):
        console.print(line)


def _old_rows(table: Table, report: "ExamReport", summary: dict[str, Any]) -> None:
    choices = sum(answer.type == "choice" for answer in report.answers)
    opened, grey = summary["questions"] - choices, summary["blind"]
    table.add_row("open questions", *_row(summary["open"], grey["open"], opened), style="bold")
    _group_rows(table, summary["by_type"])
    table.add_row(
        "five options, letter generated",
        *_row(summary["multiple_choice"], grey["multiple_choice"], choices),
        style="bold",
    )
    if (right := summary["multiple_choice_by_score"]) is not None:
        blind = grey["multiple_choice_by_score"]
        table.add_row("five options, highest log-probability", *_row(right, blind, choices))


def _group_rows(table: Table, groups: dict[str, Any]) -> None:
    for name, scores in groups.items():
        table.add_row(f"  {name}", *_counted(scores))


def _counted(scores: dict[str, Any]) -> tuple[str, str, str]:
    return _row(scores["right"], scores["blind"], scores["asked"])


def _exam_sentences(summary: dict[str, Any]) -> Iterator[str]:
    if summary["questions"]:
        for what in ("combinations", "wordings"):
            shares: dict[str, Any] = summary[what]
            known, novel = _percent(shares["known"]), _percent(shares["novel"])
            yield f"open questions, {what} of training: {known}; others: {novel}"
    asked = summary["unanswerable"]
    if asked["asked"]:
        yield (
            f"{asked['asked']:,} unanswerable questions: abstained {_percent(asked['abstained'])}, "
            f"answered no or nothing where that is right {_percent(asked['right'])}, "
            f"answered wrong {_percent(asked['wrong'])}"
        )
    if (abstained := summary["answerable_abstained"]) is not None:
        yield f"abstained from answerable questions: {_percent(abstained)}"


def _row(right: float | None, blind: float | None, asked: int) -> tuple[str, str, str]:
    return _percent(right), _percent(blind), f"{asked:,}"


def _percent(share: float | None) -> str:
    return "-" if share is None else percent(share)
