"""A contact sheet: all frames on one picture, each with its time under it."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from smolvideo.frames import Images

_WIDEST = 1920
_GAP = 8
_LABEL_HEIGHT = 22
_PAPER, _INK = (24, 24, 24), (225, 225, 225)


def draw_contact_sheet(images: Images, labels: Sequence[str], *, aspect: float) -> Image.Image:
    """RGB ``images`` ``[N, H, W, 3]`` in rows, in the shape ``aspect`` (width / height).

    The sheet is about as wide as a screen and keeps its pictures at their own height where it can.
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
    """As many as make the sheet about as wide as high in the shape of a screen (16:9)."""
    best = round(math.sqrt(count * 16 / 9 / aspect))
    return max(1, min(count, best, 12))
