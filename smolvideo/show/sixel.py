"""Sixel encoder: bands of six pixel rows, one colour after another.

https://vt100.net/docs/vt3xx-gp/chapter14.html (the VT330/VT340's manual)
"""

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
