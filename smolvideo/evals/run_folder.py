"""A run on disk: resumable files, settings, items and answers, each synced before the next.

run.json is written last, so a folder that has one is complete; all files of a run are inside its
folder.

run.json        settings, benchmark, model with revision, versions
items.jsonl     the items as asked, so that reports need nothing else
answers.jsonl   one line per item and condition, synced as it is written; nothing in it depends on
                the clock, so a run that was killed and resumed has the same bytes
videos.jsonl    one line per clip: file, hash, times of the frames, seconds
frames/         a thumbnail strip per clip
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import smolvideo
from smolvideo.errors import RecordError, UsageError
from smolvideo.evals.item import LETTERS, EvalItem
from smolvideo.evals.protocol import extract, extractor_for
from smolvideo.evals.run_records import EvalAnswer, EvalVideo, Key, Read, RunInfo
from smolvideo.files import file_lock, make_folders, write_atomic
from smolvideo.json_types import check_types, parse_json
from smolvideo.records import (
    RecordWriter,
    json_line,
    read_records,
    write_text_atomic,
)
from smolvideo.sanitize import display_path
from smolvideo.text_input import read_regular

_LOCK = ".lock"
_UNFINISHED = re.compile(r"\..*\.part")


@dataclass(frozen=True)
class RunFiles:
    """``kind`` is the value of ``record`` in run.json, ``parts`` are the names next to it."""

    folder: Path
    kind: str
    parts: tuple[str, ...]

    @property
    def is_begun(self) -> bool:
        """Whether the folder has a run to resume."""
        return (self.folder / "run.json").exists()

    def begin(self, content: Mapping[str, Any], files: Mapping[str, str]) -> None:
        """Create the folder, the ``files`` with their texts, and run.json.

        Raises RecordError if the folder holds something else or cannot be written.
        """
        if self.folder.exists() and not self._is_as_good_as_empty():
            raise RecordError(
                f"{display_path(self.folder)} holds something else than a run",
                hint="name another folder with `--run DIR`",
            )
        try:
            make_folders(self.folder)
        except OSError as error:
            raise RecordError(
                f"cannot write {display_path(self.folder)}: {error.strerror}"
            ) from error
        for name, text in files.items():
            write_text_atomic(self.folder / name, text, overwrite=True)
        text = json_line({"record": self.kind} | dict(content), indent=2) + "\n"
        write_text_atomic(self.folder / "run.json", text)

    def content(self) -> dict[str, Any]:
        """Return the content of run.json without its kind.

        Raises RecordError if the folder is not a run, or if a part of it is a symbolic link;
        ValueError if the file is of another kind.
        """
        for name in ("run.json", *self.parts, _LOCK):
            if (self.folder / name).is_symlink():
                raise RecordError(
                    f"{display_path(self.folder / name)} is a link, and no part of a run"
                )
        try:
            content = parse_json(read_regular(self.folder / "run.json"))
        except OSError as error:
            raise RecordError(
                f"{display_path(self.folder)} is no run: {error.strerror or error}",
                hint="`smolvideo eval BENCHMARK … --run DIR` makes one",
            ) from error
        if not isinstance(content, dict) or content.pop("record", None) != self.kind:
            raise ValueError("another kind of file")
        return content

    def check_same(self, differences: Sequence[str]) -> None:
        """Raise UsageError if a resumed run has other settings."""
        if differences:
            raise UsageError(
                f"{display_path(self.folder)} holds a run with other settings ("
                f"{'; '.join(differences[:3])})",
                hint="name another folder with `--run DIR`, or ask as that run did",
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder for writing. Raises RecordError if another process has locked it."""
        try:
            with file_lock(self.folder / _LOCK, on_contention=None):
                yield
        except BlockingIOError as error:
            raise RecordError(f"another process works at {display_path(self.folder)}") from error

    def _is_as_good_as_empty(self) -> bool:
        """Whether the folder is empty but for files of a run that died before its run.json."""
        if not self.folder.is_dir():
            return False
        return all(
            not one.is_symlink() and (one.name in self.parts or _UNFINISHED.fullmatch(one.name))
            for one in self.folder.iterdir()
        )


__all__ = ["EvalAnswer", "EvalVideo", "Key", "RunFolder", "RunInfo", "clip_id", "group_by_clip"]

