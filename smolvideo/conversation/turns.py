"""Data types of a conversation: settings, attachments (frames of a source) and turns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from smolvideo.answer import Answer, AnswerEvidence, AnswerStream, Usage
from smolvideo.engines import EngineSpec, GenerationOptions
from smolvideo.errors import RecordError, SmolVideoError
from smolvideo.formatting import format_timestamp
from smolvideo.frames import FrameBatch
from smolvideo.json_types import upgrade_engine
from smolvideo.pipeline import PreparedPrompt
from smolvideo.progress import Cancelled, OnProgress, Progress
from smolvideo.prompt import PromptOptions
from smolvideo.sampling import FrameSampling, RelativeTime, parse_time
from smolvideo.source import VideoSource

Options = TypeVar("Options", FrameSampling, PromptOptions, GenerationOptions)


@dataclass(frozen=True)
class Settings:
    """Settings of all questions of a conversation; names as on the command line.

    ``model_reason`` is why ``auto`` chose the model; None where it was named. ``adapter`` is the
    folder of a LoRA adapter, ``base_url`` the server that answers.
    """

    model: str
    revision: str | None = None
    engine: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    quantize: str = "none"
    arithmetic: str = "auto"
    offline: bool = False
    reader: str = "auto"
    sampling: FrameSampling = field(default_factory=FrameSampling)
    prompt_options: PromptOptions = field(default_factory=PromptOptions)
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    model_reason: str | None = None
    adapter: str | None = None
    base_url: str | None = None

    @property
    def spec(self) -> EngineSpec:
        """The engine part of the settings."""
        return EngineSpec(**{part.name: getattr(self, part.name) for part in fields(EngineSpec)})


def settings_to_json(settings: Settings) -> dict[str, Any]:
    """Convert to JSON types for the event log, without what concerns one question or run: the
    schema of its answer, and ``offline``."""
    content = asdict(settings)
    del content["offline"]
    content["generation"] = replace(settings.generation, schema=None).to_json()
    return content | {"sampling": sampling_to_json(settings.sampling)}


def settings_from_json(content: Mapping[str, Any]) -> Settings:
    """Parse the output of ``settings_to_json``. Raises RecordError for invalid values."""
    known = {option.name for option in fields(Settings)}
    kept = {name: value for name, value in upgrade_engine(content).items() if name in known}
    try:
        kept["sampling"] = sampling_from_json(kept.get("sampling", {}))
        kept["prompt_options"] = _options(PromptOptions, kept.get("prompt_options", {}))
        generation = dict(kept.get("generation", {}))
        generation["stop"] = tuple(generation.get("stop", ()))
        kept["generation"] = _options(GenerationOptions, generation)
        for name in ("model", "engine", "device", "dtype", "quantize", "arithmetic", "reader"):
            if not isinstance(kept.get(name, ""), str):
                raise TypeError(name)
        for name in ("model_reason", "adapter"):
            if not isinstance(kept.get(name), str | None):
                raise TypeError(name)
        return Settings(**kept)
    except (TypeError, ValueError, AttributeError, SmolVideoError) as error:
        raise RecordError(f"the settings of the conversation are damaged: {error}") from error


def sampling_to_json(sampling: FrameSampling) -> dict[str, Any]:
    """Convert to JSON types; relative times are written as ``50%``."""
    content = asdict(sampling)
    for name in ("start_seconds", "end_seconds"):
        if isinstance(getattr(sampling, name), RelativeTime):
            content[name] = str(getattr(sampling, name))
    return content


def sampling_from_json(content: Mapping[str, Any]) -> FrameSampling:
    """Parse the output of ``sampling_to_json``. Raises ValueError or UsageError."""
    read = dict(content)
    for name in ("start_seconds", "end_seconds"):
        if isinstance(read.get(name), str):
            read[name] = parse_time(read[name])
    return _options(FrameSampling, read)


def _options(kind: type[Options], content: Mapping[str, Any]) -> Options:
    known = {option.name for option in fields(kind)}
    return kind(**{name: value for name, value in content.items() if name in known})


TurnStatus = Literal["answered", "stopped", "failed"]
"""answered: complete · stopped: cancelled by the user · failed: ended by an error."""


@dataclass(frozen=True)
class Attachment:
    """The frames of one source, which enter the context once.

    ``number`` is unique in its conversation; ``turn`` is the index of the first turn that was asked
    with it. ``window`` is the zoomed time range in seconds, None for the whole. ``subtitles`` is a
    formatted text.
    """

    number: int
    source: VideoSource
    batch: FrameBatch
    sampling: FrameSampling
    turn: int
    window: tuple[float, float] | None = None
    subtitles: str | None = None

    @property
    def is_video(self) -> bool:
        """Whether it has time stamps: a video, not an image or a folder of frames."""
        return self.batch.metadata.kind == "video"


def utc_now() -> str:
    """Return the UTC time in ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Turn:
    """One question with its answer or error.

    ``text`` is the answer, which may be partial; ``error`` and ``hint`` are set if it failed.
    ``model`` is the name of the model. ``notices`` are messages for the user.
    ``evidence`` are the frames that carry the answer, whose ``source`` is an attachment (from 0).
    """

    question: str
    text: str = ""
    outcome: TurnStatus = "answered"
    error: str | None = None
    hint: str | None = None
    usage: Usage | None = None
    model: str = ""
    notices: tuple[str, ...] = ()
    evidence: AnswerEvidence | None = None
    created: str = field(default_factory=utc_now)

    @property
    def is_in_history(self) -> bool:
        """Whether it enters the context of later questions: it has a text and did not fail."""
        return self.outcome != "failed" and bool(self.text.strip())


def attachment_label(attachment: Attachment, attachments: Sequence[Attachment]) -> str:
    r"""Return the label before an attachment's frames: ``Video 2:\n``, or nothing for a single one.

    An attachment that was the only one when it was first asked about stays without a label: adding
    one would invalidate the KV cache of everything after it.
    """
    earlier = [other for other in attachments if other.number < attachment.number]
    together = [other for other in attachments if other.turn == attachment.turn]
    if not earlier and len(together) == 1:
        return ""
    window = ""
    if attachment.window is not None:
        start, end = attachment.window
        window = f" from {format_timestamp(start)} to {format_timestamp(end)}"
    return f"{attachment_name(attachment, attachments)}{window}:\n"


def attachment_name(attachment: Attachment, attachments: Sequence[Attachment]) -> str:
    """Return ``Video 1`` or ``Image 2``; attachments of the same source share one name."""
    noun = _noun(attachment)
    sources: list[VideoSource] = []
    for other in attachments:
        if _noun(other) == noun and other.source not in sources:
            sources.append(other.source)
    return f"{noun} {sources.index(attachment.source) + 1}"


def _noun(attachment: Attachment) -> str:
    return "Image" if attachment.batch.metadata.kind == "image" else "Video"


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
