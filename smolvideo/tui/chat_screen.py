"""The interface of the chat's screen that its controller needs."""

from collections.abc import Callable
from typing import Protocol

from smolvideo.conversation import Look
from smolvideo.tui.prompt import Prompt
from smolvideo.tui.status import StageLine
from smolvideo.tui.talk import TalkView


class ChatScreen(Protocol):
    """The widgets that show a conversation, and the cursor in its frames."""

    talk: TalkView
    prompt: Prompt
    stage_line: StageLine
    look: Look | None

    @property
    def seconds(self) -> float:
        """Time under the cursor."""
        ...

    @property
    def duration_seconds(self) -> float:
        """Duration of the longest video: the range of times in answers."""
        ...

    def show_look(self, look: Look | None) -> None: ...
    def show_figures(self) -> None: ...
    def toggle_theme(self) -> None: ...
    def action_help(self) -> None: ...
    def action_sessions(self) -> None: ...
    def action_leave(self) -> None: ...
    def copy_to_clipboard(self, text: str) -> None: ...

    def run_in_screen(self, what: Callable[[], None]) -> None:
        """Call ``what`` in the thread of the screen. Does nothing once the screen is closed."""
        ...
