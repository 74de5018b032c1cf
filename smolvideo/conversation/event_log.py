"""Event log of one conversation, append-only JSON lines, and its frames as lossless PNG files.

The frames of one attachment are stacked vertically in one PNG, written to a temporary file and
renamed. Their pixel hash is checked when they are read: incomplete or modified frames are decoded
again from the source.

    journal.jsonl   first line: kind, creation time, settings; then one event per line
    frames-3.png    the frames of attachment 3, see ``save_frames``

Each line is synced before the call returns, so a killed process loses only its running answer. A
truncated last line is ignored, and removed when the log is continued. All text is escaped to ASCII,
because file names may hold bytes that are not valid text.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image

from smolvideo.answer import AnswerEvidence, Usage
from smolvideo.conversation.turns import (
    Attachment,
    Settings,
    Turn,
    TurnStatus,
    sampling_from_json,
    sampling_to_json,
    settings_from_json,
    settings_to_json,
    utc_now,
)
from smolvideo.errors import RecordError, SmolVideoError
from smolvideo.files import open_atomic
from smolvideo.frames import Images, MediaKind, VideoMetadata
from smolvideo.json_types import check_types, parse_json, upgrade_seconds
from smolvideo.sampling import FrameSampling
from smolvideo.sanitize import display_path
from smolvideo.source import VideoSource
from smolvideo.text_input import open_regular, read_regular

MAX_PIXELS = 64_000_000
"""Limit per attachment: 240 frames of 512 x 512. Larger ones are decoded again when needed."""

_COMPRESSION = 1
"""zlib's fastest level shrinks frames to a third; slower levels gain only a tenth more."""


def frames_path(folder: Path, number: int) -> Path:
    """Return the path of the stored frames of an attachment."""
    return folder / f"frames-{int(number)}.png"


def save_frames(folder: Path, number: int, images: Images) -> None:
    """Write uint8 ``images`` [N, H, W, 3]. Raises RecordError for a disk error.

    More than ``MAX_PIXELS`` are not saved.
    """
    count, height, width, _ = images.shape
    if count * height * width > MAX_PIXELS:
        return
    path = frames_path(folder, number)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open_atomic(path) as file:
            picture = Image.fromarray(images.reshape(count * height, width, 3))
            picture.save(file, "PNG", compress_level=_COMPRESSION)
    except OSError as error:
        reason = error.strerror or error
        raise RecordError(f"frames cannot be kept in {display_path(folder)}: {reason}") from error


def read_frames(folder: Path, number: int, shape: Sequence[int], sha256: str) -> Images | None:
    """Read stored frames [N, H, W, 3]; None if they are missing or their hash differs."""
    count, height, width = shape[:3]
    if count * height * width > MAX_PIXELS:
        return None
    path = frames_path(folder, number)
    if path.is_symlink():
        return None
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            # The size is checked before decoding: a swapped file must not fill the memory.
            if picture.size != (width, count * height) or picture.mode != "RGB":
                return None
            images: Images = np.asarray(picture).reshape(count, height, width, 3)
    except (OSError, ValueError, SyntaxError):  # raised by Pillow for an invalid PNG
        return None
    return images if pixel_hash(images) == sha256 else None


def pixel_hash(images: Images) -> str:
    """SHA-256 of the pixels, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()


KIND = "smolvideo.session/1"
LOG_NAME = "journal.jsonl"
_MAX_JOURNAL = 64 * 2**20
"""Bytes; far more than any real conversation."""


@dataclass(frozen=True, kw_only=True)
class _AttachmentFields:
    """Fields of an attachment that have the same type in memory and in JSON."""

    number: int
    turn: int
    pts_seconds: tuple[float, ...]
    shape: tuple[int, ...]
    sha256: str
    geometry: str | None = None
    window: tuple[float, float] | None = None
    subtitles: str | None = None
    size: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, kw_only=True)
class SavedAttachment(_AttachmentFields):
    """An attachment without its frames: enough to load or decode them again.

    ``shape`` [N, H, W, 3] and ``sha256`` describe the frames; ``size`` and ``mtime_ns`` the source
    file when it was decoded.
    """

    source: VideoSource
    sampling: FrameSampling
    metadata: VideoMetadata


@dataclass(frozen=True)
class SavedConversation:
    """A conversation as read from its event log."""

    created: str
    settings: Settings
    attachments: tuple[SavedAttachment, ...] = ()
    turns: tuple[Turn, ...] = ()
    end: int = field(default=0, compare=False)
    """Length in bytes of the log's complete lines."""


