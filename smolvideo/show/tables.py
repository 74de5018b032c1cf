"""Tables of text: aligned in a terminal, easy to cut in a pipe."""

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from smolvideo.sanitize import escape_controls
from smolvideo.show.console import Output

_BETWEEN = "  "


def show_table(
    screen: Output, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int]
) -> None:
    """Print ``rows`` under ``columns`` on stdout; the column indices in ``right`` align right.

    In a narrow terminal the last cell of each row goes below the others; if that is not enough,
    each row becomes a block of ``column: cell`` lines. No cell is ever cut.
    """
    shown = [[escape_controls(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *shown, strict=True)]
    table = GrowingTable(screen, columns, widths, right=right)
    table.show_head()
    for row in shown:
        table.add(row)


class GrowingTable:
    """A table whose rows are printed as they come, in the layout of ``show_table``.

    ``widths`` are the column widths in terminal cells; 0 for the last column, which is not padded.
    A wider cell shifts the others of its row and is not cut.
    """

    def __init__(
        self,
        screen: Output,
        columns: Sequence[str],
        widths: Sequence[int],
        *,
        right: frozenset[int] = frozenset(),
    ) -> None:
        self._out = screen.out
        self._columns = columns
        self._widths = [
            max(width, cell_len(column) if place < len(columns) - 1 else 0)
            for place, (column, width) in enumerate(zip(columns, widths, strict=True))
        ]
        self._right = right
        self._is_first = True
        self._as_blocks = _width(self._widths[:-1]) > self._out.width
        self._last_below = _width(self._widths) > self._out.width

    def show_head(self) -> None:
        """Print the column names; blocks repeat them in every row instead."""
        if not self._as_blocks:
            self._show_line(self._columns, "bold")

    def add(self, row: Sequence[str], style: str = "", *, below: str = "") -> None:
        """Print one row in a style of rich's, and an indented sentence ``below`` it."""
        row = [escape_controls(cell) for cell in row]
        if self._as_blocks:
            self._show_block(row, style)
        else:
            self._show_line(row, style)
        if below:
            _print_indented(self._out, Text(escape_controls(below)))

    def _show_line(self, row: Sequence[str], style: str) -> None:
        line, below = _line(row, self._widths, self._right), ""
        if self._last_below or cell_len(line) > self._out.width:
            line, below = _line(row[:-1], self._widths[:-1], self._right), row[-1]
        self._out.print(Text(line, style), soft_wrap=True)
        if below:
            _print_indented(self._out, Text(below, style))

    def _show_block(self, row: Sequence[str], style: str) -> None:
        if not self._is_first:
            self._out.print()
        self._is_first = False
        self._out.print(Text(row[0], "bold"))
        for column, cell in zip(self._columns[1:], row[1:], strict=True):
            if cell:
                _print_indented(self._out, Text(f"{column}: {cell}", style))


def _width(widths: Sequence[int]) -> int:
    return sum(widths) + len(_BETWEEN) * (len(widths) - 1)


def _line(cells: Sequence[str], widths: Sequence[int], right: frozenset[int]) -> str:
    padded = []
    for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        blanks = " " * (width - cell_len(cell))
        padded.append(blanks + cell if place in right else cell + blanks)
    return _BETWEEN.join(padded).rstrip()


def _print_indented(console: Console, text: Text) -> None:
    """Print wrapped text with every line indented."""
    for line in text.wrap(console, max(1, console.width - len(_BETWEEN))):
        line.rstrip()
        console.print(Text(_BETWEEN) + line, soft_wrap=True)


def show_key_values(screen: Output, facts: Mapping[str, str]) -> None:
    """Print ``name   value`` lines on stdout, the values aligned; empty values are left out.

    In a terminal long values are wrapped, where half of its width is left for them.
    """
    width = max(map(cell_len, facts))
    room = screen.out.width - width - len(_BETWEEN)
    for name, value in facts.items():
        if not value:
            continue
        shown = Text(escape_controls(value))
        lines = shown.wrap(screen.out, room) if room > screen.out.width // 2 else [shown]
        for number, line in enumerate(lines):
            head = "" if number else name
            line.rstrip()
            screen.out.print(
                Text.assemble((head + " " * (width - cell_len(head)), "bold"), _BETWEEN, line),
                soft_wrap=True,
            )
