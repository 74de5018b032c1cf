"""The answer while it is made, and what it cost."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

StopReason = Literal["end", "length", "stop_string", "empty"]
"""The model ended its turn, ``max_new_tokens`` were used up, or a stop string appeared; ``empty``
whichever it was, where the answer has no text."""


@dataclass(frozen=True)
class Usage:
    """Tokens, seconds and memory of one answer.

    ``frames_from_cache`` of the ``frames`` were not encoded: an earlier run had kept their features
    on disk. ``seconds`` maps stages (see ``smolvideo.progress.Stage``) to the time they took.
    ``peak_memory_bytes`` is the process's largest resident size so far, or the device's largest
    allocation where the model runs on a GPU.
    """

    prompt_tokens: int
    answer_tokens: int
    context_tokens: int
    frames: int = 0
    frames_from_cache: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_bytes: int | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Speed of generation after the first token; None where nothing was generated."""
        seconds = self.seconds.get("answer", 0.0)
        if self.answer_tokens < 2 or seconds <= 0:
            return None
        return (self.answer_tokens - 1) / seconds


@dataclass(frozen=True)
class Answer:
    """A finished answer: only the new text, without the prompt, stripped of outer blanks.

    ``notices`` are sentences for the user, on the answer (empty, cut, broken characters) and, where
    the pipeline prepared the prompt, on what it stands on: frames left out, a model that was not
    made for such footage. They are shown on stderr and kept in every record. An answer without text
    is an answer: ``stop_reason`` is ``empty``, and the exit code is that of any other answer.
    """

    text: str
    stop_reason: StopReason
    usage: Usage
    notices: tuple[str, ...] = ()


class AnswerStream:
    """The running answer: iterate it for pieces of text, then take ``result()``.

    The pieces joined are ``Answer.text``. ``result()`` runs the iteration to its end if need be.
    """

    def __init__(self, pieces: Iterator[str], finish: Callable[[str], Answer]) -> None:
        self._pieces = pieces
        self._finish = finish
        self._seen: list[str] = []
        self._answer: Answer | None = None

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces:
            self._seen.append(piece)
            yield piece

    def close(self) -> None:
        """Stop generating and let go of what it held; pieces given so far stay valid."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()

    def result(self) -> Answer:
        """The whole answer, generated to its end."""
        if self._answer is None:
            for _ in self:
                pass
            self._answer = self._finish("".join(self._seen))
        return self._answer
