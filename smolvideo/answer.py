"""The generated answer: streamed text, final result, and usage (tokens, time, memory)."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from smolvideo.closing import ClosedOnExit
from smolvideo.errors import ModelError
from smolvideo.json_types import Count, Moment

StopReason = Literal["end", "length", "stop_string", "empty", "choice"]
"""Why generation ended: the model ended its turn, ``max_new_tokens`` was reached, or a stop string
appeared. ``empty`` for any of these if the answer has no text. ``choice``: nothing was generated,
the text is the most likely of given choices."""


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
    def tokens(self) -> dict[str, int]:
        """Number of tokens of ``prompt``, ``answer`` and ``context``, as in records."""
        return {
            "prompt": self.prompt_tokens,
            "answer": self.answer_tokens,
            "context": self.context_tokens,
        }

    @property
    def tokens_per_second(self) -> float | None:
        """Decoding speed after the first token; None if nothing was generated."""
        seconds = self.seconds.get("generate", 0.0)
        if self.answer_tokens < 2 or seconds <= 0:
            return None
        return (self.answer_tokens - 1) / seconds


@dataclass(frozen=True)
class SourceFrames:
    """The frames of one source that an answer is about: its display name, and their presentation
    times in seconds, as in the ``sources`` of a record."""

    name: str
    frame_times: tuple[float, ...] = ()


@dataclass(frozen=True)
class ChoiceProbabilities:
    """The probability of each of given choices, in their order; together they are 1.

    ``mass`` is the probability that the model's own answer begins with one of the choices, before
    it is normalized: near 0 the model would say something else. ``rating`` is the expected value
    where all choices are numbers. ``calibration`` describes the scale that corrected the
    probabilities, None where none did: its ``slope`` and ``offset``, the number of labelled
    ``questions`` and ``videos`` it was fitted to, its expected calibration errors ``ece_before``
    and ``ece_after``, and when it was ``created``.
    """

    probabilities: Mapping[str, float]
    mass: float
    rating: float | None = None
    calibration: Mapping[str, float | str] | None = None


EvidenceVerdict = Literal["frames", "order", "many", "blind", "budget"]
"""``frames``: a single frame or a few carry the answer. ``order``: it depends on the order of the
frames. ``many``: it takes more frames than a few. ``blind``: grey frames give the same answer.
``budget``: the readings ended before a verdict."""


@dataclass(frozen=True)
class EvidenceFrame:
    """A frame that carries an answer: its source (from 0), its time in seconds, and the share of
    the answer's score that its group alone keeps, from 0 to 1."""

    source: Count
    time: Moment
    kept: float


@dataclass(frozen=True)
class AnswerEvidence:
    """Which frames carry an answer, found by readings of groups of frames.

    ``frames`` are empty unless ``verdict`` is ``frames``, the best first; ``text``
    says in words what was found. ``score`` is the mean probability of the answer's tokens given all
    frames, ``blank_score`` that given grey ones, and ``reversed_score`` that given some of them in
    reverse order. ``readings`` is the number of frames of all readings over that of the prompt, and
    ``seconds`` what they took.
    """

    verdict: EvidenceVerdict
    text: str
    frames: tuple[EvidenceFrame, ...]
    score: float
    blank_score: float
    reversed_score: float | None
    readings: float
    seconds: float

    @classmethod
    def from_json(cls, content: Mapping[str, Any] | None) -> "AnswerEvidence | None":
        """Parse what ``asdict`` wrote, ignoring unknown keys; TypeError for missing ones."""
        if content is None:
            return None
        known = _known(cls, content)
        frames = tuple(EvidenceFrame(**_known(EvidenceFrame, one)) for one in known["frames"])
        return cls(**known | {"frames": frames})


CheckVerdict = Literal["stands", "unstable", "blind"]
"""``stands``: the answer needs the frames, and is the same half a sampling step later.
``unstable``: it changes then. ``blind``: grey frames give it, too."""


