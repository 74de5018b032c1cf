"""Standard streams of a command: data on stdout, everything else on stderr."""

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
"""Columns assumed without a terminal: tables in a pipe are never cut or wrapped."""


def use_colour() -> bool:
    """Whether to use colour: not with NO_COLOR, and not on a dumb terminal."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@dataclass(frozen=True)
class Output:
    """Output streams of one command, and how much it prints.

    ``out`` is stdout and carries data alone; ``err`` is stderr. ``quiet`` prints the answer and
    errors alone; ``verbose`` adds the settings in force.
    """

    out: Console
    err: Console
    quiet: bool = False
    verbose: bool = False
    _noted: set[str] = field(default_factory=set)

    @property
    def is_interactive(self) -> bool:
        """Whether a user is watching: both streams are terminals."""
        return self.out.is_terminal and self.err.is_terminal and not self.quiet

    @property
    def shows_progress(self) -> bool:
        """Whether stderr can show output that moves and is erased again."""
        return self.err.is_terminal and not self.err.is_dumb_terminal and not self.quiet

    def notice(self, sentence: str) -> None:
        """Print a notice on stderr, each sentence once."""
        if self.quiet or sentence in self._noted:
            return
        self._noted.add(sentence)
        text = Text.assemble(("note: ", "cyan"), escape_controls(sentence))
        self.err.print(text, soft_wrap=not self.err.is_terminal)

    def notes(self, sentences: Iterable[str]) -> None:
        """Print several notices in their order."""
        for sentence in sentences:
            self.notice(sentence)

    def write(self, text: str) -> None:
        """Write data to stdout unchanged: the caller has sanitized it."""
        self.out.file.write(text)
        self.out.file.flush()

    def write_paths(self, paths: Iterable[Path]) -> None:
        """Write paths to stdout, a line each; control characters are escaped for a terminal."""
        lines = [str(path) for path in paths]
        shown = [escape_controls(line) for line in lines] if self.out.is_terminal else lines
        self.write("".join(f"{line}\n" for line in shown))


def open_screen(*, quiet: bool = False, verbose: bool = False) -> Output:
    """Return the output streams of the running process."""
    return Output(
        out=_console(stderr=False), err=_console(stderr=True), quiet=quiet, verbose=verbose
    )


class SafeConsole(Console):
    """A rich console that escapes control characters in all text.

    Callers use ``escape_controls`` themselves, because escaped text is wider; this is a safety net.
    Also, a closed pipe raises BrokenPipeError instead of rich's own exit.
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
        raise BrokenPipeError  # handled by the command line


def _console(*, stderr: bool) -> SafeConsole:
    stream = sys.stderr if stderr else sys.stdout
    is_terminal = stream.isatty()
    return SafeConsole(
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        force_terminal=is_terminal,  # FORCE_COLOR etc. must not put escapes into a pipe
        width=None if is_terminal else PIPE_WIDTH,
        no_color=not use_colour(),
    )
