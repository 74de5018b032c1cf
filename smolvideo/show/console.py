"""Standard streams of a command, data on stdout and everything else on stderr; terminal queries.

The query has several parts (kitty graphics, cell size, background colour, device attributes). Every
terminal since the VT100 answers the last one, so its answer ends the wait; a silent terminal costs
``REPLY_TIMEOUT_SECONDS``. The query goes to the controlling terminal, because stdin and stdout may
be pipes.

https://sw.kovidgoyal.net/kitty/graphics-protocol/#querying-support-and-available-transmission-mediums
https://invisible-island.net/xterm/ctlseqs/ctlseqs.html (CSI 16 t, OSC 11, CSI c)
"""

import os
import re
import select
import sys
import time
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

    def notice(self, sentence: str, *, requested: bool = False) -> None:
        """Print a notice on stderr, each sentence once; with ``quiet`` only what an option
        ``requested``."""
        if (self.quiet and not requested) or sentence in self._noted:
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


REPLY_TIMEOUT_SECONDS = 0.4
"""Long enough for a terminal at the other end of a slow connection."""

_QUESTION = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[16t\x1b]11;?\x1b\\\x1b[c"
_KITTY_OK = re.compile(rb"\x1b_Gi=31;OK")
_CELL_SIZE = re.compile(rb"\x1b\[6;(\d+);(\d+)t")
_BACKGROUND = re.compile(rb"\x1b\]11;rgb:([0-9a-fA-F]{1,4})/([0-9a-fA-F]{1,4})/([0-9a-fA-F]{1,4})")
_ATTRIBUTES = re.compile(rb"\x1b\[\?([\d;]*)c")
_SIXEL_ATTRIBUTE = b"4"


@dataclass(frozen=True)
class TerminalCapabilities:
    """Capabilities that a terminal reported; one character is ``cell_width`` × ``cell_height``
    pixels.

    The default is the cell size of the VT340, the first terminal with sixel.
    """

    kitty: bool = False
    sixel: bool = False
    cell_width: int = 10
    cell_height: int = 20
    is_light_background: bool = False
    """Whether its background is nearer to white than to black; False if it is unknown."""


def query_capabilities(*, seconds: float = REPLY_TIMEOUT_SECONDS) -> TerminalCapabilities:
    """Query the controlling terminal; without one, return no capabilities."""
    if sys.platform == "win32" or not _may_ask():
        return TerminalCapabilities()
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return TerminalCapabilities()
    try:
        # The shell stops a background job that changes the terminal's settings.
        if os.tcgetpgrp(terminal) != os.getpgrp():
            return TerminalCapabilities()
        return parse_reply(_ask(terminal, seconds), cell_size=_cell_size(terminal))
    except OSError:
        return TerminalCapabilities()
    finally:
        os.close(terminal)


def _may_ask() -> bool:
    return os.environ.get("TERM", "") not in ("", "dumb", "linux")


def _ask(terminal: int, seconds: float) -> bytes:
    """Return the terminal's reply, up to its device attributes or the timeout."""
    if sys.platform == "win32":
        raise OSError("Windows has no such terminals")
    import termios
    import tty

    settings = termios.tcgetattr(terminal)
    tty.setcbreak(terminal, termios.TCSANOW)
    answer = b""
    try:
        os.write(terminal, _QUESTION)
        deadline = time.monotonic() + seconds
        while not _ATTRIBUTES.search(answer):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([terminal], [], [], left)[0]:
                break
            answer += os.read(terminal, 1024)
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, settings)
    return answer


def _cell_size(terminal: int) -> tuple[int, int] | None:
    """Width and height of a cell in pixels, if the terminal driver knows them."""
    if sys.platform == "win32":
        raise OSError("Windows has no such terminals")
    import fcntl
    import struct
    import termios

    packed = fcntl.ioctl(terminal, termios.TIOCGWINSZ, b"\0" * 8)
    rows, columns, width, height = struct.unpack("HHHH", packed)
    if not (rows and columns and width >= columns and height >= rows):
        return None
    return width // columns, height // rows


def parse_reply(answer: bytes, *, cell_size: tuple[int, int] | None = None) -> TerminalCapabilities:
    """Parse a terminal's reply; ``cell_size`` (width, height) is used if the reply has none."""
    attributes = _ATTRIBUTES.search(answer)
    cell = _CELL_SIZE.search(answer)
    if cell and int(cell[1]) and int(cell[2]):
        cell_size = int(cell[2]), int(cell[1])
    width, height = cell_size or (10, 20)
    return TerminalCapabilities(
        kitty=bool(_KITTY_OK.search(answer)),
        sixel=attributes is not None and _SIXEL_ATTRIBUTE in attributes[1].split(b";"),
        cell_width=width,
        cell_height=height,
        is_light_background=_is_light(answer),
    )


def _is_light(answer: bytes) -> bool:
    background = _BACKGROUND.search(answer)
    if background is None:
        return False
    # Each channel has one to four hex digits, as a share of the largest number of that length.
    red, green, blue = (int(part, 16) / (16 ** len(part) - 1) for part in background.groups())
    brightness: float = 0.299 * red + 0.587 * green + 0.114 * blue
    return brightness > 0.5
