"""What a run has done so far, on disk: the file of records, held by one process at a time.

Every record is appended and synced before its outputs are written, so whatever is on disk has a
record, and whatever has no record is still to be done. Only places in the file are kept in memory:
a run over a hundred thousand videos stays small.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from smolvideo.deep_folders import make_folders
from smolvideo.errors import RecordError
from smolvideo.file_lock import file_lock
from smolvideo.records import MAX_LINE_BYTES, RecordWriter, broken_line, write_text_atomic
from smolvideo.sanitize import display_name, display_path
from smolvideo.summaries.record import SummaryRecord
from smolvideo.text_input import open_regular
from smolvideo.unicode_names import normal_form


@dataclass(frozen=True)
class Entry:
    """What is remembered of a record; the rest is at ``offset`` in the file."""

    offset: int
    settings_key: str
    sha256: str | None
    file_stat: tuple[int, ...]
    output: str | None
    failed: bool
    is_final: bool
    """Whether doing it again would end the same way: a text, or an error of the file itself."""


class RecordLog:
    """The records of one run and of those before it in the same file. A context manager.

    Without a path the records are kept for this run alone. Raises RecordError where the file is
    another's, cannot be written, or another process works on it.
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
                # A device may be read without end, a pipe only once: neither can be gone on with.
                raise RecordError(
                    f"{display_path(path)} is not a file that a run can go on with",
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def entry(self, path: str) -> Entry | None:
        """What is known of a video by its path, its accents in NFC or NFD."""
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
        """Whether ``find_duplicate`` would give one; may be asked from any thread."""
        return (sha256, settings_key) in self._by_content

    def find_duplicate(self, sha256: str, settings_key: str) -> SummaryRecord | None:
        """A summary of the same content with the same settings, whatever the file was called."""
        path = self._by_content.get((sha256, settings_key))
        return None if path is None else self.record(path)

    def owner_of_output(self, output: str) -> str | None:
        """The path of the video whose outputs have this name; names differ in more than case."""
        return self._outputs.get(output.casefold())

    def write(self, record: SummaryRecord) -> None:
        """Append ``record``; on disk when this returns. Raises RecordError."""
        place = self.path.stat().st_size
        self._writer.write(record)
        self._remember(record, place)

    def compact(self) -> None:
        """Leave one line for each video, where some were done anew; the file is replaced whole."""
        if not self._superseded:
            return
        places = sorted(entry.offset for entry in self._by_path.values())
        with open_regular(self.path) as file:
            lines = []
            for place in places:
                file.seek(place)
                lines.append(file.readline().decode("utf-8"))
        # First: Windows replaces no file that somebody, be it this process, has open.
        self._writer.close()
        write_text_atomic(self.path, "".join(lines), overwrite=True)
        self._writer = self._stack.enter_context(RecordWriter(self.path, SummaryRecord))
        self._read()

    def _known_as(self, path: str) -> str | None:
        """The path in the records that is ``path``, or was before the folder moved to a system that
        stores accents otherwise: one that is no other file now.
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
        """Raises ValueError where the outputs of a record are those of another video before it."""
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
        if not record.path.isascii():  # the others have one form
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
    """Each line that is not blank, with its number and its place in the file.

    Of a line that is too long to be a record there comes only as much as shows it.
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
    """A file is only safe from a power cut once its folder is; Windows syncs folders itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems cannot
        return
    finally:
        os.close(descriptor)
