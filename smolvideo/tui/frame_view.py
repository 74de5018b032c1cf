"""Frame view widget: the frame under the cursor, scaled to the widget, with its time."""

from PIL import Image
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from smolvideo.conversation import Attachment
from smolvideo.models.registry import PromptFormat
from smolvideo.show.filmstrip import captions, shown_aspect
from smolvideo.times import format_clock
from smolvideo.tui.image_view import PictureKind, picture_view
from smolvideo.tui.strip_layout import fit


class FrameView(Vertical):
    """One frame of an attachment; ``show`` changes it."""

    def __init__(self, kind: PictureKind) -> None:
        super().__init__(id="frame")
        self.picture = picture_view(kind, id="picture")
        self._look: Attachment | None = None
        self._frame = 0
        self._layout: PromptFormat | None = None

    def compose(self) -> ComposeResult:
        yield self.picture
        yield Static(id="caption")

    def show(self, look: Attachment | None, frame: int, layout: PromptFormat | None) -> None:
        """Show one frame of ``look``, transformed for a checkpoint with this ``layout``."""
        self._look, self._frame, self._layout = look, frame, layout
        self._draw()

    def on_resize(self, _: events.Resize) -> None:
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        look = self._look
        caption = self.query_one("#caption", Static)
        width, rows = self.picture.size
        if look is None or not width or not rows:
            self.picture.show(None, 0, 0)
            caption.update("")
            return
        columns, height = fit(shown_aspect(look.batch, self._layout), width, rows)
        image = Image.fromarray(look.batch.images[self._frame])
        self.picture.show(image, columns, height)
        caption.update(_caption(look, self._frame))


def _caption(look: Attachment, frame: int) -> Text:
    count = len(look.batch)
    if look.is_video:
        at = format_clock(look.batch.pts_seconds[frame], tenths=True)
    else:
        at = captions(look.batch)[frame]
    text = Text(at, "bold")
    if count > 1:
        text.append(f"  frame {frame + 1} of {count}", "not bold dim")
    return text