class EventLog:
    """Saves a conversation in ``folder``; the ``store`` of a ``Conversation``.

    A new log creates its folder at the first turn, so that a chat without a question leaves no
    files. Frames are written by a background thread. A disk error is stored in ``problem`` and
    never raised, so that no answer is lost.
    """

    def __init__(self, folder: Path, settings: Settings, *, goes_on: bool = False) -> None:
        self.folder = folder
        self.problem: str | None = None
        self._goes_on = goes_on
        header = {"session": KIND, "created": utc_now(), "settings": settings_to_json(settings)}
        self._waiting: list[Mapping[str, Any]] = [] if goes_on else [header]
        self._pictures = ThreadPoolExecutor(1, thread_name_prefix="keep frames")
        self._attachments: list[Attachment] = []
        self.keeps_frames = True

    def keep_settings(self, settings: Settings) -> None:
        self._append({"settings": settings_to_json(settings)})

    def save_attachment(self, attachment: Attachment) -> None:
        self._append({"look": _attachment_to_json(attachment)})
        if self.keeps_frames:
            self._attachments.append(attachment)
            self._keep_waiting_frames()

    def save_turn(self, turn: Turn) -> None:
        self._goes_on = True
        self._append({"turn": asdict(turn)})
        self._keep_waiting_frames()

    def save_undo(self) -> None:
        self._append({"taken_back": True})

    def close(self) -> None:
        """Wait until all frames are written to disk."""
        self._pictures.shutdown(wait=True)

    def _keep_waiting_frames(self) -> None:
        if not self._goes_on or self.problem is not None:
            return
        for attachment in self._attachments:
            self._pictures.submit(self._keep_frames, attachment)
        self._attachments.clear()

    def _keep_frames(self, attachment: Attachment) -> None:
        try:
            save_frames(self.folder, attachment.number, attachment.batch.images)
        except RecordError as error:
            self.problem = str(error)

    def _append(self, event: Mapping[str, Any]) -> None:
        self._waiting.append(event)
        if not self._goes_on or self.problem is not None:
            return
        lines = "".join(json.dumps(line, allow_nan=False) + "\n" for line in self._waiting)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _append_lines(self.folder / LOG_NAME, lines.encode("ascii"))
        except OSError as error:
            where = display_path(self.folder)
            self.problem = f"the conversation cannot be kept in {where}: {error.strerror or error}"
            return
        self._waiting.clear()


def read_event_log(folder: Path) -> SavedConversation:
    """Read the event log of a folder.

    Raises RecordError if there is none, or if a complete line is damaged.
    """
    path = folder / LOG_NAME
    _refuse_link(path)
    try:
        if path.stat().st_size > _MAX_JOURNAL:
            raise RecordError(f"{display_path(path)} is too large for a conversation")
        content = read_regular(path)
    except OSError as error:
        raise RecordError(f"cannot read {display_path(path)}: {error.strerror or error}") from error
    end = content.rfind(b"\n") + 1
    kept: SavedConversation | None = None
    for number, line in enumerate(content[:end].splitlines(), start=1):
        try:
            event = parse_json(line)
            kept = _begun(event) if kept is None else _after(kept, event)
        except (ValueError, KeyError, TypeError, RecursionError, SmolVideoError) as error:
            raise RecordError(
                f"{display_path(path)} is damaged at line {number}",
                hint="the other conversations are not: `smolvideo chat --sessions`",
            ) from error
    if kept is None:
        raise RecordError(f"{display_path(path)} holds no conversation")
    return replace(kept, end=end)


def truncate_partial_line(folder: Path, kept: SavedConversation) -> None:
    """Truncate the log after its last complete line, so that the next event starts a line.

    Requires the lock of the conversation.
    """
    path = folder / LOG_NAME
    _refuse_link(path)
    try:
        if path.stat().st_size > kept.end:
            os.truncate(path, kept.end)
    except OSError as error:
        raise RecordError(f"cannot write {display_path(path)}: {error.strerror}") from error


def _refuse_link(path: Path) -> None:
    """Raise RecordError for a symbolic link, which would redirect reads and writes elsewhere."""
    if path.is_symlink() or path.parent.is_symlink():
        raise RecordError(f"{display_path(path)} is a link, and no conversation of its own")


def _begun(event: Mapping[str, Any]) -> SavedConversation:
    if event["session"] != KIND:
        raise ValueError("another kind of file")
    return SavedConversation(str(event["created"]), settings_from_json(event["settings"]))


