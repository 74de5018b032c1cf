"""Progress line with estimated time left, and status line with context, speed and memory."""

import time
from collections.abc import Callable

from rich.text import Text
from textual.widgets import Static

from smolvideo.answer import Usage
from smolvideo.formatting import format_bytes, format_seconds
from smolvideo.progress import Progress, Stage
from smolvideo.sanitize import display_name
from smolvideo.show.progress_bar import STAGE_WORDS, format_amount

_BAR_COLUMNS = 20
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_TOO_EARLY_SECONDS = 0.5
"""Minimum elapsed time for an estimate of the time left."""


class StageEta:
    """Estimates the time left in a stage by linear extrapolation."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage: Stage | None = None
        self._since = 0.0
        self._done_before = 0.0

    def seconds_left(self, progress: Progress) -> float | None:
        """Seconds to the end of the stage; None without an estimate."""
        now = self._clock()
        if progress.stage != self._stage or progress.done < self._done_before:
            self._stage, self._since, self._done_before = progress.stage, now, progress.done
        gone, done = now - self._since, progress.done - self._done_before
        if not progress.total or done <= 0 or gone < _TOO_EARLY_SECONDS:
            return None
        return gone / done * (progress.total - progress.done)


class StageLine(Static):
    """A rule above the input line with the progress of the running stage."""

    def __init__(self) -> None:
        super().__init__(id="stage")
        self._clock = StageEta()
        self._turns = 0
        self._rule = -1

    def show(self, progress: Progress | None, *, waiting: int = 0, doing: str = "") -> None:
        """Show ``progress``, None while no job reports any; ``waiting`` is the queue length."""
        width = self.size.width
        if progress is None and not doing:
            if self._rule != width:  # drawn once: an idle chat writes nothing to the terminal
                self._rule = width
                self.update(Text("─" * width, "dim"))
            return
        self._rule = -1
        self._turns += 1
        text = Text("── ", "dim", no_wrap=True)
        text.append(_SPINNER[self._turns % len(_SPINNER)] + " ", "bold")
        text.append(_words(progress) if progress is not None else doing, "bold")
        if progress is not None:
            self._append_amount(text, progress)
        if waiting:
            text.append(f" · {waiting} waiting", "dim")
        text.append(" · Esc stops ", "dim")
        text.append("─" * max(0, width - text.cell_len), "dim")
        text.truncate(width)
        self.update(text)

    def _append_amount(self, text: Text, progress: Progress) -> None:
        if progress.total and progress.stage != "generate":
            filled = round(_BAR_COLUMNS * min(1.0, progress.done / progress.total))
            text.append(" " + "━" * filled, "bold")
            text.append("─" * (_BAR_COLUMNS - filled), "dim")
        total = None if progress.stage == "generate" else progress.total
        amount = format_amount(progress.stage, progress.done, total)
        if amount:
            text.append(f" {amount}")
        left = self._clock.seconds_left(progress)
        if left is not None and progress.stage != "generate":
            shown = f"{round(left)} s" if left < 59.5 else format_seconds(left)
            text.append(f" · {shown} left")


class StatusLine(Static):
    """Model, device, context, speed and memory; the last ones are dropped if it is narrow."""

    def __init__(self) -> None:
        super().__init__(id="status")

    def show(self, *, model: str, device: str, usage: Usage | None, context_tokens: int) -> None:
        """``device`` is empty until the model is loaded, ``context_tokens`` 0 until it is known."""
        parts = [_part(display_name(model, 40), "bold"), _part(device or "not loaded yet", "dim")]
        if usage is not None:
            used = usage.prompt_tokens + usage.answer_tokens
            parts.append(_context(used, usage.context_tokens))
            if usage.tokens_per_second is not None:
                parts.append(_part(f"{usage.tokens_per_second:.0f} tokens/s", "dim"))
            if usage.peak_memory_bytes is not None:
                parts.append(_part(format_bytes(usage.peak_memory_bytes), "dim"))
        elif context_tokens:
            parts.append(_context(0, context_tokens))
        keys = _part("F1 help", "dim")
        width = self.size.width
        while len(parts) > 1 and _length([*parts, keys]) > width:
            parts.pop()
        line = Text("  ").join(parts)
        line.append(" " * max(2, width - line.cell_len - keys.cell_len))
        line.append_text(keys)
        line.truncate(width)
        self.update(line)


def _context(used: int, total: int) -> Text:
    """``context ▰▰▱▱▱▱▱▱ 812 of 2,048``."""
    filled = min(8, -(-8 * used // max(1, total)))
    text = Text("context ", "dim")
    text.append("▰" * filled + "▱" * (8 - filled))
    text.append(f" {used:,} of {total:,}", "dim")
    return text


def _part(words: str, style: str) -> Text:
    return Text(words, style)


def _length(parts: list[Text]) -> int:
    return sum(part.cell_len for part in parts) + 2 * len(parts)


def _words(progress: Progress) -> str:
    words = STAGE_WORDS[progress.stage]
    if progress.label and progress.stage in ("download", "load", "decode"):
        return f"{words} {display_name(progress.label, 32)}"
    return words
