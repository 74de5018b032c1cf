"""Filmstrip: thumbnails of the sampled frames over a time line, and the frame at its cursor."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Static

from smolvideo.conversation import Attachment
from smolvideo.formatting import format_clock, format_count
from smolvideo.models.registry import PromptFormat
from smolvideo.sanitize import display_name
from smolvideo.show.filmstrip import captions, shown_aspect
from smolvideo.tui.image_view import PictureKind, picture_view

_CELL_ASPECT = 2.0
"""Height / width of a character cell, about 2 in most fonts."""
GAP = 1


@dataclass(frozen=True)
class StripSlots:
    """``count`` thumbnail slots, each ``columns`` wide, at the columns ``starts``."""

    count: int
    columns: int
    starts: tuple[int, ...]

    def of_frame(self, frame: int, frames: int) -> int:
        """Return the slot that shows a frame when the cursor is on it."""
        return min(self.count - 1, frame * self.count // max(1, frames))

    def frame_of(self, slot: int, frames: int) -> int:
        """Return the frame shown in a slot without the cursor: the middle one of its range."""
        first, after = self.range_of(slot, frames)
        return (first + after - 1) // 2

    def range_of(self, slot: int, frames: int) -> tuple[int, int]:
        """Return the frames of a slot as a half-open range."""
        return -(-slot * frames // self.count), -(-(slot + 1) * frames // self.count)

    def at_column(self, column: int) -> int:
        """Return the slot at a screen column."""
        before = [slot for slot, start in enumerate(self.starts) if start <= column]
        return before[-1] if before else 0


def plan_slots(frames: int, aspect: float, *, width: int, rows: int) -> StripSlots:
    """Plan slots for as many thumbnails of ``aspect`` (width / height) and height ``rows`` as fit.

    At most one per frame; spread over the whole ``width`` if not all frames fit.
    """
    columns = max(4, min(width, round(rows * _CELL_ASPECT * aspect)))
    count = max(1, min(frames, (width + GAP) // (columns + GAP)))
    step = (width + GAP) / count
    # Spread over the width if there are more frames than slots; otherwise side by side.
    step = min(step, columns + GAP + 2) if count == frames else step
    starts = tuple(int(slot * step) for slot in range(count))
    return StripSlots(count, columns, starts)


def columns_of(
    pts_seconds: Sequence[float], start_seconds: float, end_seconds: float, width: int
) -> list[int]:
    """Return the column of each frame on a time line of ``width`` columns.

    >>> columns_of((0.0, 5.0, 10.0), 0.0, 10.0, 11)
    [0, 5, 10]
    """
    span = end_seconds - start_seconds
    if span <= 0 or width <= 1:
        return [0] * len(pts_seconds)
    return [
        min(width - 1, max(0, round((time - start_seconds) / span * (width - 1))))
        for time in pts_seconds
    ]


def nearest(columns: Sequence[int], column: int) -> int:
    """Return the frame whose column is nearest to ``column``; the earlier one on a tie."""
    return min(range(len(columns)), key=lambda frame: abs(columns[frame] - column))


def fit(aspect: float, width: int, rows: int) -> tuple[int, int]:
    """Return the largest size (columns, rows) of an image of ``aspect`` in ``width`` x ``rows``."""
    columns = min(width, round(rows * _CELL_ASPECT * aspect))
    return max(1, columns), max(1, min(rows, round(columns / aspect / _CELL_ASPECT)))


_DIMMED = 0.55
"""Brightness of the thumbnails without the cursor."""
_MAX_KEPT = 1_000
"""Cached thumbnails: some tens of megabytes for pixel graphics."""


class Filmstrip(Vertical, can_focus=True):
    """Thumbnail strip of one attachment; posts ``Moved`` when the user moves the cursor."""

    BINDINGS = [  # noqa: RUF012 -- Textual's way
        Binding("left", "step(-1)", "earlier"),
        Binding("right", "step(1)", "later"),
        Binding("home", "go(0)", "first"),
        Binding("end", "go(-1)", "last"),
    ]

    class Moved(Message):
        """The cursor has moved to ``frame`` of the shown attachment."""

        def __init__(self, frame: int) -> None:
            super().__init__()
            self.frame = frame

    def __init__(self, kind: PictureKind) -> None:
        super().__init__(id="strip")
        self.picture = picture_view(kind, centred=False, id="thumbs")
        self.frame = 0
        self._dims = kind not in ("shades", "none")
        self._attachments: Sequence[Attachment] = ()
        self._attachment: Attachment | None = None
        self._layout: PromptFormat | None = None
        self._slots = StripSlots(1, 1, (0,))
        self._small: dict[tuple[int, int, tuple[int, int]], Image.Image] = {}
        self._line_columns: list[int] = []
        self._line_left = 0

    def compose(self) -> ComposeResult:
        yield Static(id="title")
        yield self.picture
        yield Static(id="times")
        yield Static(id="line")

    def show(
        self,
        attachments: Sequence[Attachment],
        attachment: Attachment | None,
        frame: int,
        layout: PromptFormat | None,
    ) -> None:
        """Show ``attachment``, one of ``attachments``, with the cursor on ``frame``."""
        self._attachments, self._attachment, self.frame, self._layout = (
            attachments,
            attachment,
            frame,
            layout,
        )
        self._draw()

    def action_step(self, by: int) -> None:
        if self._attachment is not None:
            self._move(self.frame + by)

    def action_go(self, frame: int) -> None:
        if self._attachment is not None:
            self._move(frame % len(self._attachment.batch))

    def on_resize(self, _: events.Resize) -> None:
        self.call_after_refresh(self._draw)

    def on_click(self, event: events.Click) -> None:
        if self._attachment is None:
            return
        widget = event.widget
        if widget is not None and widget.id == "line":
            self._move(nearest(self._line_columns, event.x - self._line_left))
        elif widget is not None and widget.id in ("thumbs", "times"):
            slot = self._slots.at_column(event.x)
            self._move(self._slots.frame_of(slot, len(self._attachment.batch)))

    def on_mouse_scroll_down(self, _: events.MouseScrollDown) -> None:
        self.action_step(1)

    def on_mouse_scroll_up(self, _: events.MouseScrollUp) -> None:
        self.action_step(-1)

    def _move(self, frame: int) -> None:
        if self._attachment is not None and 0 <= frame < len(self._attachment.batch):
            self.frame = frame  # set at once: key repeat is faster than messages
            self.post_message(self.Moved(frame))

    def _draw(self) -> None:
        title, times, line = (
            self.query_one(name, Static) for name in ("#title", "#times", "#line")
        )
        attachment, width = self._attachment, self.picture.size.width
        if attachment is None or not width:
            self.picture.show(None, 0, 0)
            for part in (title, times, line):
                part.update("")
            return
        title.update(self._title(attachment, title.size.width))
        rows = self.picture.size.height
        if rows:
            aspect = shown_aspect(attachment.batch, self._layout)
            self._slots = plan_slots(len(attachment.batch), aspect, width=width, rows=rows)
            self.picture.show(self._composed(attachment, width, rows), width, rows)
        times.update(self._times(attachment, width))
        line.update(self._line(attachment, width))

    def _composed(self, attachment: Attachment, width: int, rows: int) -> Image.Image:
        """Render all slots into one image on the background colour."""
        base = self.background_colors[1]
        strip = Image.new("RGB", self.picture.pixels(width, rows), (base.r, base.g, base.b))
        current = self._slots.of_frame(self.frame, len(attachment.batch))
        size = self.picture.pixels(self._slots.columns, rows)
        for slot, start in enumerate(self._slots.starts):
            frame = self._frame_in(slot, attachment)
            small = self._thumbnail(attachment, frame, size)
            if self._dims and slot != current and len(attachment.batch) > 1:
                small = _dimmed(small, (base.r, base.g, base.b))
            strip.paste(small, self.picture.pixels(start, 0))
        return strip

    def _thumbnail(self, attachment: Attachment, frame: int, size: tuple[int, int]) -> Image.Image:
        """Scale a frame; cached, as the cursor moves at key-repeat rate."""
        key = (id(attachment.batch), frame, size)
        if key not in self._small:
            if len(self._small) >= _MAX_KEPT:
                self._small.clear()
            picture = Image.fromarray(attachment.batch.images[frame])
            self._small[key] = picture.resize(size, Image.Resampling.BOX)
        return self._small[key]

    def _frame_in(self, slot: int, attachment: Attachment) -> int:
        frames = len(attachment.batch)
        if slot == self._slots.of_frame(self.frame, frames):
            return self.frame
        return self._slots.frame_of(slot, frames)

    def _title(self, attachment: Attachment, width: int) -> Text:
        metadata = attachment.batch.metadata
        facts = [format_clock(metadata.duration_seconds)] if attachment.is_video else []
        facts.append(f"{metadata.width}×{metadata.height}")  # noqa: RUF001
        if metadata.kind != "image":
            facts.append(format_count(len(attachment.batch), "frame"))
        if attachment.subtitles:
            facts.append("subtitles")
        place = ""
        if len(self._attachments) > 1:
            number = [one.number for one in self._attachments].index(attachment.number) + 1
            place = f"◂ {number} of {len(self._attachments)} ▸"
        zoomed = ""
        if attachment.window is not None:
            start, end = (format_clock(seconds) for seconds in attachment.window)
            zoomed = f"zoomed to {start} – {end}"  # noqa: RUF001
        rest = " · ".join(filter(None, [zoomed, *facts]))
        room = max(8, width - len(rest) - len(place) - 6)
        text = Text(display_name(metadata.name or attachment.source.name, max_length=room), "bold")
        text.append(f"  {rest}", "not bold dim")
        if place:
            text.append("  ")
            text.append(place, "bold")
        text.truncate(width)
        return text

    def _times(self, attachment: Attachment, width: int) -> Text:
        words = captions(attachment.batch)
        current = self._slots.of_frame(self.frame, len(attachment.batch))
        ends = [*self._slots.starts[1:], width]
        text = Text(no_wrap=True)
        for slot, (start, end) in enumerate(zip(self._slots.starts, ends, strict=True)):
            word = words[self._frame_in(slot, attachment)]
            here = slot == current
            text.pad_right(start - len(text))
            if len(word) < end - start or here:
                text.append(word, "bold reverse" if here else "dim")
        text.truncate(width)
        return text

    def _line(self, attachment: Attachment, width: int) -> Text:
        """``0:00 ┴──┴──●──┴──┴ 3:20``: a tick for each frame, at its time."""
        if not attachment.is_video or len(attachment.batch) < 2:
            return Text("")
        start, end = attachment.window or (0.0, attachment.batch.metadata.duration_seconds)
        left, right = format_clock(start) + " ", " " + format_clock(end)
        room = max(1, width - len(left) - len(right))
        columns = columns_of(attachment.batch.pts_seconds, start, end, room)
        self._line_columns, self._line_left = columns, len(left)
        marks = ["─"] * room
        for column in columns:
            marks[column] = "┴"
        cursor = columns[self.frame]
        text = Text(left, "dim", no_wrap=True)
        text.append("".join(marks[:cursor]), "dim")
        text.append("●", "bold")
        text.append("".join(marks[cursor + 1 :]), "dim")
        text.append(right, "dim")
        return text


def _dimmed(picture: Image.Image, towards: tuple[int, int, int]) -> Image.Image:
    """Blend an image with the background colour ``towards``."""
    pixels = np.asarray(picture, np.float32)
    mixed = pixels * _DIMMED + np.asarray(towards, np.float32) * (1 - _DIMMED)
    return Image.fromarray(mixed.astype(np.uint8))


class FrameView(Vertical):
    """One frame of an attachment; ``show`` changes it."""

    def __init__(self, kind: PictureKind) -> None:
        super().__init__(id="frame")
        self.picture = picture_view(kind, id="picture")
        self._attachment: Attachment | None = None
        self._frame = 0
        self._layout: PromptFormat | None = None

    def compose(self) -> ComposeResult:
        yield self.picture
        yield Static(id="caption")

    def show(self, attachment: Attachment | None, frame: int, layout: PromptFormat | None) -> None:
        """Show one frame of ``attachment``, transformed for a checkpoint with this ``layout``."""
        self._attachment, self._frame, self._layout = attachment, frame, layout
        self._draw()

    def on_resize(self, _: events.Resize) -> None:
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        attachment = self._attachment
        caption = self.query_one("#caption", Static)
        width, rows = self.picture.size
        if attachment is None or not width or not rows:
            self.picture.show(None, 0, 0)
            caption.update("")
            return
        columns, height = fit(shown_aspect(attachment.batch, self._layout), width, rows)
        image = Image.fromarray(attachment.batch.images[self._frame])
        self.picture.show(image, columns, height)
        caption.update(_caption(attachment, self._frame))


def _caption(attachment: Attachment, frame: int) -> Text:
    count = len(attachment.batch)
    if attachment.is_video:
        at = format_clock(attachment.batch.pts_seconds[frame], decimals=1)
    else:
        at = captions(attachment.batch)[frame]
    text = Text(at, "bold")
    if count > 1:
        text.append(f"  frame {frame + 1} of {count}", "not bold dim")
    return text