def _after(kept: SavedConversation, event: Mapping[str, Any]) -> SavedConversation:
    """Apply one event to ``kept``; unknown events (of later versions) are ignored."""
    if "settings" in event:
        return replace(kept, settings=settings_from_json(event["settings"]))
    if "turn" in event:
        return replace(kept, turns=(*kept.turns, _turn_from_json(event["turn"])))
    if "taken_back" in event:
        return replace(kept, turns=kept.turns[:-1])
    if "look" in event:
        attachment = _attachment_from_json(event["look"])
        others = {other.number: other for other in kept.attachments} | {
            attachment.number: attachment
        }
        return replace(kept, attachments=tuple(others[number] for number in sorted(others)))
    return kept


def _attachment_to_json(attachment: Attachment) -> dict[str, Any]:
    source = asdict(attachment.source) | {"path": os.path.abspath(attachment.source.path)}
    # File state at decoding time; a folder of frames has none.
    size, mtime_ns = attachment.batch.state[:2] if len(attachment.batch.state) > 1 else (None, None)
    return {
        "number": attachment.number,
        "source": source,
        "sampling": sampling_to_json(attachment.sampling),
        "turn": attachment.turn,
        "metadata": asdict(attachment.batch.metadata),
        "pts_seconds": list(attachment.batch.pts_seconds),
        "shape": list(attachment.batch.images.shape),
        "sha256": pixel_hash(attachment.batch.images),
        "geometry": attachment.batch.geometry,
        "window": attachment.window,
        "subtitles": attachment.subtitles,
        "size": size,
        "mtime_ns": mtime_ns,
    }


def _attachment_from_json(content: Mapping[str, Any]) -> SavedAttachment:
    known = _known(SavedAttachment, content)
    check_types(_AttachmentLine, known)
    source = _known(VideoSource, known["source"])
    check_types(_SourceLine, source)
    if not source["path"] or "\0" in source["path"] or source["kind"] not in get_args(MediaKind):
        raise ValueError("no source")
    metadata = _known(VideoMetadata, known["metadata"])
    check_types(VideoMetadata, metadata)
    window = known.get("window")
    kept = SavedAttachment(
        **known
        | {
            "source": VideoSource(**source | {"path": Path(source["path"])}),
            "sampling": sampling_from_json(known["sampling"]),
            "metadata": VideoMetadata(**metadata),
            "pts_seconds": tuple(float(time) for time in known["pts_seconds"]),
            "shape": tuple(int(side) for side in known["shape"]),
            "window": None if window is None else (float(window[0]), float(window[1])),
        }
    )
    if len(kept.shape) != 4 or kept.shape[0] != len(kept.pts_seconds) or not kept.pts_seconds:
        raise ValueError("as many times as frames")
    return kept


def _turn_from_json(content: Mapping[str, Any]) -> Turn:
    known = _known(Turn, content)
    check_types(Turn, known)
    if known.get("outcome", "answered") not in get_args(TurnStatus):
        raise ValueError("no outcome")
    usage = known.get("usage")
    if usage is not None:
        fields_of_usage = _known(Usage, usage)
        if "seconds" in fields_of_usage:
            fields_of_usage["seconds"] = upgrade_seconds(fields_of_usage["seconds"])
        known["usage"] = Usage(**fields_of_usage)
    known["notices"] = tuple(known.get("notices", ()))
    known["evidence"] = AnswerEvidence.from_json(known.get("evidence"))
    return Turn(**known)


@dataclass(frozen=True, kw_only=True)
class _AttachmentLine(_AttachmentFields):
    """JSON types of an attachment; nested values are checked where they are constructed."""

    source: Mapping[str, Any]
    sampling: Mapping[str, Any]
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class _SourceLine:
    given: str
    path: str
    kind: str
    name: str
    url: str | None = None
    notices: tuple[str, ...] = ()


def _known(kind: type[Any], content: Mapping[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in content.items() if name in names}


def _append_lines(path: Path, lines: bytes) -> None:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        end = os.lseek(descriptor, 0, os.SEEK_END)
        if os.write(descriptor, lines) != len(lines):
            os.truncate(path, end)  # a full disk writes only a part
            raise OSError("the disk is full")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def iter_events(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the raw events of a log up to the first error; for listings, which must not fail."""
    with contextlib.suppress(OSError, ValueError), open_regular(folder / LOG_NAME) as lines:
        for line in lines:
            event = parse_json(line)
            if isinstance(event, dict):
                yield event
