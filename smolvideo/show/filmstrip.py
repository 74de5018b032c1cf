"""Filmstrip in the terminal, and contact sheet: the frames that a model sees, with their times.

``plan_strip`` computes how many fit and how large they are; ``draw_images`` draws them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.text import Text

from smolvideo.formatting import format_clock, format_count
from smolvideo.frames import FrameBatch, Images
from smolvideo.models.registry import PromptFormat
from smolvideo.sampling.options import subsample
from smolvideo.sanitize import display_name
from smolvideo.show.console import (
    Output,
    SafeConsole,
    TerminalCapabilities,
    query_capabilities,
    use_colour,
)
from smolvideo.show.terminal_images import ImageProtocol, draw_images

FilmstripChoice = Literal["auto", "kitty", "sixel", "blocks", "times", "none"]
"""User's choice: ``times`` is plain text, ``auto`` the best that the terminal can show."""

_GAP = 1
_MIN_LINES = 4
"""Lines of one strip: three of images and one of times."""
_MIN_NAME = 8
_CELL_ASPECT = 2.0
"""Height over width of a character cell, approximately."""


@dataclass(frozen=True)
class StripPlan:
    """The frames to show, and the size and stride of the images in cells."""

    shown: tuple[int, ...]
    per_row: int
    columns: int
    rows: int
    stride: int


