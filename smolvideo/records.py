"""Answer records as JSON lines (append-only, crash-safe), and atomic writing of output files.

A record holds all that is needed to reproduce its answer. A last line that is incomplete because
the process was killed is dropped when the file is continued. Files that are not ours are never
modified.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

from smolvideo.answer import AnswerCheck, AnswerEvidence, ChoiceProbabilities
from smolvideo.closing import ClosedOnExit
from smolvideo.errors import RecordError
from smolvideo.files import open_atomic, sync_file
from smolvideo.json_types import Count, Seconds, check_types, parse_json, upgrade_record
from smolvideo.record_parts import RecordHashes, SourceRecord, from_json
from smolvideo.sanitize import display_path, visible_json
from smolvideo.text_input import read_file_or_pipe

__all__ = [
    "AnswerRecord",
    "Record",
    "RecordHashes",
    "RecordWriter",
    "SourceRecord",
    "broken_line",
    "from_json",
    "json_line",
    "parse_known_fields",
    "read_records",
    "write_text_atomic",
]

ANSWER_SCHEMA = "smolvideo.answer/2"
"""Schema id: the value of ``record``, the first key of each line, which identifies our files."""

MAX_LINE_BYTES = 64 * 2**20
"""Maximum bytes of a record, above that of a day of video with a note per second; protects the
memory of a reader."""


class Record(Protocol):
    """One line of a record file.

    ``SCHEMA`` is the schema id, the value of the line's first key, ``record``.
    """

    SCHEMA: ClassVar[str]

    def to_json(self) -> str:
        """Return one line, without a line break."""
        ...

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Parse one line; ValueError if it is not a record."""
        ...


AnyRecord = TypeVar("AnyRecord", bound=Record)


@dataclass(frozen=True)
class AnswerRecord:
    """One question with its answer or error: either ``text`` or ``error`` is set.

    ``choices`` are the probabilities of given choices, if nothing was generated; ``evidence`` the
    frames that carry the answer, if they were searched; ``check`` its controls. ``settings`` are
    the effective ones, by option name; ``tokens`` has ``prompt``, ``answer`` and ``context``;
    ``frames_from_cache`` were not encoded; ``seconds`` maps stages to their duration; ``created``
    is UTC, ISO 8601. ``model_reason`` is why ``auto`` chose the model;
    ``adapter`` the SHA-256 of a LoRA adapter. ``subtitles`` is the text of them in the prompt,
    ``history`` the number of earlier turns; ``interleaved``: the frames of two videos were, by
    time. ``hashes`` are what a replay compares.
    """

    question: str
    sources: tuple[SourceRecord, ...]
    text: str | None = None
    error: str | None = None
    hint: str | None = None
    stop_reason: str | None = None
    choices: ChoiceProbabilities | None = None
    evidence: AnswerEvidence | None = None
    check: AnswerCheck | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    layout: str | None = None
    geometry: str | None = None
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
    frames_from_cache: Count = 0
    seconds: Mapping[str, Seconds] = field(default_factory=dict)
    peak_memory_bytes: Count | None = None
    notices: tuple[str, ...] = ()
    subtitles: str | None = None
    history: Count = 0
    interleaved: bool = False
    hashes: RecordHashes | None = None
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    SCHEMA: ClassVar[str] = ANSWER_SCHEMA

    def __post_init__(self) -> None:
        if (self.text is None) == (self.error is None):
            raise ValueError("a record has either a text or an error")
        if self.hint is not None and self.error is None:
            raise ValueError("a record without an error has no hint")

    def to_json(self) -> str:
        """Return one line without a line break, keys in the order of the fields."""
        return json_line({"record": ANSWER_SCHEMA} | asdict(self))

    @classmethod
    def from_json(cls, line: str | bytes) -> "AnswerRecord":
        """Parse one line, ignoring keys of later versions; ValueError if it is not a record."""
        content = parse_known_fields(cls, line)
        try:
            content["sources"] = tuple(from_json(source) for source in content["sources"])
            content["notices"] = tuple(content.get("notices", ()))
            if content.get("choices") is not None:
                known = {name.name for name in fields(ChoiceProbabilities)}
                content["choices"] = ChoiceProbabilities(
                    **{key: one for key, one in content["choices"].items() if key in known}
                )
            content["evidence"] = AnswerEvidence.from_json(content.get("evidence"))
            content["hashes"] = RecordHashes.from_json(content.get("hashes"))
            content["check"] = AnswerCheck.from_json(content.get("check"))
            return cls(**content)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"an incomplete record: {error}") from error


