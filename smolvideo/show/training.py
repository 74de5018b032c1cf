"""Training progress and final scores on stderr."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from smolvideo.sanitize import display_name
from smolvideo.show.console import Output
from smolvideo.show.progress_bar import ProgressBar

if TYPE_CHECKING:
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

    def show(self, news: "TrainProgress") -> None:
        """Update the display; callback of the training."""
        self._bar.update(
            self._task,
            description=f"learning to {news.stage}",
            completed=news.seconds,
            total=news.total_seconds,
            step=news.step,
            loss=news.loss,
        )
        if news.scores or not self._screen.shows_progress:
            self._line(news)

    def _line(self, news: "TrainProgress") -> None:
        if self._screen.quiet:
            return
        scores = "  ".join(f"{name} {share:.2f}" for name, share in news.scores.items())
        minutes = f"{news.seconds / 60:6.1f} min"
        words = f"{minutes}  {news.stage:6}  step {news.step:5}  loss {news.loss:.3f}  {scores}"
        self._screen.err.print(words.rstrip())


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
