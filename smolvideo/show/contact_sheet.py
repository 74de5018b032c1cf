"""Contact sheet: all frames in one image, each with its time below it."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from smolvideo.frames import Images

_WIDEST = 1920
_GAP = 8
_LABEL_HEIGHT = 22
_PAPER, _INK = (24, 24, 24), (225, 225, 225)


def draw_contact_sheet(images: Images, labels: Sequence[str], *, aspect: float) -> Image.Image:
    """Render RGB ``images`` ``[N, H, W, 3]`` in rows, with ``aspect`` (width / height).

    The sheet is at most ``_WIDEST`` pixels wide; images keep their height if that allows it.
    """
    columns = _columns(len(images), aspect)
    height = images.shape[1]
    width = max(1, round(height * aspect))
    room = (_WIDEST - _GAP) // columns - _GAP
    if width > room:
        width, height = room, max(1, round(room / aspect))
    rows = -(-len(images) // columns)
    step = width + _GAP, height + _LABEL_HEIGHT + _GAP
    sheet = Image.new("RGB", (columns * step[0] + _GAP, rows * step[1] + _GAP), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        left = _GAP + number % columns * step[0]
        top = _GAP + number // columns * step[1]
        picture = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
        sheet.paste(picture, (left, top))
        pen.text((left, top + height + 3), label, _INK, font=font)
    return sheet


def _columns(count: int, aspect: float) -> int:
    """Number of columns that gives the sheet about the shape of a screen (16:9)."""
    best = round(math.sqrt(count * 16 / 9 / aspect))
    return max(1, min(count, best, 12))
