"""The Textual app of the chat: widget layout, themes, key bindings, the cursor in the frames."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.containers import Horizontal
from textual.filter import LineFilter
from textual.theme import Theme
from textual.widget import Widget
from textual.widgets import OptionList

from smolvideo.conversation import Attachment
from smolvideo.conversation.resume import Startup
from smolvideo.conversation.store import list_sessions
from smolvideo.conversation.timestamps import nearest_frame
from smolvideo.engines import format_dtype
from smolvideo.sanitize import escape_controls
from smolvideo.tui.controller import ChatController
from smolvideo.tui.dialogs import HelpScreen, history_screen, sessions_screen
from smolvideo.tui.filmstrip import Filmstrip, FrameView
from smolvideo.tui.image_view import PictureKind
from smolvideo.tui.input_line import InputLine
from smolvideo.tui.status import StageLine, StatusLine
from smolvideo.tui.transcript_view import TranscriptView

DARK = Theme(
    name="smolvideo-dark",
    dark=True,
    primary="#f0b35b",
    secondary="#7aa2f7",
    accent="#7dcfff",
    foreground="#d6d9e0",
    background="#0e1015",
    surface="#151820",
    panel="#1d212b",
    success="#9ece6a",
    warning="#e0af68",
    error="#f7768e",
)
LIGHT = Theme(
    name="smolvideo-light",
    dark=False,
    primary="#a8570f",
    secondary="#3056b5",
    accent="#0b6bab",
    foreground="#24262b",
    background="#fbfaf6",
    surface="#f3f1ea",
    panel="#e7e4da",
    success="#3f7d20",
    warning="#9a6700",
    error="#c0283d",
)
THEMES = {"dark": DARK, "light": LIGHT}


class ControlCharacterFilter(LineFilter):
    """Replaces control characters in every line, whether typed, pasted or from a widget.

    Widgets escape foreign text themselves, but the input line holds typed text unchanged. A
    replacement has the width of the character (none for controls), so the layout does not move.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment
            if segment.control or escape_controls(segment.text) == segment.text
            else _safe(segment)
            for segment in segments
        ]


def _safe(segment: Segment) -> Segment:
    text = "".join(
        char if escape_controls(char) == char else "\N{REPLACEMENT CHARACTER}" * cell_len(char)
        for char in segment.text
    )
    return Segment(text, segment.style)


_CONTROL_CHARACTER_FILTER = ControlCharacterFilter()
_TICKS_A_SECOND = 15
"""Refresh rate of progress and the running answer; a higher one would not be visible."""


