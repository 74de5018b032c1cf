"""Records of summaries, and their append-only log, locked by one process at a time.

Every record is appended and synced before its outputs are written, so each output on disk has a
record, and an item without a record is still to be done. Memory holds only an index of file
offsets, which keeps a run over a hundred thousand videos small.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from smolvideo.answer import AnswerCheck
from smolvideo.closing import ClosedOnExit
from smolvideo.errors import RecordError
from smolvideo.file_names import is_output_name, is_output_of, normal_form
from smolvideo.files import file_lock, make_folders
from smolvideo.json_types import Count, Moment, Seconds, Within
from smolvideo.record_parts import RecordHashes, SourceRecord, from_json
from smolvideo.records import (
    MAX_LINE_BYTES,
    RecordWriter,
    broken_line,
    json_line,
    parse_known_fields,
    write_text_atomic,
)
from smolvideo.sanitize import display_name, display_path
from smolvideo.text_input import open_regular

ExitCode = Annotated[int, Within(0, 255)]
Stamp = Annotated[int, Within(-(2**63), 2**63 - 1)]
"""Size in bytes, or nanoseconds since 1970 (negative times exist on some file systems)."""


@dataclass(frozen=True)
class Note:
    """Answer about one window, from ``start_seconds`` to ``end_seconds`` of the video.

    ``at_shot_change`` says whether the window begins at a shot change; otherwise it begins where
    the window before it reached its planned length. ``frame_times`` are the times of its frames.
    """

    start_seconds: Seconds
    end_seconds: Seconds
    text: str
    at_shot_change: bool = False
    frame_times: tuple[Moment, ...] = ()


@dataclass(frozen=True)
class Chapter:
    """A section of the video; its title is one short line."""

    start_seconds: Seconds
    end_seconds: Seconds
    title: str
    text: str


@dataclass(frozen=True)
class SummaryRecord:
    """One video and its summary or error: either ``text`` or ``error``, never both.

    ``path``, the absolute path or the URL, is the key of the video. ``stamp`` is the size, mtime
    and ctime (nanoseconds) of the file whose content is ``source.sha256``. ``window_seconds`` is
    None where the whole video was one prompt. ``same_as`` is the path of the video with the same
    content from which the summary was copied. ``output`` is the path of the output files without
    suffixes. ``check`` is the blind check, ``hashes`` what a replay compares.
    """

    path: str
    source: SourceRecord
    style: str
    text: str | None = None
    error: str | None = None
    hint: str | None = None
    exit_code: ExitCode | None = None
    duration_seconds: Seconds | None = None
    window_seconds: Seconds | None = None
    chapters: tuple[Chapter, ...] = ()
    notes: tuple[Note, ...] = ()
    same_as: str | None = None
    output: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    settings_key: str = ""
    stamp: tuple[Stamp, ...] = ()
    model: str | None = None
    model_reason: str | None = None
    revision: str | None = None
    adapter: str | None = None
    engine: str | None = None
    device: str | None = None
    dtype: str | None = None
    quantize: str | None = None
    arithmetic: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, Count] = field(default_factory=dict)
    frames: Count = 0
    seconds: Mapping[str, Seconds] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    check: AnswerCheck | None = None
    hashes: RecordHashes | None = None
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    SCHEMA: ClassVar[str] = "smolvideo.summary/2"

    def __post_init__(self) -> None:
        if (self.text is None) == (self.error is None):
            raise ValueError("a record has either a text or an error")

    def content(self) -> dict[str, Any]:
        """The record as JSON types, keys in the order of the fields."""
        return {"record": self.SCHEMA} | asdict(self)

    def to_json(self) -> str:
        """One line without its line break."""
        return json_line(self.content())

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Parse one line. Unknown keys (of later versions) are ignored. Raises ValueError."""
        content = parse_known_fields(cls, line)
        try:
            content["source"] = from_json(content["source"])
            content["chapters"] = tuple(Chapter(**item) for item in content.get("chapters", ()))
            content["notes"] = tuple(_note_from(item) for item in content.get("notes", ()))
            content["hashes"] = RecordHashes.from_json(content.get("hashes"))
            content["check"] = AnswerCheck.from_json(content.get("check"))
            for name in ("stamp", "notices"):
                content[name] = tuple(content.get(name, ()))
            record = cls(**content)
            check_values(record)
            return record
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"an incomplete record: {error}") from error


