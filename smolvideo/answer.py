"""The generated answer: streamed text, final result, and usage (tokens, time, memory)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

StopReason = Literal["end", "length", "stop_string", "empty"]
"""Why generation ended: the model ended its turn, ``max_new_tokens`` was reached, or a stop string
appeared. ``empty`` for any of these if the answer has no text."""


@dataclass(frozen=True)
class Usage:
    """Tokens, seconds and memory of one answer.

    ``frames_from_cache`` of the ``frames`` were not encoded: their features were in the feature
    cache. ``seconds`` maps stages (``smolvideo.progress.Stage``) to their duration.
    ``peak_memory_bytes`` is the process's peak resident size so far, or the device's peak
    allocation if the model runs on a GPU.
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
        """Decoding speed after the first token; None if nothing was generated."""
        seconds = self.seconds.get("generate", 0.0)
        if self.answer_tokens < 2 or seconds <= 0:
            return None
        return (self.answer_tokens - 1) / seconds


@dataclass(frozen=True)
class Answer:
    """A finished answer: only the generated text, without the prompt, stripped of outer blanks.

    ``notices`` are messages for the user about the answer (empty, truncated, invalid characters)
    and, if the pipeline prepared the prompt, about its input: frames left out, a model that was not
    trained on such footage. They are shown on stderr and stored in every record. An answer without
    text is a valid answer: ``stop_reason`` is ``empty``, and the exit code is unaffected.
    """

    text: str
    stop_reason: StopReason
    usage: Usage
    notices: tuple[str, ...] = ()


class AnswerStream:
    """A running answer: iterate over its pieces of text, then call ``result()``.

    The concatenated pieces are ``Answer.text``. ``result()`` finishes the iteration if necessary.
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
        """Stop generating and release resources; pieces already yielded stay valid."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()

    def result(self) -> Answer:
        """Generate to the end and return the whole answer."""
        if self._answer is None:
            for _ in self:
                pass
            self._answer = self._finish("".join(self._seen))
        return self._answer
