"""Rows of plain words as a table that is pleasant in a terminal and easy to cut in a pipe."""

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from smolvideo.safe_text import visible
from smolvideo.show.console import Screen

_BETWEEN = "  "


def show_table(
    screen: Screen, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int]
) -> None:
    """``rows`` under ``columns`` on stdout; those numbered in ``right`` are flush right.

    In a terminal too narrow for it the last cell of each row goes under the others; if that is not
    enough, each row becomes a block of ``column: cell`` lines. No cell is ever cut.
    """
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *shown, strict=True)]
    if _width(widths) <= screen.out.width:
        lines = [(_line(row, widths, right), "") for row in (columns, *shown)]
    elif _width(widths[:-1]) <= screen.out.width:
        lines = [(_line(row[:-1], widths[:-1], right), row[-1]) for row in (columns, *shown)]
    else:
        _show_blocks(screen, columns, shown)
        return
    for number, (line, below) in enumerate(lines):
        style = "" if number else "bold"
        screen.out.print(Text(line, style), soft_wrap=True)
        if below:
            _print_indented(screen.out, Text(below, style))


def _width(widths: Sequence[int]) -> int:
    return sum(widths) + len(_BETWEEN) * (len(widths) - 1)


def _line(cells: Sequence[str], widths: Sequence[int], right: frozenset[int]) -> str:
    padded = []
    for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        blanks = " " * (width - cell_len(cell))
        padded.append(blanks + cell if place in right else cell + blanks)
    return _BETWEEN.join(padded).rstrip()


def _show_blocks(screen: Screen, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for number, row in enumerate(rows):
        if number:
            screen.out.print()
        screen.out.print(Text(row[0], "bold"))
        for column, cell in zip(columns[1:], row[1:], strict=True):
            if cell:
                _print_indented(screen.out, Text(f"{column}: {cell}"))


def _print_indented(console: Console, text: Text) -> None:
    """Lines of what does not fit on one stay indented, too."""
    for line in text.wrap(console, max(1, console.width - len(_BETWEEN))):
        line.rstrip()
        console.print(Text(_BETWEEN) + line, soft_wrap=True)


def show_facts(screen: Screen, facts: Mapping[str, str]) -> None:
    """``name   value`` lines on stdout, the values in one column; empty values are left out."""
    width = max(map(len, facts))
    for name, value in facts.items():
        if value:
            line = Text.assemble((name.ljust(width), "bold"), _BETWEEN, visible(value))
            screen.out.print(line, soft_wrap=True)
