"""Rows of plain words as a table that is pleasant in a terminal and easy to cut in a pipe."""

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.text import Text

from smolvideo.show.console import Screen
from smolvideo.show.text import visible

_BETWEEN = "  "


def show_table(
    screen: Screen, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int]
) -> None:
    """``rows`` under ``columns`` on stdout; those numbered in ``right`` are flush right.

    In a terminal too narrow for it each row becomes a block of ``column: cell`` lines: no cell is
    ever cut.
    """
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *shown, strict=True)]
    if sum(widths) + len(_BETWEEN) * (len(widths) - 1) > screen.out.width:
        _show_blocks(screen, columns, shown)
        return
    screen.out.print(Text(_line(columns, widths, right), "bold"), soft_wrap=True)
    for row in shown:
        screen.out.print(Text(_line(row, widths, right)), soft_wrap=True)


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
                screen.out.print(Text(f"  {column}: {cell}"))


def show_facts(screen: Screen, facts: Mapping[str, str]) -> None:
    """``name   value`` lines on stdout, the values in one column; empty values are left out."""
    width = max(map(len, facts))
    for name, value in facts.items():
        if value:
            line = Text.assemble((name.ljust(width), "bold"), _BETWEEN, visible(value))
            screen.out.print(line, soft_wrap=True)
