"""Line mode of the chat, for pipes, scripts and terminals without cursor movement.

stdout carries only the answers, one after the other; everything else is on stderr.
"""

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text

from smolvideo.conversation import RunningTurn, Turn
from smolvideo.conversation.commands import (
    COMMANDS,
    ParsedCommand,
    complete,
    execute,
    in_chat,
    parse_line,
    trailing_question,
)
from smolvideo.conversation.resume import Startup, open_startup
from smolvideo.conversation.store import question_history
from smolvideo.errors import EXIT_SOME_FAILED, SmolVideoError, UsageError
from smolvideo.evidence import frames_of_evidence
from smolvideo.frames import FrameBatch
from smolvideo.pipeline import record_answer, record_error
from smolvideo.sanitize import escape_controls
from smolvideo.show.answer import show_footer, stream_pieces
from smolvideo.show.console import Output, open_screen
from smolvideo.show.filmstrip import FilmstripChoice, show_filmstrip
from smolvideo.show.progress_bar import StageProgress
from smolvideo.text_input import decoded_lines

_PROMPT = "> "


def chat_lines(start: Startup, *, filmstrip: FilmstripChoice, as_json: bool) -> int:
    """Answer lines of stdin up to ``/quit`` or its end, and return the exit code.

    If stdin is no terminal, a failed answer makes the code ``EXIT_SOME_FAILED``. Raises the errors
    of opening the first sources, without which there is no conversation.
    """
    plain = _LineChat(start, open_screen(), filmstrip, as_json)
    plain.begin()
    for line in _lines(plain.watched):
        if not plain.take(line):
            break
    if start.journal is not None and start.journal.problem is not None:
        plain.screen.notice(start.journal.problem)
    return EXIT_SOME_FAILED if plain.failed and not plain.watched else 0