def plan_strip(
    count: int, aspect: float, *, width: int, lines: int | None = None, caption: int = 6
) -> StripPlan:
    """Fit ``count`` images of ``aspect`` (width / height) into ``width`` × ``lines`` cells.

    Every row of images takes one more line for the times below it, at least ``caption`` columns
    each. Without ``lines`` all images are shown; otherwise as many as fit, evenly spaced, including
    the first and the last. At least one row is always planned.
    """
    wanted = min(48, width) if count == 1 else min(24, max(12, width // 4 - _GAP))
    per_row = max(1, min(count, (width + _GAP) // (wanted + _GAP)))
    tallest = 16 if count == 1 else 8
    if lines is not None:
        # If one row does not hold all images, two rows of smaller ones show more of the video.
        two_rows = max(5, lines // 2 - 1) if count > per_row else lines
        tallest = max(1, min(tallest, two_rows, lines - 1))
    columns = min((width + _GAP) // per_row - _GAP, 48 if count == 1 else 32)
    rows = max(1, round(columns / aspect / _CELL_ASPECT))
    if rows > tallest:
        rows = tallest
        columns = max(1, min(columns, round(rows * _CELL_ASPECT * aspect)))
    step = max(columns, caption) + _GAP
    per_row = max(1, min(count, (width + _GAP) // step))
    room = count if lines is None else per_row * max(1, lines // (rows + 1))
    # subsample(…, 1) takes the middle frame; here a single image is the first one.
    shown = subsample(range(count), room) if room > 1 else range(min(count, 1))
    return StripPlan(tuple(shown), per_row, columns, rows, step)


def choose_filmstrip(
    choice: FilmstripChoice, screen: Output
) -> tuple[FilmstripChoice, TerminalCapabilities]:
    """Resolve ``auto``: query the terminal; ``none`` if the output is not interactive."""
    if choice != "auto":
        needs_size = choice in ("kitty", "sixel") and screen.err.is_terminal
        return choice, query_capabilities() if needs_size else TerminalCapabilities()
    if not screen.is_interactive:
        return "none", TerminalCapabilities()
    if not use_colour() or screen.err.color_system is None or not _speaks_unicode(screen.err):
        return "times", TerminalCapabilities()
    abilities = query_capabilities()
    if abilities.kitty:
        return "kitty", abilities
    if abilities.sixel:
        return "sixel", abilities
    return "blocks", abilities


def show_filmstrip(
    screen: Output,
    batches: Sequence[FrameBatch],
    choice: FilmstripChoice = "auto",
    *,
    layout: PromptFormat | None = None,
    every_frame: bool = False,
) -> None:
    """Show the frames of ``batches`` on stderr: a few rows, or all with ``every_frame``.

    ``layout`` is the prompt format of the checkpoint for which the frames were transformed.
    """
    drawn, abilities = choose_filmstrip(choice, screen)
    if drawn == "none":
        return
    as_text = drawn == "times" or screen.err.is_terminal
    console = screen.err if as_text else _console_for_file(screen.err)
    lines = None if every_frame else _lines_for(console, len(batches))
    # The strips of many sources would scroll each other off the screen.
    most = len(batches) if every_frame else max(1, console.height // (_MIN_LINES + 2))
    for number, batch in enumerate(batches):
        console.print(Text(source_line(batch, console.width), "dim"))
        if drawn == "times":
            console.print(Text("  ".join(captions(batch))))
        elif number < most:
            aspect = shown_aspect(batch, layout)
            _draw_strip(console, batch, aspect, cast(ImageProtocol, drawn), abilities, lines)
    if drawn != "times" and most < len(batches):
        console.print(Text(f"… pictures of {most} of {len(batches)} sources", "dim"))
    if screen.is_interactive:
        console.print()


def _draw_strip(
    console: Console,
    batch: FrameBatch,
    aspect: float,
    kind: ImageProtocol,
    abilities: TerminalCapabilities,
    lines: int | None,
) -> None:
    words = captions(batch)
    longest = max(map(len, words))
    width = console.width - 1  # a full last column makes some terminals wrap
    plan = plan_strip(len(batch), aspect, width=width, lines=lines, caption=longest)
    for start in range(0, len(plan.shown), plan.per_row):
        numbers = plan.shown[start : start + plan.per_row]
        pictures = [Image.fromarray(batch.images[number]) for number in numbers]
        draw_images(
            console,
            pictures,
            kind,
            columns=plan.columns,
            rows=plan.rows,
            step=plan.stride,
            abilities=abilities,
        )
        line = "".join(words[number].ljust(plan.stride) for number in numbers)
        console.print(Text(line.rstrip(), no_wrap=True), soft_wrap=True)
    if len(plan.shown) < len(batch):
        console.print(Text(f"… {len(plan.shown)} of {len(batch)} frames", "dim"))


def _console_for_file(console: Console) -> Console:
    """Console for a pipe or file: an explicit protocol is honoured there, for ``less -R``."""
    return SafeConsole(
        file=console.file, force_terminal=True, color_system="truecolor", width=80, height=50
    )


def _lines_for(console: Console, batches: int) -> int:
    """Lines per filmstrip: all filmstrips take half the screen, so the answer stays visible."""
    return max(_MIN_LINES, console.height // 2 // batches)


def _speaks_unicode(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")


def shown_aspect(batch: FrameBatch, layout: PromptFormat | None = None) -> float:
    """Width / height at which to show frames: squeezed squares get their original aspect back.

    Padded squares keep their bars, and the centre crops of SmolVLM v1 (``smolvlm``) stay squares:
    the model saw no more than that.
    """
    height, width = batch.images.shape[1:3]
    cropped = batch.geometry == "official" and layout == "smolvlm"
    squeezed = batch.geometry in ("official", "direct") and not cropped
    if squeezed and batch.metadata.width > 0 and batch.metadata.height > 0:
        return batch.metadata.width / batch.metadata.height
    return float(width / height)


def captions(batch: FrameBatch) -> list[str]:
    """The time of each frame, or its number if the source has no clock."""
    if batch.metadata.kind == "image":
        return ["picture"]
    if batch.metadata.kind == "frames":
        return [f"#{number}" for number in range(1, len(batch) + 1)]
    times = batch.pts_seconds
    close = any(after - before < 1 for before, after in pairwise(times))
    return [format_clock(time, decimals=int(close)) for time in times]


def source_line(batch: FrameBatch, width: int = 80) -> str:
    """``clip.mp4 · 0:10 · 1280×720 · 8 frames``; a long name is cut to fit ``width`` columns."""
    metadata = batch.metadata
    parts = [format_clock(metadata.duration_seconds)] if metadata.kind == "video" else []
    parts.append(f"{metadata.width}×{metadata.height}")  # noqa: RUF001
    if metadata.kind != "image":
        parts.append(format_count(len(batch), "frame"))
    facts = " · ".join(parts)
    if not metadata.name:
        return facts
    room = max(_MIN_NAME, width - len(facts) - 3)
    return f"{display_name(metadata.name, max_length=room)} · {facts}"


_WIDEST = 1920
_SHEET_GAP = 8
_LABEL_HEIGHT = 22
_PAPER, _INK = (24, 24, 24), (225, 225, 225)


def draw_contact_sheet(images: Images, labels: Sequence[str], *, aspect: float) -> Image.Image:
    """Render RGB ``images`` ``[N, H, W, 3]`` in rows, with ``aspect`` (width / height).

    The sheet is at most ``_WIDEST`` pixels wide; images keep their height if that allows it.
    """
    columns = _columns(len(images), aspect)
    height = images.shape[1]
    width = max(1, round(height * aspect))
    room = (_WIDEST - _SHEET_GAP) // columns - _SHEET_GAP
    if width > room:
        width, height = room, max(1, round(room / aspect))
    rows = -(-len(images) // columns)
    step = width + _SHEET_GAP, height + _LABEL_HEIGHT + _SHEET_GAP
    sheet = Image.new("RGB", (columns * step[0] + _SHEET_GAP, rows * step[1] + _SHEET_GAP), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        left = _SHEET_GAP + number % columns * step[0]
        top = _SHEET_GAP + number // columns * step[1]
        picture = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
        sheet.paste(picture, (left, top))
        pen.text((left, top + height + 3), label, _INK, font=font)
    return sheet


def _columns(count: int, aspect: float) -> int:
    """Number of columns that gives the sheet about the shape of a screen (16:9)."""
    best = round(math.sqrt(count * 16 / 9 / aspect))
    return max(1, min(count, best, 12))
