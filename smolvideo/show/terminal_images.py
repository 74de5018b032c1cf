"""One row of images in a terminal: kitty graphics, sixel, or half blocks.

Sixel is bands of six pixel rows, one colour after another:
https://vt100.net/docs/vt3xx-gp/chapter14.html (the VT330/VT340's manual)
"""

import base64
import io
import re
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

from smolvideo.show.console import TerminalCapabilities

_COLOURS = 128
"""Number of colour registers used: half of xterm's, enough for small images."""

_ROWS = 6
_RUN = re.compile(r"(.)\1{3,}")


def encode_sixel(picture: Image.Image) -> str:
    """Encode an RGB image as a device control string, drawn to the right of and below the cursor.

    Its colours are reduced to ``_COLOURS`` by Pillow's octree.
    """
    reduced = picture.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE)
    palette = np.array(reduced.getpalette(), np.uint16).reshape(-1, 3)
    numbers = np.asarray(reduced)
    used = np.unique(numbers)
    # Colour registers take percentages, not bytes.
    registers = "".join(
        f"#{number};2;{red};{green};{blue}"
        for number, (red, green, blue) in zip(used, (palette[used] * 100 + 127) // 255, strict=True)
    )
    bands = "-".join(_bands(numbers))
    return f'\x1bP0;1q"1;1;{picture.width};{picture.height}{registers}{bands}\x1b\\'


def _bands(numbers: NDArray[np.uint8]) -> Iterator[str]:
    """Yield bands of six rows: one line per colour, each drawn over the ones before (``$``)."""
    for top in range(0, len(numbers), _ROWS):
        band = numbers[top : top + _ROWS]
        weights = (1 << np.arange(len(band))).astype(np.uint8)[:, None]
        lines = []
        for number in np.unique(band):
            columns = ((band == number) * weights).sum(axis=0, dtype=np.uint8) + 63
            lines.append(f"#{number}{_shortened(columns.tobytes().decode())}")
        yield "$".join(lines)


def _shortened(line: str) -> str:
    """Run-length encode with ``!`` and a count; empty columns at the end are omitted."""
    return _RUN.sub(lambda run: f"!{len(run[0])}{run[1]}", line.rstrip("?"))


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