def check_values(record: SummaryRecord) -> None:
    """Check that the values of a record from a file are consistent.

    Raises ValueError with the name of the field.
    """
    parts: tuple[Note | Chapter, ...] = (*record.notes, *record.chapters)
    for part in parts:
        if part.start_seconds > part.end_seconds:
            raise ValueError(f"impossible times {part.start_seconds:g} to {part.end_seconds:g}")
    if record.window_seconds == 0:
        raise ValueError("impossible `window_seconds`")
    url, output = record.source.url, record.output
    if output is not None and not is_output_name(output):
        raise ValueError("`output` is no name of output files")
    if url is not None and record.path != url and not record.path.startswith(f"{url}#"):
        raise ValueError("`url` is not the address of the video")
    if url is not None and not url.lower().startswith(("http://", "https://")):
        raise ValueError("`url` is no web address")
    # An absolute name is next to the video; ``OutputNames.is_relative_output`` checks it.
    if output is not None and not os.path.isabs(output):
        named = record.path if url is None else record.source.name
        if not is_output_of(output, record.path, named):
            raise ValueError("`output` is not a name of output files of this video")


def _note_from(content: Mapping[str, Any]) -> Note:
    return Note(**{**content, "frame_times": tuple(content["frame_times"])})


@dataclass(frozen=True)
class Entry:
    """Index entry of a record; the full record is at byte ``offset`` of the file."""

    offset: int
    settings_key: str
    sha256: str | None
    file_stat: tuple[int, ...]
    output: str | None
    failed: bool
    is_final: bool
    """Whether a repetition would have the same result: a text, or an error of the local file."""


