"""Images in a terminal: half blocks, character shades, or pixel graphics.

Half blocks and shades are text, and work in any terminal over any connection. Pixel graphics (the
kitty protocol and sixel) need the library textual-image, an extra of this package.
"""

from typing import Literal

import numpy as np
from PIL import Image, ImageOps
from rich.segment import Segment
from textual.app import ComposeResult
from textual.containers import Container
from textual.strip import Strip
from textual.widget import Widget

from smolvideo.errors import UsageError
from smolvideo.show.terminal_images import half_block_lines

PictureKind = Literal["kitty", "sixel", "blocks", "shades", "none"]

_SHADES = " .:-=+*#%@"
"""Characters from dark to light by ink coverage; the usual ramp of ten."""


class TextImage(Widget):
    """An image of text: two pixels per cell (half blocks), or one shade."""

    DEFAULT_CSS = "TextImage { width: 1fr; height: 1fr; }"

    def __init__(self, kind: PictureKind = "blocks", *, centred: bool = True, id: str) -> None:
        super().__init__(id=id)
        self._kind = kind
        self._centred = centred
        self._columns = 0
        self._lines: list[list[Segment]] = []

    def pixels(self, columns: int, rows: int) -> tuple[int, int]:
        """Return the size in pixels of a picture of these cells."""
        return columns, rows * 2

    def show(self, picture: Image.Image | None, columns: int, rows: int) -> None:
        """Draw ``picture`` (RGB) in ``columns`` x ``rows`` cells."""
        self._columns = columns
        if picture is None or self._kind == "none":
            self._lines = []
        elif self._kind == "shades":
            self._lines = _shades(picture.resize((columns, rows), Image.Resampling.BOX))
        else:
            size = self.pixels(columns, rows)
            exact = picture if picture.size == size else picture.resize(size, _filter(picture))
            self._lines = half_block_lines(exact)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        style = self.rich_style
        top = max(0, (height - len(self._lines)) // 2) if self._centred else 0
        if not top <= y < top + len(self._lines):
            return Strip([Segment(" " * width, style)], width)
        left = max(0, (width - self._columns) // 2) if self._centred else 0
        right = max(0, width - left - self._columns)
        line = [Segment(" " * left, style), *self._lines[y - top], Segment(" " * right, style)]
        return Strip(line).crop(0, width)


class GraphicsImage(Container):
    """An image of pixel graphics, by the kitty protocol or sixel."""

    DEFAULT_CSS = """
    GraphicsImage { width: 1fr; height: 1fr; align: center middle; }
    GraphicsImage.-left { align: left top; }
    """

    def __init__(self, kind: PictureKind, *, centred: bool = True, id: str) -> None:
        super().__init__(id=id, classes="" if centred else "-left")
        widget, self._cell = _pixel_widget(kind)
        self._picture: Widget = widget()

    def compose(self) -> ComposeResult:
        yield self._picture

    def pixels(self, columns: int, rows: int) -> tuple[int, int]:
        """Return the size in pixels of a picture of these cells."""
        return columns * self._cell[0], rows * self._cell[1]

    def show(self, picture: Image.Image | None, columns: int, rows: int) -> None:
        """Draw ``picture`` (RGB) in ``columns`` x ``rows`` cells."""
        self._picture.styles.width, self._picture.styles.height = columns, rows
        scaled = None
        if picture is not None:
            scaled = picture.resize(self.pixels(columns, rows), _filter(picture))
        setattr(self._picture, "image", scaled)  # noqa: B010 -- the widget's type is the library's


def picture_view(kind: PictureKind, *, centred: bool = True, id: str) -> TextImage | GraphicsImage:
    """Create the widget for a kind of image."""
    if kind in ("kitty", "sixel"):
        return GraphicsImage(kind, centred=centred, id=id)
    return TextImage(kind, centred=centred, id=id)


def check_protocol(kind: PictureKind) -> None:
    """Check that images of ``kind`` can be drawn. Must be called before the app starts.

    Raises UsageError where the library for pixel graphics is missing.
    """
    if kind in ("kitty", "sixel"):
        _pixel_widget(kind)


def _pixel_widget(kind: PictureKind) -> tuple[type[Widget], tuple[int, int]]:
    """Return the widget class, and the width and height of a cell in pixels."""
    try:
        # The import queries the terminal for its cell size.
        from textual_image._terminal import get_cell_size
        from textual_image.widget import SixelImage, TGPImage
    except ImportError as error:
        raise UsageError(
            f"pictures by `{kind}` need the library textual-image",
            hint="`pip install 'smolvideo[pictures]'`, or `--filmstrip blocks`",
        ) from error
    size = get_cell_size()
    return (TGPImage if kind == "kitty" else SixelImage), (size.width, size.height)


def has_pixels() -> bool:
    """Whether the library for pixel graphics is installed."""
    from importlib.util import find_spec

    return find_spec("textual_image") is not None


def _filter(picture: Image.Image) -> Image.Resampling:
    return Image.Resampling.BOX if picture.width < 96 else Image.Resampling.LANCZOS


def _shades(picture: Image.Image) -> list[list[Segment]]:
    # Without colour, contrast is stretched, as only brightness distinguishes objects.
    grey = ImageOps.autocontrast(picture.convert("L"), cutoff=1)
    levels = np.asarray(grey, np.uint16) * len(_SHADES) // 256
    return [[Segment("".join(_SHADES[level] for level in row))] for row in levels.tolist()]