class ChatApp(App[str]):
    """One conversation, full screen. ``run`` returns the id of the conversation to open next, or
    None.
    """

    CSS_PATH = "chat.tcss"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (64, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (18, "-medium"), (36, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "stop", priority=True),
        Binding("ctrl+c", "stop_or_say", "stop", priority=True),
        Binding("ctrl+q", "leave", "leave", priority=True),
        Binding("ctrl+d", "leave_if_empty", "leave", priority=True),
        Binding("f1", "help", "help"),
        Binding("f2", "sessions", "conversations"),
        Binding("ctrl+r", "history", "history", priority=True),
        Binding("ctrl+e", "edit", "edit", priority=True),
        Binding("ctrl+t", "next_time", "next time", priority=True),
        Binding("ctrl+p", "look(-1)", "look before", priority=True),
        Binding("ctrl+n", "look(1)", "look after", priority=True),
        Binding("pageup", "scroll(-1)", "up", priority=True),
        Binding("pagedown", "scroll(1)", "down", priority=True),
        Binding("z", "zoom_mark", "zoom"),
    ]

    frame_view: FrameView
    transcript: TranscriptView
    filmstrip: Filmstrip
    stage_line: StageLine
    prompt: InputLine
    status_line: StatusLine

    def __init__(
        self,
        start: Startup,
        *,
        pictures: PictureKind = "blocks",
        theme: str = "dark",
        history: Sequence[str] = (),
        no_colour: bool = False,
        begin: bool = True,
    ) -> None:
        # Without colour no colour sequence may be sent, not even for shades of grey.
        super().__init__(ansi_color=True if no_colour else None)
        self.conversation = start.conversation
        self.attachment: Attachment | None = None
        self.asking = ChatController(self, start)
        self._begins = begin
        self._frames: dict[int, int] = {}
        self._pictures: PictureKind = pictures
        self._history = list(history)
        self._theme_name = theme
        self._marked: float | None = None
        self._last_time: tuple[str, int] = ("", -1)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Append the filter of control characters to Textual's filters."""
        return [*super().get_line_filters(), _CONTROL_CHARACTER_FILTER]

    def compose(self) -> ComposeResult:
        completions = OptionList(id="completions", markup=False)
        self.frame_view, self.transcript = FrameView(self._pictures), TranscriptView()
        self.filmstrip, self.stage_line = Filmstrip(self._pictures), StageLine()
        self.prompt, self.status_line = InputLine(self._history, completions), StatusLine()
        yield Horizontal(self.frame_view, self.transcript, id="body")
        yield self.filmstrip
        yield self.stage_line
        yield self.prompt
        yield self.status_line
        yield completions

    def on_mount(self) -> None:
        for theme in THEMES.values():
            self.register_theme(theme)
        self.theme = THEMES[self._theme_name].name
        self.frame_view.display = self._pictures != "none"
        self.filmstrip.picture.display = self._pictures != "none"
        self.prompt.input.focus()
        for turn in self.conversation.turns:
            self.transcript.add(turn, self.duration_seconds)
        self.ticking = self.set_interval(1 / _TICKS_A_SECOND, self.asking.tick)
        if self._begins:
            self.asking.begin()

    def on_resize(self) -> None:
        self.call_after_refresh(self.refresh_status)

    @property
    def frame(self) -> int:
        """The frame under the cursor."""
        return self._frames.get(self.attachment.number, 0) if self.attachment is not None else 0

    @property
    def seconds(self) -> float:
        """The time under the cursor."""
        return self.attachment.batch.pts_seconds[self.frame] if self.attachment is not None else 0.0

    @property
    def duration_seconds(self) -> float:
        """Duration of the longest video: the range of timestamps in answers."""
        attachments = self.conversation.attachments
        return max(
            (attachment.batch.metadata.duration_seconds for attachment in attachments), default=0.0
        )

    def show_attachment(
        self, attachment: Attachment | None, *, seconds: float | None = None
    ) -> None:
        """Show ``attachment`` in the filmstrip and the frame view, at its frame nearest to
        ``seconds`` or at its last cursor position."""
        self.attachment = attachment
        if attachment is not None:
            if seconds is not None:
                frame = nearest_frame(attachment.batch.pts_seconds, seconds)
                self._frames[attachment.number] = frame
            frame = self._frames.setdefault(attachment.number, 0)
            self._frames[attachment.number] = min(frame, len(attachment.batch) - 1)
        self._show_frame()
        self.refresh_status()

    def refresh_status(self) -> None:
        """Update the status line and the progress line."""
        talk, engine = self.conversation, self.conversation.engine
        usage = next((turn.usage for turn in reversed(talk.turns) if turn.usage), None)
        context = talk.checkpoint.context_tokens if talk.checkpoint is not None else 0
        device = ""
        if engine is not None:
            number_format = format_dtype(engine.dtype, engine.quantize, engine.arithmetic)
            device = f"{engine.device} {number_format}"
        self.status_line.show(
            model=talk.settings.model, device=device, usage=usage, context_tokens=context
        )
        self.asking.tick()

    def run_in_screen(self, what: Callable[[], None]) -> None:
        """Call ``what`` on the UI thread. Does nothing once the app has ended."""
        if self.is_running:
            self.call_later(what)

    def go_to(self, seconds: float) -> None:
        """Move the cursor to the frame nearest to a time, in an attachment that contains it."""
        attachment = self._look_at(seconds)
        if attachment is not None:
            self.show_attachment(attachment, seconds=seconds)

    def _look_at(self, seconds: float) -> Attachment | None:
        """Return the shown attachment if it contains the time, otherwise the last one that does."""

        def has(attachment: Attachment) -> bool:
            start, end = attachment.window or (0.0, attachment.batch.metadata.duration_seconds + 1)
            return attachment.is_video and start <= seconds <= end

        attachments = [
            attachment for attachment in self.conversation.attachments if has(attachment)
        ]
        if self.attachment is not None and has(self.attachment):
            return self.attachment
        return attachments[-1] if attachments else None

    def _show_frame(self) -> None:
        checkpoint = self.conversation.checkpoint
        layout = checkpoint.layout if checkpoint is not None else None
        self.frame_view.show(self.attachment, self.frame, layout)
        self.filmstrip.show(self.conversation.attachments, self.attachment, self.frame, layout)

    def on_filmstrip_moved(self, event: Filmstrip.Moved) -> None:
        if self.attachment is not None:
            self._frames[self.attachment.number] = event.frame
            self._show_frame()

    def on_input_line_step(self, event: InputLine.Step) -> None:
        if isinstance(event.to, int):
            self.filmstrip.action_step(event.to)
        else:
            self.filmstrip.action_go(0 if event.to == "first" else -1)

    def on_input_line_entered(self, event: InputLine.Entered) -> None:
        self.asking.submit(event.line)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        if event.option_list is self.prompt.list:
            self.prompt.take_clicked(event.option_index)

    def on_transcript_view_time_chosen(self, event: TranscriptView.TimeChosen) -> None:
        self.go_to(event.seconds)

    def action_stop(self) -> None:
        """Esc: close a dialog or the completions, else stop the job, else clear the line."""
        if len(self.screen_stack) > 1:
            self.screen.dismiss(None)
        elif self.prompt.close() or self.asking.stop():
            return
        else:
            self.prompt.set_text("")

    def action_stop_or_say(self) -> None:
        if not self.asking.stop():
            self.notify("Ctrl+Q leaves; the conversation is kept", timeout=3)

    def action_leave(self) -> None:
        self.asking.end()
        self.exit(None)

    def action_leave_if_empty(self) -> None:
        if not self.prompt.input.value:
            self.action_leave()

    def action_help(self) -> None:
        self.push_screen(HelpScreen())

    def action_history(self) -> None:
        def chosen(question: str | None) -> None:
            if question is not None:
                self.prompt.set_text(question)

        if len(self.screen_stack) == 1:
            self.push_screen(history_screen(self.prompt.history), chosen)

    def action_sessions(self) -> None:
        def chosen(session_id: str | None) -> None:
            if session_id is not None:
                self.asking.end()
                self.exit(session_id)

        if len(self.screen_stack) == 1:
            self.push_screen(sessions_screen(list_sessions()), chosen)

    def action_edit(self) -> None:
        self.asking.edit()

    def action_next_time(self) -> None:
        """Ctrl+T: move to the next timestamp of the last answer that has any, cyclically."""
        text, moments = self.asking.last_answer_timestamps()
        if moments:
            before, place = self._last_time
            place = (place + 1) % len(moments) if text == before else 0
            self._last_time = (text, place)
            self.go_to(moments[place].seconds)

    def action_look(self, by: int) -> None:
        attachments = self.conversation.attachments
        if self.attachment is not None and len(attachments) > 1:
            numbers = [attachment.number for attachment in attachments]
            place = numbers.index(self.attachment.number) + by
            self.show_attachment(attachments[place % len(attachments)])

    def action_scroll(self, by: int) -> None:
        """PgUp and PgDn: scroll the open dialog, otherwise the transcript."""
        shown: Widget = self.transcript
        if len(self.screen_stack) > 1:
            shown = self.screen.query(".overlay").first(Widget)
        if lists := shown.query(OptionList):
            move = lists.first().action_page_up if by < 0 else lists.first().action_page_down
            move()  # type: ignore[no-untyped-call]
        elif by < 0:
            shown.scroll_page_up(animate=False)
        else:
            shown.scroll_page_down(animate=False)

    def action_zoom_mark(self) -> None:
        """z on the filmstrip: the first press marks the start of a window, the second zooms in."""
        if (
            self.focused is not self.filmstrip
            or self.attachment is None
            or not self.attachment.is_video
        ):
            return
        if self._marked is None:
            self._marked = self.seconds
            self.notify("window begins here; z again where it ends", timeout=3)
            return
        start, end = sorted((self._marked, self.seconds))
        self._marked = None
        self.prompt.input.focus()
        self.asking.submit(f"/zoom {start:.3f} {end:.3f}")

    def toggle_theme(self) -> None:
        """Switch between the dark and the light theme."""
        self._theme_name = "light" if self._theme_name == "dark" else "dark"
        self.theme = THEMES[self._theme_name].name
        self.call_after_refresh(self._show_frame)