RUN_KIND = "smolvideo.eval/1"

_PARTS = ("items.jsonl", "answers.jsonl", "videos.jsonl", "frames")
_LOOK = re.compile("[0-9a-f]{20}")


class RunFolder:
    """The files of one run. ``open`` creates or resumes a run, ``read`` loads one."""

    def __init__(self, folder: Path, info: RunInfo, items: Sequence[EvalItem]) -> None:
        self.folder = folder
        self.info = info
        self.items = tuple(items)

    @classmethod
    def open(cls, folder: Path, info: RunInfo, items: Sequence[EvalItem]) -> "RunFolder":
        """Create a run, or open the existing one to resume it.

        Raises UsageError if the folder holds a run with other settings or questions, RecordError if
        it holds something else or cannot be written.
        """
        files = _files_of(folder)
        if files.is_begun:
            return cls._go_on(folder, info, items)
        files.begin(asdict(info), {"items.jsonl": _item_lines(items)})
        return cls(folder, info, items)

    @classmethod
    def _go_on(cls, folder: Path, info: RunInfo, items: Sequence[EvalItem]) -> "RunFolder":
        """Open an existing run with the current items, whose video names may be newer."""
        run = cls.read(folder)
        _files_of(folder).check_same(run.info.differences(info))
        if list(map(_as_asked, run.items)) != list(map(_as_asked, items)):
            raise UsageError(
                f"{display_path(folder)} holds a run that asked other questions",
                hint="name another folder with `--run DIR`",
            )
        if list(map(clip_id, run.items)) != list(map(clip_id, items)):
            write_text_atomic(folder / "items.jsonl", _item_lines(items), overwrite=True)
        return cls(folder, run.info, items)

    @classmethod
    def read(cls, folder: Path) -> "RunFolder":
        """Load a run. Raises RecordError if ``folder`` is not a run, or if a part of it is a
        symbolic link: all files of a run are inside its folder.
        """
        try:
            content = _files_of(folder).content()
            info = RunInfo.from_content(content)
            lines = read_regular(folder / "items.jsonl").decode("utf-8").split("\n")
            items = [_item_from(parse_json(line)) for line in lines if line]
            if len({item.id for item in items}) < len(items):
                raise ValueError("two items of one id")
        except OSError as error:
            raise RecordError(
                f"{display_path(folder)} is no run: {error.strerror or error}",
                hint="`smolvideo eval BENCHMARK … --run DIR` makes one",
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RecordError(f"{display_path(folder)} holds no run that can be read") from error
        return cls(folder, info, items)

    @property
    def answers_path(self) -> Path:
        return self.folder / "answers.jsonl"

    @property
    def videos_path(self) -> Path:
        return self.folder / "videos.jsonl"

    def answers(self) -> dict[Key, EvalAnswer]:
        """Return the last answer for each key, in the order of the run.

        Raises RecordError for an answer that contradicts its item or itself.
        """
        if not self.answers_path.exists():
            return {}
        items = {item.id: item for item in self.items}
        settings = self.info.settings
        by_choice = settings["scoring"] != "generate" or settings["extractor"] == "lenient"

        def check(answer: EvalAnswer) -> None:
            if (item := items.get(answer.id)) is not None:
                answer.check_of(item, self._read_again(answer, item), by_choice=by_choice)

        found = {
            answer.key: answer
            for answer in read_records(self.answers_path, EvalAnswer, check=check)
        }
        return {key: found[key] for key in self.expected_keys() if key in found}

    def _read_again(self, answer: EvalAnswer, item: EvalItem) -> Read | None:
        """Extract the choice from a text again; None if the record has another version, whose rules
        may have been different.
        """
        settings = self.info.settings
        same = self.info.versions.get("smolvideo") == smolvideo.__version__
        if answer.text is None or settings["scoring"] != "generate" or not same:
            return None
        order = answer.order or tuple(range(len(item.options)))
        shown = [item.options[place] for place in order]
        extractor = extractor_for(settings["extractor"], self.info.benchmark["name"])
        read = extract(extractor, answer.text, shown, item.answer_in(order))
        return None if read.choice is None else order[read.choice], read.correct

    def videos(self) -> dict[str, EvalVideo]:
        """Return the last record of each clip, by ``clip_id``. Raises RecordError."""
        if not self.videos_path.exists():
            return {}
        return {video.look: video for video in read_records(self.videos_path, EvalVideo)}

    def expected_keys(self) -> Iterator[Key]:
        """Yield all keys of the run in its order: clip by clip, condition by condition."""
        conditions = ("main", *self.info.settings["controls"])
        for look in group_by_clip(self.items):
            for condition in conditions:
                for item in look:
                    yield condition, item.id

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder for writing. Raises RecordError if another process has locked it."""
        with _files_of(self.folder).held():
            yield

    def answer_writer(self) -> RecordWriter:
        """Return a writer that appends answers. Raises RecordError."""
        return RecordWriter(self.answers_path, EvalAnswer)

    def video_writer(self) -> RecordWriter:
        """Return a writer that appends clip records. Raises RecordError."""
        return RecordWriter(self.videos_path, EvalVideo)

    def rewrite_in_order(self) -> None:
        """Rewrite the answers as an uninterrupted run would have: one line per key, in order."""
        if not self.answers_path.exists():
            return
        text = "".join(answer.to_json() + "\n" for answer in self.answers().values())
        if read_regular(self.answers_path) != text.encode("utf-8"):
            write_text_atomic(self.answers_path, text, overwrite=True)

    def replace_records(
        self, answers: Mapping[Key, EvalAnswer], videos: Mapping[str, EvalVideo]
    ) -> None:
        """Replace all answers and clip records, in the order of the run. Raises RecordError."""
        known = [answers[key] for key in self.expected_keys() if key in answers]
        clips = (clip_id(items[0]) for items in group_by_clip(self.items))
        seen = [videos[clip] for clip in clips if clip in videos]
        for path, records in ((self.answers_path, known), (self.videos_path, seen)):
            text = "".join(record.to_json() + "\n" for record in records)
            write_text_atomic(path, text, overwrite=True)

    def save_thumbnails(self, name: str, content: bytes) -> None:
        """Write a thumbnail strip atomically. Raises RecordError."""
        path = self.folder / "frames" / name
        try:
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, content, sync=False)
        except OSError as error:
            raise RecordError(f"cannot write {display_path(path)}: {error.strerror}") from error

    def strip(self, look: str) -> Path | None:
        """Return the path of a clip's thumbnail strip; None without one inside the folder."""
        path = self.folder / "frames" / f"{look}.jpg"
        is_own = _LOOK.fullmatch(look) is not None and not path.is_symlink()
        return path if is_own and path.is_file() else None


def _files_of(folder: Path) -> RunFiles:
    return RunFiles(folder, RUN_KIND, _PARTS)


def group_by_clip(items: Sequence[EvalItem]) -> list[list[EvalItem]]:
    """Group items by part of a video, in the order of each group's first item."""
    groups: dict[tuple[Any, ...], list[EvalItem]] = {}
    for item in items:
        part = item.video_names, item.start_seconds, item.end_seconds
        groups.setdefault(part, []).append(item)
    return list(groups.values())


def clip_id(item: EvalItem) -> str:
    """Return an id for the part of the video that an item is about, usable as a file name."""
    video = "\1".join(item.video_names)
    named = f"{video}\0{item.start_seconds}\0{item.end_seconds}"
    return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def _item_lines(items: Sequence[EvalItem]) -> str:
    """Serialise the items; ``foreign_folders`` only serve to find videos and are left out."""
    kept = (replace(item, foreign_folders=()) for item in items)
    return "".join(json_line(asdict(item)) + "\n" for item in kept)


def _as_asked(item: EvalItem) -> EvalItem:
    """An item without the names of its files: they may change between versions, and the answers do
    not depend on them.
    """
    return replace(item, video_names=(), subtitle_names=(), cut_names=(), foreign_folders=())


def _item_from(content: dict[str, Any]) -> EvalItem:
    """Parse the item of a line. Raises ValueError or TypeError if it is not an item."""
    check_types(EvalItem, content)
    for name in ("video_names", "options", "subtitle_names", "cut_names", "foreign_folders"):
        content[name] = tuple(content.get(name, ()))
    item = EvalItem(**content)
    if not item.video_names or not 2 <= len(item.options) <= len(LETTERS):
        raise ValueError("an item without a video or options")
    if item.answer_index is not None and not 0 <= item.answer_index < len(item.options):
        raise ValueError("no option is the right one")
    return item
