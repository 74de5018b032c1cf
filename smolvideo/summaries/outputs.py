"""Output files of records, each written to a temporary file and renamed.

A record is written before its outputs. So a file under a recorded name is ours, and a missing one
is made again from the record without the model. Outputs of an older record of the same video are
removed before the new record is written, so that no output contradicts its record.

Outputs of ``a/party.mp4`` are ``a/party.summary.txt``, ``….summary.srt`` and so on. The word
``summary`` separates them from files next to the video: players load ``party.srt`` as the subtitles
of its speech.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath

from smolvideo.errors import RecordError, UsageError
from smolvideo.file_names import (
    fit_name,
    is_output_name,
    is_output_of,
    names_of_outputs,
    normal_form,
)
from smolvideo.files import make_folders
from smolvideo.records import write_text_atomic
from smolvideo.sanitize import display_path
from smolvideo.summaries.formats import TEXT_FORMATTERS, to_html
from smolvideo.summaries.record_log import RecordLog, SummaryRecord
from smolvideo.summaries.worklist import WorkItem


class OutputNames:
    """Chooses the output name of a record, without suffixes.

    Names are inside ``folder``, which mirrors the subfolders of the arguments, or next to the
    video if ``folder`` is None. ``owner_of`` returns the video path that owns a name, ``is_free``
    whether no other file has it.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        owner_of: Callable[[str], str | None],
        is_free: Callable[[Path], bool],
    ) -> None:
        self._folder = folder
        self._owner_of = owner_of
        self._is_free = is_free

    def path(self, output: str) -> Path:
        """Return the path of an output name, without suffix."""
        return Path(output) if self._folder is None else self._folder / output

    def is_relative_output(self, output: str, path: str) -> bool:
        """Whether the recorded output name of the video at ``path`` is valid here: relative to
        ``folder``, or, without one, in the video's own folder."""
        if self._folder is None:
            is_beside = os.path.dirname(output) == os.path.dirname(path)
            name = os.path.basename(output)
            return is_output_name(output) and is_beside and is_output_of(name, path, path)
        return is_output_name(output) and not os.path.isabs(output)

    def name_for(self, item: WorkItem, record: SummaryRecord) -> str:
        """Return the first candidate that no other video and no other file has.

        Of two videos of one file name the second gets a digest of its path, not the file name with
        its suffix, which is a candidate of both: a record with the other's output is invalid.
        """
        has_namesake = False
        for place, candidate in enumerate(self._candidates(item, record)):
            owner = self._owner_of(candidate)
            if owner == record.path:
                return candidate
            if place == 0 and owner is not None:
                has_namesake = _file_name(owner) == _file_name(record.path)
            if place == 1 and has_namesake:
                continue
            if owner is None and self._is_free(self.path(candidate)):
                return candidate
        raise AssertionError("there are endless candidates")

    def _candidates(self, item: WorkItem, record: SummaryRecord) -> Iterator[str]:
        if record.source.url is not None:
            parent, name = PurePath(), record.source.name
        else:
            parent, name = item.relative.parent, item.relative.name
        if self._folder is None:
            base = os.path.dirname(record.path)
        else:
            base = "/".join(fit_name(part) for part in parent.parts if part not in ("/", "\\"))
        is_address = record.source.url is not None
        for candidate in names_of_outputs(record.path, name, is_address=is_address):
            yield _joined(base, candidate)


def _file_name(path: str) -> str:
    return normal_form(os.path.basename(path))


def _joined(base: str, name: str) -> str:
    return f"{base.rstrip('/')}/{name}" if base else name


