"""A run on disk: what was asked, of whom, and every answer, each on disk before the next is asked.

run.json        settings, benchmark, model with revision, versions
items.jsonl     the items as they were asked, so that reports need nothing else
answers.jsonl   one line per item and condition, synced as it is made; nothing in it depends on
                the clock, so a run that was killed and resumed holds the same bytes
videos.jsonl    one line per video: file, hash, times of the frames, seconds
frames/         a strip of small frames per video
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from smolvideo.errors import RecordError, UsageError
from smolvideo.evals.item import EvalItem
from smolvideo.evals.settings import Condition
from smolvideo.locking import locked
from smolvideo.records import (
    RecordWriter,
    json_line,
    known_content,
    read_records,
    write_output,
)
from smolvideo.safe_text import show_path

RUN_KIND = "smolvideo.eval/1"

Key = tuple[str, str]
"""Condition and id: what an answer is known by."""


@dataclass(frozen=True)
class EvalAnswer:
    """One item in one condition: the answer or the error in place of it.

    ``choice`` is the place of the option taken, in the item's own order, None where the text means
    none. ``how`` says by what it was taken: ``letter``, ``text``, ``score``, or why there is none:
    ``refusal``, ``unparsable``, ``empty``. ``scores`` are log-probabilities in the item's own
    order. ``order`` is how the options were shown where they were shuffled. ``file`` is the path
    of the video inside the folder of videos, ``sha256`` the hash of what was seen. ``error_kind``
    is ``missing`` (no video), ``video`` (one that cannot be read), ``prompt`` or ``model``.
    """

    id: str
    condition: Condition
    video: str
    text: str | None = None
    choice: int | None = None
    correct: bool = False
    how: str | None = None
    scores: tuple[float, ...] | None = None
    order: tuple[int, ...] | None = None
    frames: int = 0
    prompt_tokens: int = 0
    file: str | None = None
    sha256: str | None = None
    error: str | None = None
    error_kind: str | None = None

    KIND: ClassVar[str] = "smolvideo.eval-answer/1"

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
        return json_line({"record": self.KIND} | content)

    @classmethod
    def from_json(cls, line: str | bytes) -> "EvalAnswer":
        """The answer of one line; ValueError if it is none."""
        content = known_content(cls, line)
        try:
            for name in ("scores", "order"):
                if content.get(name) is not None:
                    content[name] = tuple(content[name])
            return cls(**content)
        except TypeError as error:
            raise ValueError(f"an incomplete record: {error}") from error


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
    frame_times: tuple[float, ...] = ()
    geometry: str | None = None
    layout: str | None = None
    strip: str | None = None
    drawn: bool = True
    notices: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    KIND: ClassVar[str] = "smolvideo.eval-video/1"

    def to_json(self) -> str:
        """One line."""
        return json_line({"record": self.KIND} | asdict(self))

    @classmethod
    def from_json(cls, line: str | bytes) -> "EvalVideo":
        """The video of one line; ValueError if it is none."""
        content = known_content(cls, line)
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

    def differences(self, other: "RunInfo", joint: str = ", now ") -> list[str]:
        """What may make answers of the two differ, in words: ``seed: 0, now 3``."""
        mine, others = self._flat(), other._flat()
        names = [name for name in {**mine, **others} if mine.get(name) != others.get(name)]
        return [f"{name}: {mine.get(name)}{joint}{others.get(name)}" for name in names]

    def _flat(self) -> dict[str, Any]:
        # Runs from before there was a choice were asked of weights as they are.
        model = {"quantise": "none", **self.model}
        flat: dict[str, Any] = {"benchmark": self.benchmark["sha256"][:12], **model}
        for name, value in self.settings.items():
            if isinstance(value, dict):
                flat.update({f"{name}.{inner}": one for inner, one in value.items()})
            else:
                flat[name] = value
        return flat


class RunFolder:
    """The files of one run. ``open_for_run`` makes or continues one, ``read`` reads one."""

    def __init__(self, folder: Path, info: RunInfo, items: Sequence[EvalItem]) -> None:
        self.folder = folder
        self.info = info
        self.items = tuple(items)

    @classmethod
    def open_for_run(cls, folder: Path, info: RunInfo, items: Sequence[EvalItem]) -> "RunFolder":
        """A new run, or the one that was there, to go on with.

        Raises UsageError where the folder holds a run that asked otherwise, RecordError where it
        holds something else or cannot be written.
        """
        if (folder / "run.json").exists():
            run = cls.read(folder)
            if differences := run.info.differences(info):
                raise UsageError(
                    f"{show_path(folder)} holds a run with other settings ("
                    f"{'; '.join(differences[:3])})",
                    hint="name another folder with `--run DIR`, or ask as that run did",
                )
            return run
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RecordError(
                f"{show_path(folder)} holds something else than a run",
                hint="name another folder with `--run DIR`",
            )
        try:
            (folder / "frames").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordError(f"cannot write {show_path(folder)}: {error.strerror}") from error
        lines = (json_line(asdict(item)) + "\n" for item in items)
        write_output(folder / "items.jsonl", "".join(lines), overwrite=True)
        content = {"record": RUN_KIND} | asdict(info)
        text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
        # Last: a folder with a run.json is a whole run.
        write_output(folder / "run.json", text)
        return cls(folder, info, items)

    @classmethod
    def read(cls, folder: Path) -> "RunFolder":
        """Raises RecordError where ``folder`` is no run."""
        path = folder / "run.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("record", None) != RUN_KIND:
                raise ValueError("another kind of file")
            info = replace(RunInfo(**content), notices=tuple(content.get("notices", ())))
            lines = (folder / "items.jsonl").read_text(encoding="utf-8").split("\n")
            items = [_item_from(json.loads(line)) for line in lines if line]
        except OSError as error:
            raise RecordError(
                f"{show_path(folder)} is no run: {error.strerror or error}",
                hint="`smolvideo eval BENCHMARK … --run DIR` makes one",
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RecordError(f"{show_path(folder)} holds no run that can be read") from error
        return cls(folder, info, items)

    @property
    def answers_path(self) -> Path:
        return self.folder / "answers.jsonl"

    @property
    def videos_path(self) -> Path:
        return self.folder / "videos.jsonl"

    def answers(self) -> dict[Key, EvalAnswer]:
        """The last answer for each key, in the order of the run. Raises RecordError."""
        if not self.answers_path.exists():
            return {}
        found = {answer.key: answer for answer in read_records(self.answers_path, EvalAnswer)}
        return {key: found[key] for key in self.wanted_keys() if key in found}

    def videos(self) -> dict[str, EvalVideo]:
        """What was seen last, by ``look_id``. Raises RecordError."""
        if not self.videos_path.exists():
            return {}
        return {video.look: video for video in read_records(self.videos_path, EvalVideo)}

    def wanted_keys(self) -> Iterator[Key]:
        """All that the run asks, in its order: look by look, condition by condition."""
        conditions = ("main", *self.info.settings["controls"])
        for look in looks(self.items):
            for condition in conditions:
                for item in look:
                    yield condition, item.id

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else writes into the folder meanwhile. Raises RecordError where somebody does."""
        try:
            with locked(self.folder / ".lock", wait=None):
                yield
        except BlockingIOError as error:
            raise RecordError(f"another process works at {show_path(self.folder)}") from error

    def answer_writer(self) -> RecordWriter:
        """Appends answers. Raises RecordError."""
        return RecordWriter(self.answers_path, EvalAnswer)

    def video_writer(self) -> RecordWriter:
        """Appends videos. Raises RecordError."""
        return RecordWriter(self.videos_path, EvalVideo)

    def settle(self) -> None:
        """One line per key, in the order of the run: what an undisturbed run would have written."""
        if not self.answers_path.exists():
            return
        text = "".join(answer.to_json() + "\n" for answer in self.answers().values())
        if self.answers_path.read_bytes() != text.encode("utf-8"):
            write_output(self.answers_path, text, overwrite=True)

    def save_strip(self, name: str, content: bytes) -> None:
        """A picture of the frames, whole or not at all. Raises RecordError."""
        path = self.folder / "frames" / name
        beside = path.with_name(f".{name}.part")
        try:
            path.parent.mkdir(exist_ok=True)
            beside.write_bytes(content)
            os.replace(beside, path)
        except OSError as error:
            raise RecordError(f"cannot write {show_path(path)}: {error.strerror}") from error


def looks(items: Sequence[EvalItem]) -> list[list[EvalItem]]:
    """The items that share the same part of the same video, in the order of their first ones."""
    groups: dict[tuple[Any, ...], list[EvalItem]] = {}
    for item in items:
        part = item.video_names, item.start_seconds, item.end_seconds
        groups.setdefault(part, []).append(item)
    return list(groups.values())


def look_id(item: EvalItem) -> str:
    """A name for the part of the video that an item is about, fit for a file."""
    video = "\1".join(item.video_names)
    named = f"{video}\0{item.start_seconds}\0{item.end_seconds}"
    return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def _item_from(content: dict[str, Any]) -> EvalItem:
    for name in ("video_names", "options", "subtitle_names"):
        content[name] = tuple(content[name])
    return EvalItem(**content)