class RecordLog(ClosedOnExit):
    """The records of this run and of earlier runs in the same file. A context manager.

    Without a path the records are temporary. Raises RecordError where the file is of another kind,
    cannot be written, or is locked by another process.
    """

    def __init__(self, path: Path | None) -> None:
        self._stack = ExitStack()
        try:
            if path is None:
                folder = tempfile.TemporaryDirectory(
                    prefix="smolvideo-", ignore_cleanup_errors=True
                )
                path = Path(self._stack.enter_context(folder)) / "summaries.jsonl"
            self.path = path
            if path.exists() and not path.is_file():
                # A device may be endless, a pipe can be read only once: neither can be resumed.
                raise RecordError(
                    f"{display_path(path)} is not a file of records that a run can resume",
                    hint="`--jsonl -` shows the records on stdout",
                )
            self._hold_alone()
            self._writer = self._stack.enter_context(RecordWriter(path, SummaryRecord))
            _sync_folder(path.parent)
            self._by_path: dict[str, Entry] = {}
            self._by_form: dict[str, set[str]] = {}
            self._by_content: dict[tuple[str, str], str] = {}
            self._outputs: dict[str, str] = {}
            self._superseded = 0
            self._read()
        except BaseException:
            self._stack.close()
            raise

    def close(self) -> None:
        self._stack.close()

    def entry(self, path: str) -> Entry | None:
        """Index entry of a video path, with accents in NFC or NFD."""
        known_as = self._known_as(path)
        return None if known_as is None else self._by_path[known_as]

    def record(self, path: str) -> SummaryRecord:
        """The last record of a video that has an entry, read from the file."""
        place = self._by_path[self._known_as(path) or path].offset
        with open_regular(self.path) as file:
            file.seek(place)
            return SummaryRecord.from_json(file.readline())

    def records(self) -> Iterator[SummaryRecord]:
        """The last record of every video."""
        for path in list(self._by_path):
            yield self.record(path)

    def has(self, sha256: str, settings_key: str) -> bool:
        """Whether ``find_duplicate`` would return a record; callable from any thread."""
        return (sha256, settings_key) in self._by_content

    def find_duplicate(self, sha256: str, settings_key: str) -> SummaryRecord | None:
        """Return a summary of the same content with the same settings, of any file name."""
        path = self._by_content.get((sha256, settings_key))
        return None if path is None else self.record(path)

    def owner_of_output(self, output: str) -> str | None:
        """Return the path of the video that owns this output name; case is ignored."""
        return self._outputs.get(output.casefold())

    def write(self, record: SummaryRecord) -> None:
        """Append ``record`` and sync it to disk. Raises RecordError."""
        place = self.path.stat().st_size
        self._writer.write(record)
        self._remember(record, place)

    def compact(self) -> None:
        """Remove superseded records: one line per video is left, in an atomically replaced file."""
        if not self._superseded:
            return
        places = sorted(entry.offset for entry in self._by_path.values())
        with open_regular(self.path) as file:
            lines = []
            for place in places:
                file.seek(place)
                lines.append(file.readline().decode("utf-8"))
        # Closed first: Windows cannot replace a file that any process has open.
        self._writer.close()
        write_text_atomic(self.path, "".join(lines), overwrite=True)
        self._writer = self._stack.enter_context(RecordWriter(self.path, SummaryRecord))
        self._read()

    def _known_as(self, path: str) -> str | None:
        """Return the recorded path that matches ``path``, also in the other Unicode form.

        The folder may have moved to a system that stores accents differently. A recorded path
        that exists now as another file does not match.
        """
        if path in self._by_path:
            return path
        alike = [one for one in self._by_form.get(normal_form(path), ()) if one in self._by_path]
        moved = [one for one in alike if not os.path.lexists(one) or _is_same(one, path)]
        return moved[0] if len(moved) == 1 else None

    def _hold_alone(self) -> None:
        lock = self.path.with_name(f".{self.path.name}.lock")
        try:
            make_folders(self.path.parent)
            self._stack.enter_context(file_lock(lock, on_contention=None))
        except BlockingIOError as error:
            raise RecordError(
                f"another smolvideo is at work on {display_path(self.path)}",
                hint="wait until it has ended, or name another folder with `--out`",
            ) from error
        except OSError as error:
            raise RecordError(
                f"cannot write {display_path(self.path)}: {error.strerror or error}"
            ) from error

    def _read(self) -> None:
        self._by_path.clear()
        self._by_form.clear()
        self._by_content.clear()
        self._outputs.clear()
        self._superseded = 0
        for number, place, line in _lines(self.path):
            try:
                record = SummaryRecord.from_json(line)
                self._check_own_output(record)
            except ValueError as error:
                raise broken_line(self.path, number, error) from error
            self._remember(record, place)

    def _check_own_output(self, record: SummaryRecord) -> None:
        """Raises ValueError where an earlier record of another video has the same outputs."""
        owner = None if record.output is None else self.owner_of_output(record.output)
        if owner is not None and normal_form(owner) != normal_form(record.path):
            raise ValueError(f"`output` is that of `{display_name(owner)}`, too")

    def _remember(self, record: SummaryRecord, place: int) -> None:
        known_as = self._known_as(record.path)
        before = None if known_as is None else self._by_path.pop(known_as)
        if before is not None:
            self._superseded += 1
            if before.sha256 is not None:
                content = (before.sha256, before.settings_key)
                if self._by_content.get(content) == known_as:
                    del self._by_content[content]
            if before.output is not None and self.owner_of_output(before.output) == known_as:
                del self._outputs[before.output.casefold()]
        entry = Entry(
            offset=place,
            settings_key=record.settings_key,
            sha256=record.source.sha256,
            file_stat=record.stamp,
            output=record.output,
            failed=record.error is not None,
            is_final=record.error is None or (record.exit_code == 3 and record.source.url is None),
        )
        self._by_path[record.path] = entry
        if not record.path.isascii():  # ASCII has one Unicode form only
            self._by_form.setdefault(normal_form(record.path), set()).add(record.path)
        if entry.sha256 is not None and not entry.failed:
            self._by_content.setdefault((entry.sha256, entry.settings_key), record.path)
        if entry.output is not None:
            self._outputs[entry.output.casefold()] = record.path


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield number, byte offset and content of each non-blank line.

    A line longer than ``MAX_LINE_BYTES`` is yielded in pieces, the first of which is one byte too
    long to be a record.
    """
    place = 0
    with open_regular(path) as file:
        for number in count(1):
            line = file.readline(MAX_LINE_BYTES + 1)
            if not line:
                return
            if line.strip():
                yield number, place, line
            place += len(line)


def _sync_folder(folder: Path) -> None:
    """Sync the folder, without which a new file may be lost in a power cut; not on Windows, which
    does this itself.
    """
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems cannot
        return
    finally:
        os.close(descriptor)
