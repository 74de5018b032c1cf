"""What is kept of a run, line by line, and how it is read back from files that may be another's."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from smolvideo.evals.item import BenchmarkName, EvalItem
from smolvideo.evals.protocol.extract import ExtractorName
from smolvideo.evals.settings import Condition, Control, Scoring, SubtitleChoice
from smolvideo.json_types import Count, Moment, Seconds, check_types
from smolvideo.records import json_line, parse_known_fields
from smolvideo.sanitize import display_name

Key = tuple[str, str]
"""Condition and id: what an answer is known by."""

ErrorKind = Literal["missing", "video", "prompt", "model"]

NO_CHOICE = ("refusal", "unparsable", "empty")
"""Answers that name no option: wrong, and told apart."""

Read = tuple[int | None, bool]
"""``choice`` and ``correct`` as an extractor reads them from a text."""


@dataclass(frozen=True)
class EvalAnswer:
    """One item in one condition: the answer or the error in place of it.

    ``choice`` is the place of the option taken, in the item's own order, None where the text means
    none. ``how`` says by what it was taken: ``letter``, ``text``, ``score``, or why there is none:
    ``refusal``, ``unparsable``, ``empty``. ``scores`` are log-probabilities in the item's own
    order. ``order`` is how the options were shown where they were shuffled. ``subtitles`` is text
    from a file beside the videos that was part of the question, ``subtitles_sha256`` the hash of
    that file. ``stop_reason`` and ``notices`` are those of a generated ``Answer``. ``file`` is the
    path of the video inside the folder of videos, ``sha256`` the hash of what was seen.
    ``error_kind`` is ``missing`` (no video), ``video`` (one
    that cannot be read), ``prompt`` or ``model``.
    """

    id: str
    condition: Condition
    video: str
    text: str | None = None
    choice: Count | None = None
    correct: bool = False
    how: str | None = None
    scores: tuple[float, ...] | None = None
    order: tuple[Count, ...] | None = None
    stop_reason: str | None = None
    notices: tuple[str, ...] | None = None
    frames: Count = 0
    prompt_tokens: Count = 0
    subtitles: str | None = None
    subtitles_sha256: str | None = None
    file: str | None = None
    sha256: str | None = None
    error: str | None = None
    error_kind: ErrorKind | None = None

    SCHEMA: ClassVar[str] = "smolvideo.eval-answer/1"

    @property
    def key(self) -> Key:
        return self.condition, self.id

    @property
    def failed(self) -> bool:
        """Whether there is no answer, which a later run tries again."""
        return self.error is not None

    @property
    def cluster(self) -> str:
        """The file that was really seen, whatever the item calls it; its name where none was."""
        return self.file or self.video

    def to_json(self) -> str:
        """One line, keys in the order of the fields, without those that are not set."""
        content = {name: value for name, value in asdict(self).items() if value is not None}
        return json_line({"record": self.SCHEMA} | content)

    @classmethod
    def from_json(cls, line: str | bytes) -> "EvalAnswer":
        """The answer of one line; ValueError if it is none."""
        content = parse_known_fields(cls, line)
        try:
            for name in ("scores", "order", "notices"):
                if content.get(name) is not None:
                    content[name] = tuple(content[name])
            answer = cls(**content)
            answer._check()
            return answer
        except TypeError as error:
            raise ValueError(f"an incomplete record: {error}") from error

    def _check(self) -> None:
        """Raises ValueError where values contradict each other."""
        if (self.text is None) == (self.error is None):
            raise ValueError("an answer has either a text or an error")
        if self.failed and (self.correct or self.choice is not None):
            raise ValueError("an error is no answer, right or wrong")
        if self.choice is not None and self.how in NO_CHOICE:
            raise ValueError(f"`{self.how}` is no choice")
        if self.order is not None and sorted(self.order) != list(range(len(self.order))):
            raise ValueError("`order` is none of the options")
        for one in (self.scores, self.order):
            if one is not None and self.choice is not None and self.choice >= len(one):
                raise ValueError(f"there is no option {self.choice}")

    def check_of(self, item: EvalItem, read: Read | None, *, by_choice: bool) -> None:
        """See that this can be an answer to ``item``, of which ``read`` is what its text says.

        ``by_choice``: an answer is right where its choice is. Raises ValueError where the answer
        contradicts the item, or itself.
        """
        count = len(item.options)
        if self.choice is not None and self.choice >= count:
            raise ValueError(f"`{display_name(item.id)}` has no option {self.choice}")
        for name, one in (("scores", self.scores), ("order", self.order)):
            if one is not None and len(one) != count:
                raise ValueError(f"`{name}` are not those of {count} options")
        if self.failed:
            return
        is_right = self.choice == item.answer_index
        if self.scores is not None and self.choice != self.scores.index(max(self.scores)):
            raise ValueError("`choice` is not the one with the highest of the `scores`")
        if (
            self.scores is not None
            and self.text != item.options[self.scores.index(max(self.scores))]
        ):
            raise ValueError("`text` is not the option of `choice`")
        if read is not None:
            if (self.choice, self.correct) != read:
                raise ValueError("`choice` and `correct` are not what the `text` says")
        elif by_choice and self.correct != is_right:
            right = "right" if is_right else "wrong"
            raise ValueError(f"`correct` contradicts `choice`, which is the {right} one")


@dataclass(frozen=True)
class EvalVideo:
    """What was seen of one part of one video.

    ``look`` is its ``look_id``; ``file`` is the path of the video inside the folder of videos;
    ``stamp`` is the ``file_state`` of the file whose hash is ``sha256``; ``strip`` is its picture
    under ``frames/``; ``drawn`` is False for a video that does not say of itself that it shows the
    drawn world.
    """

    look: str
    video: str
    file: str | None = None
    sha256: str | None = None
    stamp: tuple[int, ...] = ()
    frame_times: tuple[Moment, ...] = ()
    geometry: str | None = None
    layout: str | None = None
    strip: str | None = None
    drawn: bool = True
    notices: tuple[str, ...] = ()
    seconds: dict[str, Seconds] = field(default_factory=dict)

    SCHEMA: ClassVar[str] = "smolvideo.eval-video/1"

    def to_json(self) -> str:
        """One line."""
        return json_line({"record": self.SCHEMA} | asdict(self))

    @classmethod
    def from_json(cls, line: str | bytes) -> "EvalVideo":
        """The video of one line; ValueError if it is none."""
        content = parse_known_fields(cls, line)
        try:
            for name in ("stamp", "frame_times", "notices"):
                content[name] = tuple(content.get(name, ()))
            return cls(**content)
        except TypeError as error:
            raise ValueError(f"an incomplete record: {error}") from error


@dataclass(frozen=True)
class RunInfo:
    """run.json: what the answers depend on, and where they were made.

    ``benchmark`` has ``name``, ``source`` and ``sha256``; ``model`` has ``name``, ``revision``,
    ``weights`` (their hash where there is no revision), ``engine``, ``device``, ``dtype``,
    ``quantise``.
    """

    benchmark: dict[str, Any]
    settings: dict[str, Any]
    model: dict[str, Any]
    versions: dict[str, str]
    notices: tuple[str, ...] = ()
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> "RunInfo":
        """What run.json holds. Raises ValueError, TypeError or KeyError for what is none."""
        check_types(cls, content)
        info = replace(cls(**content), notices=tuple(content.get("notices", ())))
        for part, kind in (("benchmark", _Benchmark), ("model", _Model), ("settings", _Settings)):
            check_types(kind, getattr(info, part))
        datetime.fromisoformat(info.created)  # it becomes the name of a file
        return info

    def differences(self, other: "RunInfo", joint: str = ", now ") -> list[str]:
        """What may make answers of the two differ, in words: ``seed: 0, now 3``."""
        mine, others = self._flat(), other._flat()
        names = [name for name in {**mine, **others} if mine.get(name) != others.get(name)]
        return [f"{name}: {mine.get(name)}{joint}{others.get(name)}" for name in names]

    def _flat(self) -> dict[str, Any]:
        # Runs from before there was a choice were asked of weights as they are.
        model = {"quantise": "none", **self.model}
        # Runs from before every rule had a name of its own called CinePile's `official`.
        settings = dict(self.settings)
        if settings.get("extractor") == "official":
            settings["extractor"] = "cinepile"
        flat: dict[str, Any] = {"benchmark": self.benchmark["sha256"][:12], **model}
        for name, value in settings.items():
            if isinstance(value, dict):
                flat.update({f"{name}.{inner}": one for inner, one in value.items()})
            else:
                flat[name] = value
        return flat


@dataclass(frozen=True)
class _Benchmark:
    """The least that run.json says of a benchmark."""

    name: BenchmarkName
    source: str
    sha256: str
    items: Count


@dataclass(frozen=True)
class _Model:
    """The least that run.json says of a model."""

    name: str
    engine: str
    device: str
    dtype: str
    revision: str | None = None
    weights: str | None = None
    quantise: str = "none"


@dataclass(frozen=True)
class _Settings:
    """The settings that reports read."""

    prompt: str
    scoring: Scoring
    extractor: ExtractorName
    subtitles: SubtitleChoice
    controls: tuple[Control, ...]
    seed: int
    sampling: Mapping[str, Any]
    generation: Mapping[str, Any]
    sample: Count | None = None
    limit: Count | None = None
