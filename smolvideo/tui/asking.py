"""What happens to a line that was entered: jobs for the thread that works, and what is shown of
them.
"""

import threading
from collections.abc import Callable
from functools import partial

from smolvideo.conversation import Asked, Turn
from smolvideo.conversation.carrying_out import carry_out, question_behind
from smolvideo.conversation.commands import Call, read_line
from smolvideo.conversation.looking import NotSeen
from smolvideo.conversation.moments import Moment, moments_in
from smolvideo.conversation.player import how_to_play, play
from smolvideo.conversation.starting import Start, bring_in
from smolvideo.errors import SmolVideoError
from smolvideo.progress import OnProgress
from smolvideo.tui.chat_screen import ChatScreen
from smolvideo.tui.talk import TurnView
from smolvideo.tui.work import Job, Work


class Asking:
    """Takes lines, and keeps the screen of the app up with what the work makes of them."""

    def __init__(self, screen: ChatScreen, start: Start) -> None:
        self._screen = screen
        self._start = start
        self._talk = start.conversation
        self._work = Work(self._tell)
        self._view: TurnView | None = None
        self._pieces: list[str] = []
        self._problem_told = False

    @property
    def is_working(self) -> bool:
        """Whether something runs or waits."""
        return self._work.now is not None or self._work.waiting > 0

    def begin(self) -> None:
        """Bring in what the conversation begins with, then read ahead."""
        start = self._start
        if start.sources or start.kept is not None or start.model is not None:
            self._add(
                "opening",
                lambda on_progress: bring_in(start, on_progress=on_progress),
                self._brought_in,
            )
        else:
            self._screen.talk.say("Nothing to look at yet: /add FILE", kind="note")

    def take(self, line: str) -> None:
        """A line that was entered: a question or a command."""
        try:
            read = read_line(line)
            if isinstance(read, Call):
                self._do(read)
            elif read:
                self.ask(read)
        except SmolVideoError as error:
            self._screen.talk.say_error(error)

    def ask(self, question: str) -> None:
        """Ask, after what is under way."""
        view = self._screen.talk.begin(question, self._screen.duration_seconds)
        pieces: list[str] = []

        def run(on_progress: OnProgress) -> Asked:
            self._view, self._pieces = view, pieces
            asked = self._talk.ask(question, on_progress=on_progress)
            for piece in asked:
                pieces.append(piece)
            return asked

        def done(asked: Asked | None, error: SmolVideoError | None) -> None:
            self._view = None
            view.duration_seconds = self._screen.duration_seconds
            if asked is not None and asked.turn is not None:
                view.finish(asked.turn)
            elif error is not None:
                view.finish(Turn(question, outcome="failed", error=str(error), hint=error.hint))
            self._screen.show_figures()

        self._add("answering", run, done)

    def edit(self) -> None:
        """Take the last question back and put it into the prompt."""
        if self._view is not None:
            self._work.stop()

        def done(turn: Turn | None, error: SmolVideoError | None) -> None:
            if turn is not None:
                self._screen.talk.remove_last_turn()
                self._screen.prompt.put(turn.question)
                self._screen.show_figures()

        self._add("taking back", lambda _: self._talk.take_back(), done)

    def stop(self) -> bool:
        """Stop what runs; False where nothing does."""
        return self._work.stop()

    def end(self) -> None:
        """No further job: the app ends."""
        self._work.end()

    def tick(self) -> None:
        """Draw how far things are; called some times a second, and once more as the app ends."""
        if not self._screen.stage_line.is_attached:
            return
        if self._view is not None:
            self._view.show_text("".join(self._pieces))
        line, now = self._screen.stage_line, self._work.now
        if now is None and not self._work.waiting:
            line.show(None)
            return
        doing = now.name if now is not None else "waiting"
        line.show(self._work.progress, waiting=self._work.waiting, doing=doing)

    def moments_of_last_answer(self) -> tuple[str, list[Moment]]:
        """The last answer that names times of the video, and these."""
        for turn in reversed(self._talk.turns):
            moments = moments_in(turn.text, self._screen.duration_seconds)
            if moments:
                return turn.text, moments
        return "", []

    def _do(self, call: Call) -> None:
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

    def _carry_out(self, call: Call) -> None:
        look = self._screen.look

        def run(on_progress: OnProgress) -> str:
            return carry_out(
                call,
                self._talk,
                look=look,
                download=self._start.download,
                on_progress=on_progress,
            )

        def done(said: str | None, error: SmolVideoError | None) -> None:
            if error is not None:
                self._screen.talk.say_error(error, about=call.command.slashed)
            elif said is not None:
                self._screen.talk.say(said)
                self._show_new_look(call.command.name)
                if question := question_behind(call):
                    self.ask(question)
                elif call.command.name in ("frames", "zoom", "add", "model"):
                    self._read_ahead()
            self._screen.show_figures()

        self._add(call.command.name, run, done, at_once=True)

    def _show_new_look(self, command: str) -> None:
        looks = self._talk.looks
        if not looks:
            return
        if command in ("zoom", "add"):
            self._screen.show_look(looks[-1])
        else:
            shown = self._screen.look
            same = [look for look in looks if shown and look.number == shown.number]
            self._screen.show_look(same[0] if same else looks[-1])

    def _brought_in(
        self, result: tuple[list[str], list[NotSeen]] | None, error: SmolVideoError | None
    ) -> None:
        talk = self._screen.talk
        if error is not None:
            talk.say_error(error)
        notes, not_seen = result or ([], [])
        for note in notes:
            talk.say(note)
        for one in not_seen:
            talk.say_error(one.error)
        looks = self._talk.looks
        self._screen.show_look(looks[0] if looks else None)
        if looks:
            self._read_ahead()
        elif not_seen or error is not None:
            talk.say("Nothing to look at yet: /add FILE")

    def _read_ahead(self) -> None:
        """Let the model read the frames while the person thinks of a question."""

        def done(_: None, error: SmolVideoError | None) -> None:
            if error is not None and str(error) != "stopped":
                self._screen.talk.say_error(error)
            self._screen.show_figures()

        self._add(
            "reading ahead",
            lambda on_progress: self._talk.read_ahead(on_progress=on_progress),
            done,
            gives_way=True,
        )

    def _copy(self) -> None:
        text = next((turn.text for turn in reversed(self._talk.turns) if turn.text), "")
        if not text:
            self._screen.talk.say("there is no answer to copy yet")
            return
        self._screen.copy_to_clipboard(text)
        self._screen.talk.say("the last answer is in the clipboard, if the terminal allows it")

    def _open(self) -> None:
        look = self._screen.look
        if look is None:
            self._screen.talk.say("there is nothing to open yet")
            return
        playing = how_to_play(look.source.path, self._screen.seconds if look.moves else 0.0)

        said = f"opened in {playing.player}"
        if not playing.at_moment and look.moves:
            said += ", from the beginning: only mpv, VLC and some others can begin at a time"

        def run() -> None:
            try:
                play(playing)
            except SmolVideoError as error:
                self._tell(partial(self._screen.talk.say_error, error, about="/open"))
            else:
                self._tell(partial(self._screen.talk.say, said))

        # Beside the thread that works: an answer may take long, and a player a moment to fail.
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
        self._work.add(Job(name, run, done, gives_way), at_once=at_once)

    def _tell(self, what: Callable[[], None]) -> None:
        """Called by the thread that works."""
        self._screen.run_in_screen(partial(self._told, what))

    def _told(self, what: Callable[[], None]) -> None:
        what()
        journal = self._start.journal
        if journal is not None and journal.problem is not None and not self._problem_told:
            self._problem_told = True
            self._screen.talk.say(journal.problem)
