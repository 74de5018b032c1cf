"""Line filter that removes control characters from everything drawn on the terminal."""

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from smolvideo.sanitize import escape_controls


class NothingActs(LineFilter):
    """Replaces control characters in every line, whether typed, pasted or from a widget.

    Widgets escape foreign text themselves, but the input line holds typed text unchanged. A
    replacement has the width of the character (none for controls), so the layout does not move.
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
