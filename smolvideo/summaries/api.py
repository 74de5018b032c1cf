"""Public entry points: ``summarise``, and ``open_run`` with its output and run options."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from smolvideo.engines import Engine
from smolvideo.errors import RecordError, UsageError
from smolvideo.file_names import existing_path
from smolvideo.models import Checkpoint
from smolvideo.progress import OnProgress, no_progress
from smolvideo.sanitize import display_path
from smolvideo.source import DownloadOptions, Named, is_url
from smolvideo.summaries.options import SummaryOptions
from smolvideo.summaries.outputs import OutputWriter, check_formats
from smolvideo.summaries.record_log import RecordLog, SummaryRecord
from smolvideo.summaries.run import SummaryRun
from smolvideo.summaries.worklist import Selection, list_items

RECORDS_NAME = "summaries.jsonl"


@dataclass(frozen=True)
class OutputOptions:
    """Destination of output files and records.

    Outputs in ``formats`` are written into ``folder``, or next to each video
    (``next_to_source``). ``records`` is the JSONL file from which a killed run resumes: by default
    ``summaries.jsonl`` in ``folder``, or in the folder that all videos share. With neither,
    nothing is saved. Raises UsageError for formats without a destination, or two destinations.
    """

    folder: Path | None = None
    next_to_source: bool = False
    formats: tuple[str, ...] = ()
    records: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_formats(self.formats)
        if self.folder is not None and self.next_to_source:
            raise UsageError("`--out` and `--beside` contradict each other")
        if self.formats and not self.writes_files:
            raise UsageError("formats need a place: name `--out DIR`, or `--beside`")

    @property
    def writes_files(self) -> bool:
        """Whether files are written at all."""
        return self.folder is not None or self.next_to_source

    def records_path(self, given: Sequence[Named | Path]) -> Path | None:
        """Return the path of the records file for the arguments ``given``. Raises UsageError."""
        if self.records is not None:
            return self.records
        if self.folder is not None:
            return _no_link(self.folder / RECORDS_NAME)
        if not self.next_to_source:
            return None
        if any(is_url(str(item)) for item in given):
            raise UsageError("`--beside` needs files: an address has no folder", hint="`--out DIR`")
        return _no_link(_shared_folder(given) / RECORDS_NAME)


@dataclass(frozen=True)
class RunOptions:
    """Options of one run; with ``dry_run`` no file is created, not even the records file."""

    selection: Selection = field(default_factory=Selection)
    download: DownloadOptions = field(default_factory=DownloadOptions)
    retry: bool = False
    dry_run: bool = False


@contextmanager
def open_run(
    checkpoint: Checkpoint,
    engine: Callable[[], Engine],
    given: Sequence[Named | Path],
    options: SummaryOptions,
    outputs: OutputOptions,
    run: RunOptions,
    *,
    quantize: str = "none",
    on_progress: OnProgress = no_progress,
) -> Iterator[SummaryRun]:
    """Open a ``SummaryRun`` with its records locked; on exit the log is compacted.

    ``quantize`` is the setting that ``engine`` will be loaded with. It is needed before loading,
    because it is part of the settings key that decides which videos are done already.
    """
    records = outputs.records_path(given)
    if run.dry_run and records is not None and not records.exists():
        records = None
    with RecordLog(records) as journal:
        formats = outputs.formats if outputs.writes_files else ()
        folder = None if outputs.next_to_source else outputs.folder
        publisher = OutputWriter(journal, folder, formats, overwrite=outputs.overwrite)
        yield SummaryRun(
            checkpoint,
            engine,
            options,
            journal,
            publisher,
            download=run.download,
            retry=run.retry,
            quantize=quantize,
            on_progress=on_progress,
        )
        if not run.dry_run:
            journal.compact()


def summarise(
    engine: Engine,
    sources: str | Path | Sequence[str | Path],
    *,
    options: SummaryOptions = SummaryOptions(),  # noqa: B008 -- frozen
    out: Path | str | None = None,
    formats: Sequence[str] = ("txt",),
    selection: Selection = Selection(),  # noqa: B008 -- frozen
    download: DownloadOptions = DownloadOptions(),  # noqa: B008 -- frozen
    overwrite: bool = False,
    retry: bool = False,
    on_progress: OnProgress = no_progress,
) -> Iterator[SummaryRecord]:
    """Summarise the videos of files, folders, glob patterns, URLs and playlists, in order.

    With ``out``, the outputs in ``formats`` and the records are written into that folder, and a
    repeated call only processes what is missing or has changed. A file that cannot be summarised
    yields a record with ``error`` instead of ``text``.

    >>> from smolvideo import load_engine, summarise
    >>> engine = load_engine("nano")
    >>> for record in summarise(engine, "samples/circle_right.mp4"):
    ...     print(record.source.name, "-", record.text)
    circle_right.mp4 - A purple circle moves right on a brown background.

    Raises:
        UsageError: unknown formats, or options that contradict each other.
        RecordError: records or outputs cannot be written, or another process works in ``out``.
        ModelError: the model cannot be loaded.
        PromptError: the context has no capacity for even one frame and the question.
    """
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    folder = None if out is None else existing_path(Path(out))
    outputs = OutputOptions(folder, formats=tuple(formats) if folder else (), overwrite=overwrite)
    run = RunOptions(selection, download, retry)
    with open_run(
        engine.checkpoint,
        lambda: engine,
        given,
        options,
        outputs,
        run,
        quantize=engine.quantize,
        on_progress=on_progress,
    ) as batch:
        items = list_items(given, selection, download=download, on_progress=on_progress)
        for done in batch.run(items):
            yield done.record


def _no_link(path: Path) -> Path:
    """Refuse a symbolic link as the default records file. Raises RecordError."""
    if path.is_symlink():
        raise RecordError(
            f"{display_path(path)} is a link, and leads out of its folder",
            hint="name the file itself with `--jsonl`",
        )
    return path


def _shared_folder(given: Sequence[Named | Path]) -> Path:
    """Return the deepest folder that contains all arguments; one folder is its own answer."""
    folders = []
    for item in given:
        path = Path(os.path.abspath(existing_path(Path(item))))
        folders.append(str(path if path.is_dir() else path.parent))
    try:
        return Path(os.path.commonpath(folders))
    except ValueError as error:
        raise UsageError(
            "the videos have no folder in common for their records", hint="name `--jsonl FILE`"
        ) from error
