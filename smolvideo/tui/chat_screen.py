"""Interface of the app that the controller needs, without a dependency on the app."""

from collections.abc import Callable
from typing import Protocol

from smolvideo.conversation import Attachment
from smolvideo.tui.input_line import InputLine
from smolvideo.tui.status import StageLine
from smolvideo.tui.transcript_view import TranscriptView


class ChatScreen(Protocol):
    """The widgets that show a conversation, and the cursor in its frames."""

    transcript: TranscriptView
    prompt: InputLine
    stage_line: StageLine
    look: Attachment | None

    @property
    def seconds(self) -> float:
        """Time under the cursor."""
        ...

    @property
    def duration_seconds(self) -> float:
        """Duration of the longest video: the range of times in answers."""
        ...

    def show_look(self, look: Attachment | None) -> None: ...
    def refresh_status(self) -> None: ...
    def toggle_theme(self) -> None: ...
    def action_help(self) -> None: ...
    def action_sessions(self) -> None: ...
    def action_leave(self) -> None: ...
    def copy_to_clipboard(self, text: str) -> None: ...

    def run_in_screen(self, what: Callable[[], None]) -> None:
        """Call ``what`` on the UI thread. Does nothing once the app has ended."""
        ...