PAGE_ENDING = ".summary.html"
SUFFIXES_BY_FORMAT: dict[str, tuple[str, ...]] = {
    "txt": (".summary.txt",),
    "md": (".summary.md",),
    "json": (".summary.json",),
    "jsonl": (),
    "srt": (".summary.srt",),
    "vtt": (".summary.vtt",),
    "chapters": (".summary.chapters.txt", ".summary.ffmetadata"),
    "html": (PAGE_ENDING,),
}
"""Format → suffixes of its files. ``jsonl`` is the records file, which always exists."""
FORMATS = tuple(SUFFIXES_BY_FORMAT)


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """Return the formats without duplicates. Raises UsageError for an unknown one."""
    for name in formats:
        if name not in SUFFIXES_BY_FORMAT:
            raise UsageError(f"unknown format `{name}`", hint=f"one of {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(formats))


class OutputWriter:
    """Writes the outputs of one run into ``folder``, or next to each video if that is None."""

    def __init__(
        self,
        journal: RecordLog,
        folder: Path | None,
        formats: Sequence[str],
        *,
        overwrite: bool = False,
    ) -> None:
        self._journal = journal
        self._folder = folder
        self._overwrite = overwrite
        self._endings = [
            ending for name in check_formats(formats) for ending in SUFFIXES_BY_FORMAT[name]
        ]
        self._renew: dict[str, list[str]] = {}
        self._names = OutputNames(folder, owner_of=journal.owner_of_output, is_free=self._is_free)

    def assign_output_name(self, item: WorkItem, record: SummaryRecord) -> str | None:
        """Return the output name for a record that is about to be written.

        Output files of an older record of the same video are removed. An error record keeps them,
        because the video may be missing only for a while.
        """
        entry = self._journal.entry(record.path)
        before = entry.output if entry is not None else None
        if before is not None and not self._names.is_relative_output(before, record.path):
            before = None
        if record.error is not None:
            return before
        output = before or self._names.name_for(item, record)
        if before is not None:
            known = [*TEXT_FORMATTERS, PAGE_ENDING]
            there = [ending for ending in known if os.path.lexists(self._file(output, ending))]
            for ending in there:
                _remove(self._file(output, ending))
            self._renew[record.path] = there
        return output

    def write(self, record: SummaryRecord, *, is_new: bool) -> None:
        """Write the requested outputs that do not exist yet; all if ``is_new``.

        Raises RecordError.
        """
        if record.error is not None or record.output is None:
            return
        for ending in dict.fromkeys((*self._endings, *self._renew.pop(record.path, ()))):
            file = self._file(record.output, ending)
            if is_new or not os.path.lexists(file):
                self._write(file, ending, record)

    def has_output_name(self, record: SummaryRecord) -> bool:
        """Whether a reused record has a valid output name here, or needs none."""
        if record.error is not None or not self._endings:
            return True
        output = record.output
        return output is not None and self._names.is_relative_output(output, record.path)

    def _write(self, file: Path, ending: str, record: SummaryRecord) -> None:
        self._check_inside(file)
        text = to_html(record, file) if ending == PAGE_ENDING else TEXT_FORMATTERS[ending](record)
        try:
            make_folders(file.parent)
        except OSError as error:
            raise RecordError(f"cannot write {display_path(file)}: {error.strerror}") from error
        write_text_atomic(file, text, overwrite=self._overwrite)

    def _is_free(self, place: Path) -> bool:
        if self._overwrite:
            return True
        return not any(os.path.lexists(_with(place, ending)) for ending in self._endings)

    def _check_inside(self, file: Path) -> None:
        """Check that writing ``file`` follows no link out of the folder. Raises RecordError."""
        if file.is_symlink():
            if not self._overwrite:
                raise RecordError(
                    f"{display_path(file)} is a link, and no output is written through one",
                    hint="remove it, or have it replaced with `--overwrite`",
                )
            _remove(file)
        if self._folder is None:
            return
        folder, parent = os.path.realpath(self._folder), os.path.realpath(file.parent)
        if parent != folder and not Path(parent).is_relative_to(folder):
            raise RecordError(
                f"{display_path(file.parent)} leads out of the folder of outputs "
                f"{display_path(folder)}",
                hint="remove that link, or name another folder with `--out`",
            )

    def _file(self, output: str, ending: str) -> Path:
        return _with(self._names.path(output), ending)


def _with(place: Path, ending: str) -> Path:
    return place.with_name(place.name + ending)


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise RecordError(f"cannot replace {display_path(file)}: {error.strerror}") from error
