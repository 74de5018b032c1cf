"""Transcript widget: questions and Markdown answers with linked timestamps."""

import re
import time
from collections.abc import Sequence

from markdown_it import MarkdownIt
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.widgets import Markdown, Static

from smolvideo.conversation import Turn
from smolvideo.conversation.commands import in_chat
from smolvideo.conversation.timestamps import find_timestamps
from smolvideo.errors import SmolVideoError
from smolvideo.formatting import format_seconds
from smolvideo.sanitize import escape_controls

_TIME = "time:"
_CODE = re.compile(r"(`[^`]*`|\[[^\[\]]*\]\([^()]*\))")
"""Markdown spans in which timestamps are not linked: code and existing links."""


_REDRAW_SECONDS_PER_CHARACTER = 1 / 4000
"""Minimum interval of redrawing a running answer: 0.25 s at a thousand characters."""


class TranscriptView(VerticalScroll, can_focus=False):
    """The whole conversation; a click on a timestamp posts ``TimeChosen``."""

    class TimeChosen(Message):
        """The user has clicked the timestamp ``seconds``."""

        def __init__(self, seconds: float) -> None:
            super().__init__()
            self.seconds = seconds

    def __init__(self) -> None:
        super().__init__(id="talk")
        self.anchor()

    def begin(self, question: str, duration_seconds: float) -> "TurnView":
        """Add a turn with its question, and return its view, which receives the answer."""
        view = TurnView(question, duration_seconds)
        self.mount(view)
        self.anchor()
        return view

    def add(self, turn: Turn, duration_seconds: float) -> None:
        """Add a finished turn."""
        self.begin(turn.question, duration_seconds).finish(turn)

    def add_notice(self, sentence: str, *, kind: str = "note") -> None:
        """Add a message of the program with the CSS class ``kind``."""
        self.mount(Static(Text(escape_controls(in_chat(sentence))), classes=kind))
        self.anchor()

    def say_error(self, error: SmolVideoError, *, about: str = "") -> None:
        """Add an error with its hint."""
        self.mount(Static(error_text(str(error), error.hint, about), classes="error"))
        self.anchor()

    def remove_last_turn(self) -> None:
        """Remove the last question and its answer from the screen."""
        turns = list(self.query(TurnView))
        if turns:
            turns[-1].remove()

    @on(Markdown.LinkClicked)
    def _go_to_time(self, event: Markdown.LinkClicked) -> None:
        event.stop()
        # Only timestamp links are followed: an answer may contain any URL.
        try:
            seconds = float(event.href.removeprefix(_TIME))
        except ValueError:
            return
        if event.href.startswith(_TIME):
            self.post_message(self.TimeChosen(seconds))


class TurnView(Vertical):
    """One question and its answer, which may still be growing."""

    def __init__(self, question: str, duration_seconds: float) -> None:
        super().__init__(classes="turn")
        self.duration_seconds = duration_seconds
        self._question = question
        self._answer = Markdown(classes="answer", open_links=False, parser_factory=_parser)
        self._below = Static(classes="below")
        self.notices: list[str] = []
        self._text = ""
        self._drawn = ""
        self._draw_after = 0.0

    def compose(self) -> ComposeResult:
        yield Static(Text(escape_controls(self._question, allowed="\n")), classes="question")
        yield self._answer
        yield self._below

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._text

    def show_text(self, text: str) -> None:
        """Show ``text`` as the answer so far.

        It is redrawn only if it has grown, and less often the longer it is, so that keys stay
        responsive.
        """
        self._text = text
        new = text[len(self._drawn) :]
        now = time.monotonic()
        if not new or not self.is_mounted or now < self._draw_after:
            return
        self._draw_after = now + len(text) * _REDRAW_SECONDS_PER_CHARACTER
        self._drawn = text
        self._answer.append(escape_controls(new, allowed="\n\t"))

    def finish(self, turn: Turn) -> None:
        """Show the final state of the turn: answered, stopped or failed."""
        self._text = turn.text
        self.call_after_refresh(self._finish, turn)

    def _finish(self, turn: Turn) -> None:
        # The complete answer, with links at its timestamps.
        self._answer.update(with_links(turn.text, self.duration_seconds))
        if turn.error is not None:
            self._below.add_class("error")
            self._below.update(error_text(turn.error, turn.hint))
            return
        self._below.update(_facts(turn))
        for notice in self._new(turn.notices):
            self.mount(Static(Text(escape_controls(in_chat(notice))), classes="note"))

    def _new(self, notices: Sequence[str]) -> list[str]:
        """Return the ``notices`` that no turn on the screen shows yet."""
        if self.parent is None:
            return []
        others = self.parent.query_children(TurnView)
        shown = {notice for view in others for notice in view.notices}
        self.notices = [notice for notice in notices if notice not in shown]
        return self.notices


def _parser() -> MarkdownIt:
    """Create a Markdown parser without HTML (``<b>`` is shown as text) and without autolinks."""
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def with_links(text: str, duration_seconds: float) -> str:
    """Return the Markdown of an answer with links at its timestamps."""
    parts = []
    for part in _CODE.split(escape_controls(text, allowed="\n\t")):
        done = 0
        if not _CODE.fullmatch(part):
            for moment in find_timestamps(part, duration_seconds):
                clock = part[moment.start : moment.end]
                parts.append(f"{part[done : moment.start]}[{clock}]({_TIME}{moment.seconds:g})")
                done = moment.end
        parts.append(part[done:])
    return "".join(parts)


def error_text(message: str, hint: str | None, about: str = "") -> Text:
    """Format ``✗ message``, with the hint below it."""
    text = Text("✗ ", "bold")
    if about:
        text.append(f"{escape_controls(about)}: ", "bold")
    text.append(_on_one_line(in_chat(message)), "not bold")
    if hint:
        text.append("\n  " + _on_one_line(in_chat(hint)), "not bold dim")
    return text


def _on_one_line(text: str) -> str:
    return " ".join(escape_controls(text, allowed="\n\t").split())


def _facts(turn: Turn) -> Text:
    """Format ``first word after 0.2 s · 41 tokens/s``, omitting unknown parts."""
    parts = ["stopped"] if turn.outcome == "stopped" else []
    if turn.usage is not None and "prefill" in turn.usage.seconds:
        seconds = turn.usage.seconds
        waited = seconds.get("encode", 0.0) + seconds["prefill"]
        parts.append(f"first word after {format_seconds(waited)}")
        if turn.usage.tokens_per_second is not None:
            parts.append(f"{turn.usage.tokens_per_second:.0f} tokens/s")
    return Text(" · ".join(parts), "dim")