def json_line(content: Any, *, indent: int | None = None) -> str:
    """Format ``content`` as one line of JSON, or, with ``indent``, as several.

    Unicode line separators (which some parsers split at), lone surrogates of file names, and
    characters that control a terminal are escaped as ``\\u…``. Raises ValueError for NaN and
    infinity.
    """
    line = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=indent)
    return visible_json(line)


def parse_known_fields(kind: Any, line: str | bytes) -> dict[str, Any]:
    """Return the keys of a line that are fields of the record ``kind``, a dataclass with
    ``SCHEMA``.

    ValueError if the line is no record of that kind, in any version, or a field has another type.
    """
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"longer than {MAX_LINE_BYTES >> 20} MB")
    content = parse_json(line)
    if not isinstance(content, dict) or not str(content.get("record")).startswith(
        _schema_name(kind)
    ):
        raise ValueError("not a record of smolvideo")
    content = upgrade_record(content)
    names = {name.name for name in fields(kind)}
    known = {key: value for key, value in content.items() if key in names}
    check_types(kind, known)
    return known


class RecordWriter(ClosedOnExit):
    """Appends records of one kind to a file; each is synced to disk before ``write`` returns.

    A context manager. Creates a new file, or continues one of ours. Raises RecordError if the file
    holds something else or cannot be written.
    """

    def __init__(self, path: Path, kind: type[Record] = AnswerRecord) -> None:
        self.path = path
        with _wrap_os_error(path, "write"):
            _truncate_partial_line(path, kind)
            self._file: FileIO = open(path, "ab", buffering=0)  # noqa: SIM115 -- closed by close()

    def write(self, record: Record) -> None:
        """Append ``record``, flushed and synced; RecordError if the write fails."""
        line = record.to_json().encode("utf-8") + b"\n"
        with _wrap_os_error(self.path, "write"):
            end = self._file.seek(0, os.SEEK_END)
            written = self._file.write(line)
            if written != len(line):
                # A disk that fills up writes a part, and reports it at the next write only.
                self._file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync_file(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read_records(
    path: Path,
    kind: type[AnyRecord] = AnswerRecord,  # type: ignore[assignment]
    *,
    check: Callable[[AnyRecord], object] = lambda _: None,
) -> list[AnyRecord]:
    """Return all complete records of a file, in order, without a truncated last line.

    Raises RecordError if the file cannot be read, is not ours, or is broken before its last line,
    and if ``check`` raises ValueError for a record.
    """
    with _wrap_os_error(path, "read"):
        content = read_file_or_pipe(path)
    lines = content.split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = kind.from_json(line)
            check(record)
            records.append(record)
        except ValueError as error:
            if number == len(lines) and _is_begun_by_us(line, kind):
                break  # truncated because the process was killed while writing
            if not records:
                raise _not_our_file_error(path) from error
            raise broken_line(path, number, error) from error
    return records


def write_text_atomic(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write ``text`` (UTF-8) to ``path`` atomically: it holds all of it, or its previous content.

    A temporary file in the same folder is written and renamed; a device or a pipe is written
    directly. Raises RecordError if the file exists (without ``overwrite``), or cannot be written.
    """
    with _wrap_os_error(path, "write"):
        if path.is_dir():
            raise RecordError(f"`{path}` is a folder, not a file to write")
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        if path.exists() and not overwrite:
            raise _already_exists_error(path)
        target = path.resolve()  # a link stays a link, and its target is replaced
        encoded = text.encode("utf-8")
        with open_atomic(target, rename=_replace if overwrite else _rename_new) as file:
            file.write(encoded)


def _replace(temporary: Path, target: Path) -> None:
    if target.exists():
        shutil.copymode(target, temporary)
    os.replace(temporary, target)


def _rename_new(temporary: Path, target: Path) -> None:
    try:
        os.link(temporary, target)  # fails if another process has created the file meanwhile
    except FileExistsError as error:
        raise _already_exists_error(target) from error
    except OSError:  # a file system without hard links
        os.replace(temporary, target)


def _truncate_partial_line(path: Path, kind: type[Record]) -> None:
    """Check that ``path`` is ours or new, and make it end with a complete line."""
    if not path.exists() or not path.stat().st_size:
        return
    if not path.is_file():
        raise RecordError(f"`{path}` is not a file that records can be appended to")
    with path.open("r+b") as stream:
        first = stream.readline(MAX_LINE_BYTES + 1)
        whole, last = _last_line(stream)
        if first != last and (why := _problem(first, kind)) is not None:
            raise _not_our_file_error(path, f" (line 1: {why})")
        if not last:
            return
        if _is_record(last, kind):  # only its line break is missing
            stream.seek(0, os.SEEK_END)
            stream.write(b"\n")
        elif _is_begun_by_us(last, kind) and not _is_whole_json(last):
            stream.truncate(whole)
        else:
            raise _not_our_file_error(path, f" (last line: {_problem(last, kind)})")
        stream.flush()
        sync_file(stream.fileno())


def _last_line(stream: Any) -> tuple[int, bytes]:
    """Return the offset of the text after the last line break, and that text (may be empty).

    Reads at most slightly more than ``MAX_LINE_BYTES``, enough to show that a line is too long.
    """
    block = 1 << 16
    end = start = stream.seek(0, os.SEEK_END)
    tail: list[bytes] = []
    while start > 0 and end - start <= MAX_LINE_BYTES and not (tail and b"\n" in tail[-1]):
        size = min(block, start)
        start -= size
        stream.seek(start)
        tail.append(stream.read(size))
    text = b"".join(reversed(tail))
    last = text[text.rfind(b"\n") + 1 :]
    return end - len(last), last


def _is_whole_json(line: bytes) -> bool:
    try:
        parse_json(line)
    except ValueError:
        return False
    return True


def _is_record(line: bytes, kind: type[Record]) -> bool:
    return _problem(line, kind) is None


def _problem(line: bytes, kind: type[Record]) -> str | None:
    """Return why a line is not a record; None if it is one."""
    try:
        kind.from_json(line)
    except ValueError as error:
        return str(error) or "no JSON"
    return None


def _is_begun_by_us(line: bytes, kind: type[Record]) -> bool:
    first_bytes = f'{{"record": "{_schema_name(kind)}'.encode()
    return bool(line) and (line.startswith(first_bytes) or first_bytes.startswith(line))


def _schema_name(kind: Any) -> str:
    """Return the schema id without its version: ``smolvideo.answer/`` for
    ``smolvideo.answer/1``."""
    return str(kind.SCHEMA).rpartition("/")[0] + "/"


def broken_line(path: Path, number: int, why: object = "") -> RecordError:
    """Return the error for a line that is not a record, with the reason."""
    reason = f": {why}" if str(why) else ""
    return RecordError(
        f"{display_path(path)}, line {number}, is not a record of smolvideo{reason}",
        hint="take that line out, or name a new file for the records",
    )


def _not_our_file_error(path: Path, where: str = "") -> RecordError:
    return RecordError(
        f"{display_path(path)} does not hold records of smolvideo{where}",
        hint="name a new file for the records",
    )


def _already_exists_error(path: Path) -> RecordError:
    return RecordError(f"`{path}` exists already", hint="replace it with `--overwrite`")


@contextmanager
def _wrap_os_error(path: Path, doing: str) -> Iterator[None]:
    """Convert the system's errors about ``path`` to a RecordError."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise RecordError(f"cannot {doing} `{path}`: the text is not valid Unicode") from error
    except OSError as error:
        hint = None
        if isinstance(error, FileNotFoundError) and not path.parent.is_dir():
            hint = f"make the folder first: `mkdir -p {path.parent}`"
        raise RecordError(
            f"cannot {doing} `{path}`: {error.strerror or error}", hint=hint
        ) from error
