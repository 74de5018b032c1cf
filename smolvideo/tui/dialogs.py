"""Modal dialogs: help, question history, conversation list."""

from collections.abc import Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from smolvideo.conversation.commands import COMMANDS
from smolvideo.conversation.store import ConversationSummary
from smolvideo.formatting import format_count
from smolvideo.sanitize import display_name, escape_controls

KEYS = (
    ("Enter", "ask, or do the command"),
    ("Esc", "stop the answer; clear the line"),
    ("← → Home End", "move among the frames, while the line is empty"),
    ("Tab", "complete; else to the filmstrip and back"),
    ("↑ ↓", "questions asked before"),
    ("Ctrl+R", "search them"),
    ("Ctrl+E", "edit the last question, to ask it again"),
    ("Ctrl+T", "to the next time in the last answer"),
    ("Ctrl+P Ctrl+N", "the look before, the look after"),
    ("PgUp PgDn", "scroll the conversation"),
    ("z", "on the filmstrip: mark a window, then zoom into it"),
    ("F2", "list of conversations"),
    ("Ctrl+Q", "leave; the conversation is kept"),
)


class HelpScreen(ModalScreen[None]):
    """Keys and commands."""

    BINDINGS = [Binding("escape,f1,q,enter", "dismiss", "close")]  # noqa: RUF012

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="overlay"):
            yield Static(Text("Keys", "bold"))
            yield Static(_two_columns([(key, about) for key, about in KEYS]))
            yield Static(Text("\nCommands", "bold"))
            rows = [(command.usage, command.summary) for command in COMMANDS.values()]
            yield Static(_two_columns(rows))
            yield Static(Text("\nTimes in answers are links: click one, or Ctrl+T.", "dim"))


def _two_columns(rows: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(style="not bold")
    for left, right in rows:
        table.add_row(left, right)
    return table


class PickerDialog(ModalScreen[str | None]):
    """A list filtered by typed words; dismissed with the name of the choice, or None."""

    BINDINGS = [  # noqa: RUF012
        Binding("escape", "dismiss", "close"),
        Binding("up", "move(-1)", show=False, priority=True),
        Binding("down", "move(1)", show=False, priority=True),
    ]

    def __init__(self, title: str, choices: Sequence[tuple[str, Text]], nothing: str) -> None:
        super().__init__()
        self._title = title
        self._choices = choices
        self._nothing = nothing
        self._shown: list[str] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="overlay"):
            yield Static(Text(self._title, "bold"))
            yield Input(placeholder="type to search", compact=True)
            yield OptionList(markup=False)

    def on_mount(self) -> None:
        self.query_one(OptionList).can_focus = False
        self.query_one(Input).cursor_blink = False
        self.query_one(Input).focus()
        self._narrow("")

    def action_move(self, by: int) -> None:
        options = self.query_one(OptionList)
        if self._shown:
            options.highlighted = ((options.highlighted or 0) + by) % len(self._shown)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._narrow(event.value)

    @on(Input.Submitted)
    def _entered(self) -> None:
        place = self.query_one(OptionList).highlighted
        self.dismiss(self._shown[place] if self._shown and place is not None else None)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._shown[event.option_index] if self._shown else None)

    def _narrow(self, typed: str) -> None:
        words = typed.lower().split()
        found = [
            (name, text)
            for name, text in self._choices
            if all(word in text.plain.lower() for word in words)
        ]
        self._shown = [name for name, _ in found]
        options = self.query_one(OptionList)
        options.clear_options()
        if found:
            options.add_options([Option(text) for _, text in found])
            options.highlighted = 0
        else:
            options.add_option(Option(Text(self._nothing, "dim"), disabled=True))


def history_screen(questions: Sequence[str]) -> PickerDialog:
    """Create the dialog of earlier questions, the newest first."""
    choices = [
        (question, Text(escape_controls(question), no_wrap=True, overflow="ellipsis"))
        for question in reversed(questions)
    ]
    return PickerDialog("Asked before", choices, "nothing like that was asked")


def sessions_screen(sessions: Sequence[ConversationSummary]) -> PickerDialog:
    """Create the dialog of saved conversations, the last used first."""
    return PickerDialog(
        "Conversations", [(one.id, _described(one)) for one in sessions], "no conversation is kept"
    )


def _described(session: ConversationSummary) -> Text:
    used = datetime.fromtimestamp(session.last_used).strftime("%b %d %H:%M")
    text = Text(f"{used}  ", "dim", no_wrap=True, overflow="ellipsis")
    text.append(display_name(", ".join(session.sources) or "no source", 60), "not dim bold")
    text.append(f"  {format_count(session.turns, 'question')}  ", "dim not bold")
    text.append(display_name(session.first_question or "-", 200), "not dim not bold")
    return text
