"""Record of one video's summary: one line of JSON with everything needed to reproduce it."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Self

from smolvideo.json_types import Count, Moment, Seconds, Within
from smolvideo.records import SourceRecord, from_json, json_line, parse_known_fields
from smolvideo.summaries.file_names import is_output_name, is_output_of

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
    suffixes.
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
    revision: str | None = None
    engine: str | None = None
    device: str | None = None
    dtype: str | None = None
    quantize: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, Count] = field(default_factory=dict)
    frames: Count = 0
    seconds: Mapping[str, Seconds] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
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
