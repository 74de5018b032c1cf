"""The two streams of a command: data on stdout, everything else on stderr."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from smolvideo.sanitize import escape_controls

PIPE_WIDTH = 1_000
"""Columns assumed where there is no terminal: tables in a pipe are never cut or wrapped."""


def use_colour() -> bool:
    """False where the person (NO_COLOR) or the terminal (dumb) asks for plain text."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@dataclass(frozen=True)
class Output:
    """Where one command shows things, and how much of it.

    ``out`` is stdout and carries data alone; ``err`` is stderr. ``quiet`` leaves the answer and
    errors; ``verbose`` adds the settings in force.
    """

    out: Console
    err: Console
    quiet: bool = False
    verbose: bool = False
    _noted: set[str] = field(default_factory=set)

    @property
    def is_interactive(self) -> bool:
        """Whether somebody sits in front of it: both streams reach a terminal."""
        return self.out.is_terminal and self.err.is_terminal and not self.quiet

    @property
    def shows_progress(self) -> bool:
        """Whether something may move on stderr, and be wiped off again."""
        return self.err.is_terminal and not self.err.is_dumb_terminal and not self.quiet

    def notice(self, sentence: str) -> None:
        """A notice on stderr, each sentence once."""
        if self.quiet or sentence in self._noted:
            return
        self._noted.add(sentence)
        text = Text.assemble(("note: ", "cyan"), escape_controls(sentence))
        self.err.print(text, soft_wrap=not self.err.is_terminal)

    def notes(self, sentences: Iterable[str]) -> None:
        """Several notices, in their order."""
        for sentence in sentences:
            self.notice(sentence)

    def write(self, text: str) -> None:
        """Data for stdout, exactly as it is: text that was made safe where it was made."""
        self.out.file.write(text)
        self.out.file.flush()

    def write_paths(self, paths: Iterable[Path]) -> None:
        """Paths for stdout, a line each: as they are for a program, spelled out for a person."""
        lines = [str(path) for path in paths]
        shown = [escape_controls(line) for line in lines] if self.out.is_terminal else lines
        self.write("".join(f"{line}\n" for line in shown))


def open_screen(*, quiet: bool = False, verbose: bool = False) -> Output:
    """The screen of the running process."""
    return Output(
        out=_console(stderr=False), err=_console(stderr=True), quiet=quiet, verbose=verbose
    )


class SafeConsole(Console):
    """rich's console, through which no text reaches a terminal that would act there.

    Those who show text make it ``visible`` themselves, since what is spelled out is wider; this is
    for what they forget. Also without rich's own way of leaving when a pipe is closed.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(escape_controls(segment.text, allowed="\n\t"), segment.style)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # the command line knows what to do about it


def _console(*, stderr: bool) -> SafeConsole:
    stream = sys.stderr if stderr else sys.stdout
    is_terminal = stream.isatty()
    return SafeConsole(
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        force_terminal=is_terminal,  # FORCE_COLOR and the like must not put escapes into a pipe
        width=None if is_terminal else PIPE_WIDTH,
        no_color=not use_colour(),
    )
