"""Controller of the chat: turns input lines into jobs, and shows results on a ChatScreen."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from smolvideo.conversation import Attachment, RunningTurn, Turn
from smolvideo.conversation.commands import ParsedCommand, execute, parse_line, trailing_question
from smolvideo.conversation.resume import FailedSource, Startup, open_startup
from smolvideo.conversation.timestamps import TimestampSpan, find_timestamps, play, player_command
from smolvideo.errors import SmolVideoError
from smolvideo.progress import OnProgress
from smolvideo.tui.input_line import InputLine
from smolvideo.tui.job_queue import Job, JobQueue
from smolvideo.tui.status import StageLine
from smolvideo.tui.transcript_view import TranscriptView, TurnView


class ChatScreen(Protocol):
    """The widgets that show a conversation, and the cursor in its frames."""

    transcript: TranscriptView
    prompt: InputLine
    stage_line: StageLine
    attachment: Attachment | None

    @property
    def seconds(self) -> float:
        """Time under the cursor."""
        ...

    @property
    def duration_seconds(self) -> float:
        """Duration of the longest video: the range of times in answers."""
        ...

    def show_attachment(
        self, attachment: Attachment | None, *, seconds: float | None = None
    ) -> None:
        """Show ``attachment``, with the cursor on its frame at ``seconds`` or where it was."""
        ...

    def refresh_status(self) -> None: ...
    def toggle_theme(self) -> None: ...
    def action_help(self) -> None: ...
    def action_sessions(self) -> None: ...
    def action_leave(self) -> None: ...
    def copy_to_clipboard(self, text: str) -> None: ...

    def run_in_screen(self, what: Callable[[], None]) -> None:
        """Call ``what`` on the UI thread. Does nothing once the app has ended."""
        ...


class ChatController:
    """Submits questions and commands as jobs, and updates the screen with their results."""

    def __init__(self, screen: ChatScreen, start: Startup) -> None:
        self._screen = screen
        self._start = start
        self._talk = start.conversation
        self._work = JobQueue(self._call_in_ui)
        self._view: TurnView | None = None
        self._pieces: list[str] = []
        self._problem_told = False

    @property
    def is_working(self) -> bool:
        """Whether a job is running or waiting."""
        return self._work.current_job is not None or self._work.waiting > 0

    def begin(self) -> None:
        """Load the sources and the saved state, then prefill."""
        start = self._start
        if start.sources or start.kept is not None or start.model is not None:
            self._add(
                "opening",
                lambda on_progress: open_startup(start, on_progress=on_progress),
                self._on_opened,
            )
        else:
            self._screen.transcript.add_notice("Nothing to look at yet: /add FILE", kind="note")

    def submit(self, line: str) -> None:
        """Handle an entered line: a question or a slash command."""
        try:
            read = parse_line(line)
            if isinstance(read, ParsedCommand):
                self._do(read)
            elif read:
                self.ask(read)
        except SmolVideoError as error:
            self._screen.transcript.say_error(error)

    def ask(self, question: str) -> None:
        """Queue a question after the jobs in progress."""
        view = self._screen.transcript.begin(question, self._screen.duration_seconds)
        pieces: list[str] = []

        def run(on_progress: OnProgress) -> RunningTurn:
            self._view, self._pieces = view, pieces
            asked = self._talk.ask(question, on_progress=on_progress)
            for piece in asked:
                pieces.append(piece)
            return asked

        def done(asked: RunningTurn | None, error: SmolVideoError | None) -> None:
            self._view = None
            view.duration_seconds = self._screen.duration_seconds
            if asked is not None and asked.turn is not None:
                view.finish(asked.turn)
            elif error is not None:
                view.finish(Turn(question, outcome="failed", error=str(error), hint=error.hint))
            self._screen.refresh_status()

        self._add("answering", run, done)

    def edit(self) -> None:
        """Undo the last turn and put its question into the input line."""
        if self._view is not None:
            self._work.stop()

        def done(turn: Turn | None, error: SmolVideoError | None) -> None:
            if turn is not None:
                self._screen.transcript.remove_last_turn()
                self._screen.prompt.set_text(turn.question)
                self._screen.refresh_status()

        self._add("taking back", lambda _: self._talk.undo(), done)

    def stop(self) -> bool:
        """Stop the running job; return False if there is none."""
        return self._work.stop()

    def end(self) -> None:
        """Stop the worker thread, as the app ends."""
        self._work.end()

    def tick(self) -> None:
        """Refresh the answer and the progress; called by a timer, once more as the app ends."""
        if not self._screen.stage_line.is_attached:
            return
        if self._view is not None:
            self._view.show_text("".join(self._pieces))
        line, now = self._screen.stage_line, self._work.current_job
        if now is None and not self._work.waiting:
            line.show(None)
            return
        doing = now.name if now is not None else "waiting"
        line.show(self._work.progress, waiting=self._work.waiting, doing=doing)

    def last_answer_timestamps(self) -> tuple[str, list[TimestampSpan]]:
        """Return the last answer that has timestamps, and the timestamps."""
        for turn in reversed(self._talk.turns):
            moments = find_timestamps(turn.text, self._screen.duration_seconds)
            if moments:
                return turn.text, moments
        return "", []

    def _do(self, call: ParsedCommand) -> None:
        screen = self._screen
        match call.command.name:
            case "quit":
                screen.action_leave()
            case "help":
                screen.action_help()
            case "sessions":
                screen.action_sessions()
            case "theme":
                screen.toggle_theme()
            case "edit":
                self.edit()
            case "copy":
                self._copy()
            case "open":
                self._open()
            case _:
                self._carry_out(call)

    def _carry_out(self, call: ParsedCommand) -> None:
        attachment = self._screen.attachment

        def run(on_progress: OnProgress) -> str:
            return execute(
                call,
                self._talk,
                attachment=attachment,
                download=self._start.download,
                on_progress=on_progress,
            )

        def done(said: str | None, error: SmolVideoError | None) -> None:
            if error is not None:
                self._screen.transcript.say_error(error, about=call.command.with_slash)
            elif said is not None:
                self._screen.transcript.add_notice(said)
                if call.command.name == "why":
                    self._show_best_frame()
                else:
                    self._show_new_attachment(call.command.name)
                if question := trailing_question(call):
                    self.ask(question)
                elif call.command.name in ("frames", "zoom", "add", "model"):
                    self._read_ahead()
            self._screen.refresh_status()

        self._add(call.command.name, run, done, at_once=True)

    def _show_best_frame(self) -> None:
        """Move the cursor to the frame that carries the last answer best."""
        evidence = self._talk.turns[-1].evidence
        if evidence is not None and evidence.frames:
            best = evidence.frames[0]
            self._screen.show_attachment(self._talk.attachments[best.source], seconds=best.time)

    def _show_new_attachment(self, command: str) -> None:
        attachments = self._talk.attachments
        if not attachments:
            return
        if command in ("zoom", "add"):
            self._screen.show_attachment(attachments[-1])
        else:
            shown = self._screen.attachment
            same = [
                attachment
                for attachment in attachments
                if shown and attachment.number == shown.number
            ]
            self._screen.show_attachment(same[0] if same else attachments[-1])

    def _on_opened(
        self, result: tuple[list[str], list[FailedSource]] | None, error: SmolVideoError | None
    ) -> None:
        talk = self._screen.transcript
        if error is not None:
            talk.say_error(error)
        notes, not_seen = result or ([], [])
        for note in notes:
            talk.add_notice(note)
        for one in not_seen:
            talk.say_error(one.error)
        attachments = self._talk.attachments
        self._screen.show_attachment(attachments[0] if attachments else None)
        if attachments:
            self._read_ahead()
        elif not_seen or error is not None:
            talk.add_notice("Nothing to look at yet: /add FILE")

    def _read_ahead(self) -> None:
        """Prefill the frames into the KV cache while the user types a question."""

        def done(_: None, error: SmolVideoError | None) -> None:
            if error is not None and str(error) != "stopped":
                self._screen.transcript.say_error(error)
            self._screen.refresh_status()

        self._add(
            "reading ahead",
            lambda on_progress: self._talk.prefill(on_progress=on_progress),
            done,
            gives_way=True,
        )

    def _copy(self) -> None:
        text = next((turn.text for turn in reversed(self._talk.turns) if turn.text), "")
        if not text:
            self._screen.transcript.add_notice("there is no answer to copy yet")
            return
        self._screen.copy_to_clipboard(text)
        self._screen.transcript.add_notice(
            "the last answer is in the clipboard, if the terminal allows it"
        )

    def _open(self) -> None:
        attachment = self._screen.attachment
        if attachment is None:
            self._screen.transcript.add_notice("there is nothing to open yet")
            return
        playing = player_command(
            attachment.source.path, self._screen.seconds if attachment.is_video else 0.0
        )

        said = f"opened in {playing.player}"
        if not playing.seeks and attachment.is_video:
            said += ", from the beginning: only mpv, VLC and some others can begin at a time"

        def run() -> None:
            try:
                play(playing)
            except SmolVideoError as error:
                self._call_in_ui(partial(self._screen.transcript.say_error, error, about="/open"))
            else:
                self._call_in_ui(partial(self._screen.transcript.add_notice, said))

        # Not on the worker thread, which may be busy with an answer; a player may fail slowly.
        threading.Thread(target=run, name="open", daemon=True).start()

    def _add(
        self,
        name: str,
        run: Callable[[OnProgress], object],
        done: Callable[..., None],
        *,
        gives_way: bool = False,
        at_once: bool = False,
    ) -> None:
        self._work.add(Job(name, run, done, gives_way), preempt=at_once)

    def _call_in_ui(self, what: Callable[[], None]) -> None:
        """Run ``what`` on the UI thread; called by the worker thread."""
        self._screen.run_in_screen(partial(self._report_errors, what))

    def _report_errors(self, what: Callable[[], None]) -> None:
        what()
        journal = self._start.journal
        if journal is not None and journal.problem is not None and not self._problem_told:
            self._problem_told = True
            self._screen.transcript.add_notice(journal.problem)
