"""Records of a benchmark run, and the validation of untrusted ones."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from smolvideo.evals.datasets.registry import BenchmarkName
from smolvideo.evals.item import EvalItem
from smolvideo.evals.protocol import ExtractorName
from smolvideo.evals.settings import Condition, Control, Scoring, SubtitleChoice
from smolvideo.json_types import Count, Moment, Seconds, check_types, upgrade_engine
from smolvideo.record_parts import RecordHashes
from smolvideo.records import json_line, parse_known_fields
from smolvideo.sanitize import display_name

Key = tuple[str, str]
"""Condition and item id: the key of an answer."""

ErrorKind = Literal["missing", "video", "prompt", "model"]

NO_CHOICE = ("refusal", "unparsable", "empty")
"""Kinds of answers without a choice: wrong, and counted separately."""

Read = tuple[int | None, bool]
"""``choice`` and ``correct`` as extracted from a text."""


@dataclass(frozen=True)
class EvalAnswer:
    """One item in one condition: the answer, or the error instead of it.

    ``choice`` is the index of the chosen option, in the item's own order, None without a choice.
    ``how`` is what identified it: ``letter``, ``text``, ``score``, or why there is none:
    ``refusal``, ``unparsable``, ``empty``. ``scores`` are log-probabilities in the item's own
    order. ``order`` is the display order of shuffled options. ``subtitles`` is text of a file next
    to the videos that was part of the question, ``subtitles_sha256`` the hash of that file.
    ``stop_reason`` and ``notices`` are from the generated ``Answer``. ``file`` is the path of the
    video inside the folder of videos, ``sha256`` the hash of its content. ``hashes`` are
    what a replay compares, with one for all images. ``error_kind`` is ``missing`` (no
    video), ``video`` (an unreadable one), ``prompt`` or ``model``.
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
    hashes: RecordHashes | None = None
    error: str | None = None
    error_kind: ErrorKind | None = None

    SCHEMA: ClassVar[str] = "smolvideo.eval-answer/1"

    @property
    def key(self) -> Key:
        return self.condition, self.id

    @property
    def failed(self) -> bool:
        """Whether it is an error, which a later run tries again."""
        return self.error is not None

    @property
    def cluster(self) -> str:
        """Cluster for statistics: the file that was read, or the video's name without one."""
        return self.file or self.video

    def to_json(self) -> str:
        """Return one line, keys in the order of the fields, without unset ones."""
        content = {name: value for name, value in asdict(self).items() if value is not None}
        return json_line({"record": self.SCHEMA} | content)

    @classmethod
    def from_json(cls, line: str | bytes) -> "EvalAnswer":
        """Parse one line; raises ValueError if it is not an answer."""
        content = parse_known_fields(cls, line)
        try:
            for name in ("scores", "order", "notices"):
                if content.get(name) is not None:
                    content[name] = tuple(content[name])
            content["hashes"] = RecordHashes.from_json(content.get("hashes"))
            answer = cls(**content)
            answer._check()
            return answer
        except TypeError as error:
            raise ValueError(f"an incomplete record: {error}") from error

    def _check(self) -> None:
        """Raise ValueError if fields contradict each other."""
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
        """Check that this can be an answer to ``item``; ``read`` is the choice in its text.

        ``by_choice``: an answer is right exactly if its choice is. Raises ValueError if the answer
        contradicts the item or itself.
        """
        count = len(item.options)
        if self.choice is not None and self.choice >= count:
            raise ValueError(f"`{display_name(item.id)}` has no option {self.choice}")
        for name, one in (("scores", self.scores), ("order", self.order)):
            if one is not None and len(one) != count:
                raise ValueError(f"`{name}` are not those of {count} options")
        # The fields of an answer that is not an error.
        if self.failed:
            return
        is_right = self.choice is not None and self.choice == item.answer_index
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
    """One clip, that is one part of one video, as it was decoded.

    ``look`` is its ``clip_id``; ``file`` is the path of the video inside the folder of videos;
    ``stamp`` is the ``file_state`` of the file whose hash is ``sha256``; ``strip`` is its image
    in ``frames/``; ``drawn`` is False if the video's metadata does not mark it as synthetic.
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

    SCHEMA: ClassVar[str] = "smolvideo.eval-video/2"

    def to_json(self) -> str:
        """Return one line."""
        return json_line({"record": self.SCHEMA} | asdict(self))

    @classmethod
    def from_json(cls, line: str | bytes) -> "EvalVideo":
        """Parse one line; raises ValueError if it is not a clip record."""
        content = parse_known_fields(cls, line)
        try:
            for name in ("stamp", "frame_times", "notices"):
                content[name] = tuple(content.get(name, ()))
            return cls(**content)
        except TypeError as error:
            raise ValueError(f"an incomplete record: {error}") from error


MAX_SHARDS = 10_000


@dataclass(frozen=True)
class RunShard:
    """Shard ``number``, from 1, of ``count``.

    ``positions`` are those of its items, from 0, among the ``selected`` items of all shards.
    """

    number: Count
    count: Count
    selected: Count
    positions: tuple[Count, ...]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "RunShard":
        """Parse the entry of run.json. Raises ValueError for numbers that contradict each other."""
        shard = cls(**{**content, "positions": tuple(content["positions"])})
        if not 1 <= shard.number <= shard.count <= MAX_SHARDS:
            raise ValueError(f"there is no shard {shard}")
        positions = set(shard.positions)
        if len(positions) != len(shard.positions) or max(positions, default=0) >= shard.selected:
            raise ValueError("`positions` are not those of a shard's items")
        return shard


@dataclass(frozen=True)
class RunInfo:
    """Content of run.json: all that the answers depend on, and the versions.

    ``benchmark`` has ``name``, ``source``, ``sha256`` and ``items``; ``model`` has ``name``,
    ``revision``, ``weights`` (their hash without a revision), ``adapter`` (its hash), ``engine``,
    ``device``, ``dtype``, ``quantize``, ``arithmetic``. ``model_reason`` is why ``auto`` chose the
    model, None where it was named. ``shard`` is None for a whole run; see ``shards.py``.
    """

    benchmark: dict[str, Any]
    settings: dict[str, Any]
    model: dict[str, Any]
    versions: dict[str, str]
    notices: tuple[str, ...] = ()
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    model_reason: str | None = None
    shard: RunShard | None = None

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> "RunInfo":
        """Parse run.json. Raises ValueError, TypeError or KeyError if it is invalid."""
        if isinstance(content.get("model"), dict):
            content = {**content, "model": upgrade_engine(content["model"])}
        check_types(cls, content)
        info = replace(cls(**content), notices=tuple(content.get("notices", ())))
        for part, kind in (("benchmark", _Benchmark), ("model", _Model), ("settings", _Settings)):
            check_types(kind, getattr(info, part))
        if info.shard is not None:
            info = replace(info, shard=RunShard.from_content(content["shard"]))
        datetime.fromisoformat(info.created)  # validated because it becomes part of a file name
        return info

    def differences(self, other: "RunInfo", joint: str = ", now ") -> list[str]:
        """List the differences that may change answers, in words: ``seed: 0, now 3``."""
        mine, others = self._flat(), other._flat()
        names = [name for name in {**mine, **others} if mine.get(name) != others.get(name)]
        return [f"{name}: {mine.get(name)}{joint}{others.get(name)}" for name in names]

    def _flat(self) -> dict[str, Any]:
        # Older runs have no `quantize` and `arithmetic`: nothing was quantized.
        model = {"quantize": "none", "arithmetic": "float", **self.model}
        # Older runs call CinePile's rule `official`, the newer ones `cinepile`.
        settings = dict(self.settings)
        if settings.get("extractor") == "official":
            settings["extractor"] = "cinepile"
        flat: dict[str, Any] = {"benchmark": self.benchmark["sha256"][:12], **model}
        flat["shard"] = self.shard and str(self.shard)
        for name, value in settings.items():
            if isinstance(value, dict):
                flat.update({f"{name}.{inner}": one for inner, one in value.items()})
            else:
                flat[name] = value
        return flat


@dataclass(frozen=True)
class _Benchmark:
    """Required fields of ``benchmark`` in run.json."""

    name: BenchmarkName
    source: str
    sha256: str
    items: Count


@dataclass(frozen=True)
class _Model:
    """Required fields of ``model`` in run.json."""

    name: str
    engine: str
    device: str
    dtype: str
    revision: str | None = None
    weights: str | None = None
    adapter: str | None = None
    quantize: str = "none"
    arithmetic: str = "float"


@dataclass(frozen=True)
class _Settings:
    """Fields of ``settings`` that reports read."""

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