class _LineChat:
    def __init__(
        self, start: Startup, screen: Output, filmstrip: FilmstripChoice, as_json: bool
    ) -> None:
        self.screen = screen
        self.watched = sys.stdin.isatty()
        self.failed = False
        self._start = start
        self._talk = start.conversation
        self._filmstrip = filmstrip
        self._as_json = as_json

    def begin(self) -> None:
        """Restore saved attachments, attach new sources, and show their frames."""
        start = self._start
        with StageProgress(self.screen) as stages:
            notes, not_seen = open_startup(start, on_progress=stages.on_progress)
        self.screen.notes(notes)
        if not_seen:
            raise not_seen[0].error
        self._show_attachments(0)
        if self.watched:
            for turn in self._talk.turns[-3:]:
                self._show_turn(turn)

    def take(self, line: str) -> bool:
        """Answer a question, or execute a command; return False for ``/quit``."""
        try:
            read = parse_line(line)
            if isinstance(read, ParsedCommand):
                return self._do(read)
            if read:
                self._ask(read)
        except SmolVideoError as error:
            self.failed = True
            self._show_error(error)
        return True

    def _do(self, call: ParsedCommand) -> bool:
        match call.command.name:
            case "quit":
                return False
            case "help":
                for command in COMMANDS.values():
                    if not command.tui_only:
                        self._say(f"{command.usage:<32} {command.summary}")
                return True
            case "edit":
                self._edit(call)
                return True
        seen = len(self._talk.attachments)
        with StageProgress(self.screen) as stages:
            said = execute(
                call, self._talk, download=self._start.download, on_progress=stages.on_progress
            )
        self._show_attachments(0 if call.command.name == "frames" and call.words else seen)
        if call.command.name == "why" and (evidence := self._talk.turns[-1].evidence):
            batches = [attachment.batch for attachment in self._talk.attachments]
            self._show_batches(frames_of_evidence(batches, evidence))
        self._say(said)
        if question := trailing_question(call):
            self._ask(question)
        return True

    def _edit(self, call: ParsedCommand) -> None:
        """Undo the last turn; text after the command is asked instead."""
        turn = self._talk.undo()
        if turn is None:
            self._say("nothing was asked yet")
        elif call.rest:
            self._ask(call.rest)
        else:
            self._say(f"taken back: {turn.question}")

    def _ask(self, question: str) -> None:
        with StageProgress(self.screen) as stages:
            asked = self._talk.ask(question, on_progress=stages.on_progress)
            with contextlib.suppress(KeyboardInterrupt):
                # Ctrl-C during an answer stops it; at the prompt it ends the chat.
                if not self._as_json:
                    stream_pieces(self.screen, asked, before_first=stages.close)
                for _ in asked if asked.turn is None else ():
                    pass
        self._finish(asked)

    def _finish(self, asked: RunningTurn) -> None:
        if asked.turn is not None and asked.turn.outcome == "stopped" and not self.watched:
            raise KeyboardInterrupt
        if self._as_json:
            self._write_record(asked)
        if asked.error is not None:
            self.failed = True
            self._show_error(asked.error)
            return
        if asked.turn is not None:
            self.screen.notes(map(in_chat, asked.turn.notices))
        if asked.answer is not None and asked.turn is not None and asked.turn.usage is not None:
            show_footer(self.screen, asked.turn.usage, asked.turn.usage.seconds)

    def _write_record(self, asked: RunningTurn) -> None:
        engine = self._talk.engine
        sources = [attachment.source for attachment in self._talk.attachments]
        if asked.error is not None:
            record = record_error(asked.question, sources, asked.error, engine=engine)
        elif asked.answer is not None and asked.prepared is not None and engine is not None:
            record = record_answer(asked.prepared, engine, asked.answer)
        else:
            return
        self.screen.write(record.to_json() + "\n")

    def _show_attachments(self, first: int) -> None:
        self._show_batches([attachment.batch for attachment in self._talk.attachments[first:]])

    def _show_batches(self, batches: Sequence[FrameBatch]) -> None:
        layout = self._talk.checkpoint.layout if self._talk.checkpoint else None
        if batches:
            show_filmstrip(self.screen, batches, self._filmstrip, layout=layout)

    def _show_turn(self, turn: Turn) -> None:
        self._say(f"{_PROMPT}{turn.question}")
        text = turn.text if turn.error is None else f"Error: {turn.error}"
        self._say(text)

    def _show_error(self, error: SmolVideoError) -> None:
        self.screen.err.print(
            Text.assemble(("Error: ", "bold red"), escape_controls(in_chat(str(error)))),
            soft_wrap=True,
        )
        if error.hint:
            self.screen.err.print(
                Text.assemble(("hint: ", "bold cyan"), escape_controls(in_chat(error.hint))),
                soft_wrap=True,
            )

    def _say(self, text: str) -> None:
        self.screen.err.print(Text(escape_controls(text, allowed="\n\t")), soft_wrap=True)


def _lines(watched: bool) -> Iterator[str]:
    """Yield the lines of stdin, from a terminal with history and completion."""
    if not watched:
        try:
            yield from decoded_lines(sys.stdin.buffer)
        except UnicodeDecodeError as error:
            raise UsageError(
                "a line on standard input is not text", hint="lines are read as UTF-8"
            ) from error
        return
    _complete_with_tab(question_history())
    while True:
        try:
            # The prompt must not be written to a redirected stdout, which carries the answers.
            line = input(_PROMPT) if sys.stdout.isatty() else _read_beside_answers()
        except EOFError:
            sys.stderr.write("\n")
            return
        yield line


def _read_beside_answers() -> str:
    sys.stderr.write(_PROMPT)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


def _complete_with_tab(history: Iterable[str]) -> None:
    """Set up Tab completion and ↑ history with readline, if it is available."""
    if sys.platform == "win32":
        return
    try:
        import readline
    except ImportError:  # a Python built without it
        return
    for question in history:
        readline.add_history(question)

    def completed(text: str, state: int) -> str | None:
        found = complete(readline.get_line_buffer(), screen=False)
        return found[state].line if state < len(found) else None

    readline.set_completer_delims("")
    readline.set_completer(completed)
    readline.parse_and_bind("tab: complete")