@dataclass(frozen=True)
class AnswerCheck:
    """What the model says to the same question with other frames.

    ``blind`` is its answer to grey frames, ``shuffled`` to the frames in another order (None for a
    single frame), and ``shifted`` to those half a sampling step later (None without a clock).
    ``depends_on_order``: whether the shuffled frames change the answer. ``text`` says in words what
    the controls show; ``seconds`` is what they took.
    """

    verdict: CheckVerdict
    text: str
    blind: str
    shuffled: str | None
    shifted: str | None
    depends_on_order: bool | None
    seconds: float

    @classmethod
    def from_json(cls, content: Mapping[str, Any] | None) -> "AnswerCheck | None":
        """Parse what ``asdict`` wrote, ignoring unknown keys; TypeError for missing ones."""
        return None if content is None else cls(**_known(cls, content))


def _known(kind: Any, content: Mapping[str, Any]) -> dict[str, Any]:
    names = {name.name for name in fields(kind)}
    return {key: value for key, value in content.items() if key in names}


@dataclass(frozen=True, repr=False)
class Answer:
    """A finished answer: only the generated text, without the prompt, stripped of outer blanks.

    ``str(answer)`` is the text. ``notices`` are messages for the user about the answer (empty,
    truncated, invalid characters) and, if the pipeline prepared the prompt, about its input: frames
    left out, a model that was not trained on such footage. They are shown on stderr and stored in
    every record. An answer without text is a valid answer: ``stop_reason`` is ``empty``, and the
    exit code is unaffected. ``question`` and ``sources`` are empty where an engine was given a
    packed prompt. ``choices`` are the probabilities of given choices, where some were given;
    ``evidence`` are the frames that carry the answer, where they were searched, and ``check`` what
    the model says with other frames, where that was asked for.
    """

    text: str
    stop_reason: StopReason
    usage: Usage
    notices: tuple[str, ...] = ()
    question: str = ""
    sources: tuple[SourceFrames, ...] = ()
    choices: ChoiceProbabilities | None = None
    evidence: AnswerEvidence | None = None
    check: AnswerCheck | None = None

    def parse(self, model: Any = None) -> Any:
        """Return the value of a JSON answer, one by a ``schema``; with a pydantic ``model`` an
        object of it. Raises ValueError for a text that is no JSON, or that the model refuses."""
        if model is not None:
            return model.model_validate_json(self.text)
        return json.loads(self.text)

    @property
    def frame_times(self) -> tuple[tuple[float, ...], ...]:
        """Presentation times in seconds of the frames of each source, in order."""
        return tuple(source.frame_times for source in self.sources)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``json.dumps`` takes, under the keys of an answer's record.

        ``question``, ``sources`` (each ``name`` and ``frame_times``), ``text``, ``stop_reason``,
        ``tokens`` (``prompt``, ``answer``, ``context``), ``frames_from_cache``, ``seconds`` (stage
        → duration), ``peak_memory_bytes``, ``notices``, ``choices`` (see ``ChoiceProbabilities``),
        ``evidence`` (see ``AnswerEvidence``), ``check`` (see ``AnswerCheck``).
        """
        return {
            "question": self.question,
            "sources": [
                {"name": source.name, "frame_times": [*source.frame_times]}
                for source in self.sources
            ],
            "text": self.text,
            "stop_reason": self.stop_reason,
            "tokens": self.usage.tokens,
            "frames_from_cache": self.usage.frames_from_cache,
            "seconds": dict(self.usage.seconds),
            "peak_memory_bytes": self.usage.peak_memory_bytes,
            "notices": [*self.notices],
            "choices": None if self.choices is None else asdict(self.choices),
            "evidence": None if self.evidence is None else asdict(self.evidence),
            "check": None if self.check is None else asdict(self.check),
        }

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        notices = f", notices={self.notices!r}" if self.notices else ""
        return (
            f"Answer({self.text!r}, stop_reason={self.stop_reason!r}, "
            f"frames={self.usage.frames}{notices})"
        )


class AnswerStream(ClosedOnExit):
    """A running answer: iterate over its pieces of text, then call ``result()``.

    The concatenated pieces are ``Answer.text``. ``result()`` finishes the iteration if necessary.
    As a context manager it is closed on exit.
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

    def __repr__(self) -> str:
        state = "running" if self._answer is None else "finished"
        return f"<AnswerStream {state}: {''.join(self._seen)!r}>"


def broken_off_error() -> ModelError:
    """Return the error for the result of an answer that was closed, cancelled or interrupted."""
    return ModelError("the answer was broken off before its end")
