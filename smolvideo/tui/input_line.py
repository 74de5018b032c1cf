"""Input line: completion of commands and files in a list above it, history with ↑."""

from typing import ClassVar

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from smolvideo.conversation.commands import Completion, complete
from smolvideo.sanitize import escape_controls

_MAX_SHOWN = 8


class InputLine(Vertical):
    """Posts ``Entered`` for a line, and ``Step`` for a key that moves among the frames.

    ``completions`` is the list above it, a layer over the other widgets.
    """

    class Entered(Message):
        """A line was entered."""

        def __init__(self, line: str) -> None:
            super().__init__()
            self.line = line

    class Step(Message):
        """Request to move the frame cursor by ``to`` frames, or to ``"first"`` or ``"last"``."""

        def __init__(self, to: int | str) -> None:
            super().__init__()
            self.to = to

    def __init__(self, history: list[str], completions: OptionList) -> None:
        super().__init__(id="prompt")
        self.list = completions
        self.history = history
        self._at = len(history)
        self._draft = ""
        self._completions: list[Completion] = []
        self._chosen = False

    def compose(self) -> ComposeResult:
        yield Static("›", id="sign")  # noqa: RUF001
        yield InputField(
            placeholder="Ask about the video, or / for commands", id="line-input", compact=True
        )

    @property
    def input(self) -> "InputField":
        return self.query_one(InputField)

    @property
    def completing(self) -> bool:
        """Whether the list of completions is open."""
        return bool(self.list.display)

    def on_mount(self) -> None:
        self.list.display = False
        self.list.can_focus = False

    def set_text(self, line: str) -> None:
        """Put ``line`` into the input field for editing."""
        self.input.value = line
        self.input.cursor_position = len(line)
        self.input.focus()

    def close(self) -> bool:
        """Close the list of completions; return False if it was not open."""
        was_open = self.completing
        self.list.display = False
        return was_open

    def take(self) -> None:
        """Put the highlighted completion into the line."""
        place = self.list.highlighted or 0
        if self.completing and place < len(self._completions):
            self.set_text(self._completions[place].line)

    def move(self, by: int) -> None:
        """↑ and ↓: move through the completions if open, otherwise through the history."""
        if self.completing:
            count = max(1, len(self._completions))
            self.list.highlighted = ((self.list.highlighted or 0) + by) % count
            self._chosen = True
            return
        if self._at == len(self.history):
            self._draft = self.input.value
        at = max(0, min(len(self.history), self._at + by))
        if at != self._at:
            line = self.history[at] if at < len(self.history) else self._draft
            self.set_text(line)
            self._at = at

    def enter(self) -> None:
        """Enter: take a chosen completion, otherwise submit the line."""
        if self.completing and self._chosen:
            self.take()
            return
        line = self.input.value
        if not line.strip():
            return
        if not self.history or self.history[-1] != line:
            self.history.append(line)
        self._at = len(self.history)
        self._draft = ""
        self.input.value = ""
        self.close()
        self.post_message(self.Entered(line))

    @on(Input.Changed)
    def _complete(self, event: Input.Changed) -> None:
        event.stop()
        recalled = self._at < len(self.history) and event.value == self.history[self._at]
        if not recalled:
            self._at = len(self.history)
        self._completions = complete(event.value)
        self._chosen = False
        self.list.clear_options()
        only_itself = [one.line for one in self._completions] == [event.value]
        if not self._completions or only_itself:
            self.close()
            return
        self.list.add_options([Option(_shown(one)) for one in self._completions])
        self.list.highlighted = 0
        self.list.display = True
        self.list.styles.height = min(_MAX_SHOWN, len(self._completions))

    def take_clicked(self, place: int) -> None:
        """Take the completion that was clicked."""
        self.list.highlighted = place
        self.take()


class InputField(Input):
    """An input whose arrow keys move among the frames while it is empty."""

    BINDINGS = [  # noqa: RUF012 -- Textual's way
        Binding("up", "back(-1)", show=False),
        Binding("down", "back(1)", show=False),
        Binding("enter", "enter", show=False),
    ]
    _WHILE_EMPTY: ClassVar[dict[str, int | str]] = {
        "left": -1,
        "right": 1,
        "home": "first",
        "end": "last",
    }

    def on_mount(self) -> None:
        self.cursor_blink = False  # an idle conversation writes nothing to the terminal

    def action_back(self, by: int) -> None:
        self._prompt.move(by)

    def action_enter(self) -> None:
        self._prompt.enter()

    async def on_key(self, event: events.Key) -> None:
        if event.key == "tab" and self._prompt.completing:
            self._prompt.take()
            event.stop()
            event.prevent_default()
        elif not self.value and event.key in self._WHILE_EMPTY:
            self._prompt.post_message(InputLine.Step(self._WHILE_EMPTY[event.key]))
            event.stop()
            event.prevent_default()

    @property
    def _prompt(self) -> InputLine:
        assert isinstance(self.parent, InputLine)
        return self.parent


def _shown(completion: Completion) -> Text:
    text = Text(escape_controls(completion.label), no_wrap=True, overflow="ellipsis")
    if completion.summary:
        text.pad_right(max(2, 28 - len(text)))
        text.append(completion.summary, "dim")
    return text
