"""Advanced SubStation parser (.ass, .ssa): the ``Dialogue:`` lines of ``[Events]``.

http://www.tcax.org/docs/ass-specs.htm; unspecified cases as in libass.
"""

import re
from collections.abc import Iterator, Sequence

from smolvideo.subtitles.cues import Block
from smolvideo.subtitles.plain_text import plain_lines
from smolvideo.subtitles.timed import parse_clock

_COLUMNS = ("layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect")
_DRAWING = re.compile(r"\\p(\d{1,3})")


def substation_blocks(lines: Sequence[str]) -> tuple[list[Block], int]:
    """Return the cues in file order, and the number dropped for invalid times.

    The ``Format:`` line names the columns; ``Comment:`` lines are not shown.
    """
    columns = [*_COLUMNS, "text"]
    blocks, left_out, in_events = [], 0, False
    for line in lines:
        key, _, rest = line.partition(":")
        key = key.strip().lower()
        if key.startswith("["):
            in_events = line.strip().lower() == "[events]"
        elif in_events and key == "format":
            columns = [column.strip().lower() for column in rest[:1000].split(",")]
        elif in_events and key == "dialogue":
            fields = dict(zip(columns, rest.split(",", len(columns) - 1), strict=False))
            start, end = (parse_clock(fields.get(edge, "")) for edge in ("start", "end"))
            if start is None or end is None or start >= end:
                left_out += 1
            elif shown := substation_lines(fields.get("text", "")):
                blocks.append((start, end, shown))
    return blocks, left_out


def substation_lines(text: str) -> list[str]:
    """Return the displayed lines of one event, without overrides, comments and drawings."""
    text = "".join(_written(text)).replace("\\h", " ")
    return plain_lines(text.replace("\\N", "\n").replace("\\n", "\n"))


def _written(text: str) -> Iterator[str]:
    r"""Yield the text outside of ``{…}``, except drawings (from ``\p1`` to ``\p0``)."""
    at, is_drawn = 0, False
    while at < len(text):
        opened = text.find("{", at)
        closed = text.find("}", opened) if opened >= 0 else -1
        if closed < 0:
            opened = closed = len(text)
        if not is_drawn:
            yield text[at:opened]
        for scale in _DRAWING.findall(text, opened, closed):
            is_drawn = int(scale) > 0
        at = closed + 1
