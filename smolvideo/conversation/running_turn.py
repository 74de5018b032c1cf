"""A running question: streams its answer, can be cancelled, and records failures."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from smolvideo.answer import Answer, AnswerStream, Usage
from smolvideo.conversation.turns import Turn
from smolvideo.errors import SmolVideoError
from smolvideo.pipeline import PreparedPrompt
from smolvideo.progress import Cancelled, OnProgress, Progress


class RunningTurn:
    """Iterate it for pieces of the answer, then read ``turn``.

    Cancellation and errors end in the ``outcome`` of the turn, and the conversation continues; only
    KeyboardInterrupt is raised, after the turn has ended. ``prepared``, ``answer`` and ``error``
    are set as far as the turn came. Work is done on the iterating thread; ``stop`` may be called
    from any other.
    """

    def __init__(
        self,
        question: str,
        *,
        model: str,
        prepare: Callable[[], PreparedPrompt],
        stream: Callable[[PreparedPrompt, OnProgress], AnswerStream],
        keep: Callable[[Turn], None],
        on_progress: OnProgress,
    ) -> None:
        self.question = question
        self.prepared: PreparedPrompt | None = None
        self.answer: Answer | None = None
        self.turn: Turn | None = None
        self.error: SmolVideoError | None = None
        self._model = model
        self._prepare, self._stream, self._keep = prepare, stream, keep
        self._watcher = on_progress
        self._stopping = False
        self._pieces: list[str] = []
        self._answer_tokens = 0

    def stop(self) -> None:
        """Cancel at the next token or progress report; the partial answer is kept in the turn."""
        self._stopping = True

    def __iter__(self) -> Iterator[str]:
        try:
            self.prepared = self._prepare()
            stream = self._stream(self.prepared, self._on_progress)
            try:
                for piece in stream:
                    self._pieces.append(piece)
                    yield piece
                    self._stop_here()
            finally:
                stream.close()
            self.answer = stream.result()
            self._end(Turn(self.question, self.answer.text, usage=self.answer.usage))
        except Cancelled:
            self._end(self._interrupted_turn())
        except (KeyboardInterrupt, GeneratorExit):
            self._end(self._interrupted_turn())
            raise
        except SmolVideoError as error:
            self._fail(error)
        except Exception as error:
            # An internal error must not end the conversation: it becomes the turn's error.
            kind = type(error).__name__
            self._fail(SmolVideoError(f"unexpected error: {kind}: {error}"), error)

    def _on_progress(self, progress: Progress) -> None:
        if progress.stage == "generate":
            self._answer_tokens = int(progress.done)
        self._watcher(progress)
        self._stop_here()

    def _stop_here(self) -> None:
        if self._stopping:
            raise Cancelled

    def _fail(self, error: SmolVideoError, cause: Exception | None = None) -> None:
        error.__cause__ = error.__cause__ or cause
        self.error = error
        text = "".join(self._pieces)
        self._end(Turn(self.question, text, "failed", error=str(error), hint=error.hint))

    def _interrupted_turn(self) -> Turn:
        return Turn(self.question, "".join(self._pieces), "stopped", usage=self._usage())

    def _usage(self) -> Usage | None:
        if self.answer is not None:
            return self.answer.usage
        if self.prepared is None:
            return None
        prompt = self.prepared.prompt
        return Usage(
            prompt_tokens=len(prompt),
            answer_tokens=self._answer_tokens,
            context_tokens=prompt.context_tokens,
            frames=len(prompt.images),
        )

    def _end(self, turn: Turn) -> None:
        if self.turn is None:
            notices = self.prepared.notices if self.prepared else ()
            if self.answer is not None:
                notices = self.answer.notices
            self.turn = replace(turn, model=self._model, notices=notices)
            self._keep(self.turn)
