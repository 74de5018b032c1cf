"""What lies between all that is drawn and the terminal."""

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from smolvideo.sanitize import escape_controls


class NothingActs(LineFilter):
    """Takes out of every line what a terminal would obey: typed, pasted, or left by a widget.

    Widgets spell such characters out where they show text of others; the line that is typed in
    holds it as it is. What is left out has no width, so nothing moves.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment
            if segment.control or escape_controls(segment.text) == segment.text
            else _safe(segment)
            for segment in segments
        ]


def _safe(segment: Segment) -> Segment:
    text = "".join(
        char if escape_controls(char) == char else "\N{REPLACEMENT CHARACTER}" * cell_len(char)
        for char in segment.text
    )
    return Segment(text, segment.style)
