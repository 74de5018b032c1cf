"""Terminal capabilities: one query with a timeout of a fraction of a second.

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
from dataclasses import dataclass

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
