"""One row of images in a terminal: kitty graphics, sixel, or half blocks."""

import base64
import io
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

from smolvideo.show.sixel import encode_sixel
from smolvideo.show.terminal import TerminalCapabilities

ImageProtocol = Literal["kitty", "sixel", "blocks"]

_CHUNK = 4096
"""Maximum bytes of one kitty graphics command, by its specification."""


def draw_images(
    console: Console,
    pictures: Sequence[Image.Image],
    kind: ImageProtocol,
    *,
    columns: int,
    rows: int,
    step: int,
    abilities: TerminalCapabilities,
) -> None:
    """Draw RGB images in a row, ``columns`` × ``rows`` cells each, one every ``step`` columns."""
    if kind == "blocks":
        small = [picture.resize((columns, rows * 2), Image.Resampling.BOX) for picture in pictures]
        console.print(Segments(_side_by_side(small, gap=step - columns)), end="")
        return
    size = columns * abilities.cell_width, rows * abilities.cell_height
    # Newlines first: a terminal at its last line scrolls before anything is drawn.
    drawn = ["\n" * rows]
    for number, picture in enumerate(pictures):
        there = f"\x1b7\x1b[{rows}A\x1b[{number * step + 1}G"
        scaled = picture.resize(size, Image.Resampling.LANCZOS)
        encoded = _kitty(scaled, columns, rows) if kind == "kitty" else encode_sixel(scaled)
        drawn.append(f"{there}{encoded}\x1b8")
    console.file.write("".join(drawn))
    console.file.flush()


def half_block_lines(picture: Image.Image) -> list[list[Segment]]:
    """Render two pixels per cell: ▀ in the upper colour on a background of the lower one.

    Equal neighbours are merged into one segment: drawn scenes become ten times shorter.
    """
    pixels = np.asarray(picture)
    lines = []
    for top in range(0, len(pixels) - 1, 2):
        row = np.concatenate((pixels[top], pixels[top + 1]), axis=1)
        changes = np.flatnonzero((row[1:] != row[:-1]).any(axis=1)) + 1
        starts = [0, *changes.tolist()]
        ends = [*changes.tolist(), len(row)]
        lines.append(
            [
                Segment("▀" * (end - start), _style(*row[start].tolist()))
                for start, end in zip(starts, ends, strict=True)
            ]
        )
    return lines


def _style(*channels: int) -> Style:
    return Style(
        color=Color.from_rgb(*channels[:3]),
        bgcolor=Color.from_rgb(*channels[3:]),
    )


def _side_by_side(pictures: Sequence[Image.Image], *, gap: int) -> Iterator[Segment]:
    for parts in zip(*map(half_block_lines, pictures), strict=True):
        for number, part in enumerate(parts):
            if number:
                yield Segment(" " * gap)
            yield from part
        yield Segment("\n")


def _kitty(picture: Image.Image, columns: int, rows: int) -> str:
    """Transmit and place at the cursor (``a=T``), cursor unmoved (``C=1``), no answer (``q=2``)."""
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", compress_level=1)
    data = base64.standard_b64encode(encoded.getvalue()).decode("ascii")
    chunks = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    keys = [f"a=T,f=100,C=1,q=2,c={columns},r={rows},", *[""] * (len(chunks) - 1)]
    return "".join(
        f"\x1b_G{key}m={int(number < len(chunks) - 1)};{chunk}\x1b\\"
        for number, (key, chunk) in enumerate(zip(keys, chunks, strict=True))
    )
