"""Lines of a data file with their files found, and the split by video.

Two lines about one video are never on two sides of the split: a file's content counts, not its
name, and lines that share any file belong together.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from smolvideo.errors import SmolVideoError, UsageError
from smolvideo.files import content_hash
from smolvideo.formatting import format_count
from smolvideo.source import ListedPath, VideoSource, is_url, resolve_source
from smolvideo.tune.lines import (
    MAX_SHOWN,
    DataFile,
    DataLine,
    Fault,
    MediaRef,
    faults_error,
    read_lines,
)
from smolvideo.tune.vqa import is_vqa, read_vqa


@dataclass(frozen=True)
class MediaWindow:
    """A file on this machine, and the window of it in seconds. ``sha256`` is of its bytes."""

    source: VideoSource
    sha256: str
    start_seconds: float | None = None
    end_seconds: float | None = None

    @property
    def key(self) -> tuple[str, float | None, float | None]:
        """What decides the frames."""
        return self.sha256, self.start_seconds, self.end_seconds


@dataclass(frozen=True)
class TuneItem:
    """A line with its files."""

    line: DataLine
    media: tuple[MediaWindow, ...]

    @property
    def key(self) -> tuple[object, ...]:
        """What decides the frames of the prompt."""
        return tuple(media.key for media in self.media)


@dataclass(frozen=True)
class Items:
    """The usable items of a data file, the faults of its other lines, and its SHA-256."""

    path: Path
    items: tuple[TuneItem, ...]
    faults: tuple[Fault, ...]
    sha256: str
    total: int


def read_items(
    path: Path, *, media: Path | None = None, allow_outside: bool = False, pairs: bool = False
) -> Items:
    """Read a data file and find the files of each line in ``media``, by default its own folder.

    Files elsewhere are faults without ``allow_outside``, as in lists of sources. ``pairs``: each
    line has a better and a worse answer. Raises RecordError where the data file cannot be read.
    """
    data = read_lines(path, pairs=pairs) if pairs or not is_vqa(path) else read_vqa(path)
    finder = _FileFinder(data.folder if media is None else media, allow_outside)
    items: list[TuneItem] = []
    faults = list(data.faults)
    for line in data.lines:
        try:
            items.append(TuneItem(line, tuple(finder.find(ref) for ref in line.media)))
        except SmolVideoError as error:
            faults.append(Fault(line.number, str(error)))
    faults.sort(key=lambda fault: fault.number)
    return Items(path, tuple(items), tuple(faults), content_hash(path), _count_lines(data))


def check_faults(items: Items, more: Sequence[Fault] = (), *, skip_faulty: bool) -> None:
    """Raise RecordError for the faults of ``items``, and ``more`` of reading or packing them, but
    not with ``skip_faulty`` and a usable line."""
    faults = sorted([*items.faults, *more], key=lambda fault: fault.number)
    numbers = {fault.number for fault in faults}
    if faults and not (skip_faulty and len(numbers) < items.total):
        raise faults_error(items.path, faults, items.total)


def left_out(items: Items) -> list[str]:
    """Return notices of the faulty lines; the first are named and the rest counted."""
    named = [f"left out: {fault}" for fault in items.faults[:MAX_SHOWN]]
    rest = len(items.faults) - MAX_SHOWN
    return [*named, f"left out: {format_count(rest, 'more line')}"] if rest > 0 else named


def _count_lines(data: DataFile) -> int:
    return len({line.number for line in data.lines} | {fault.number for fault in data.faults})


class _FileFinder:
    """Finds the files that lines name, each once."""

    def __init__(self, folder: Path, allow_outside: bool) -> None:
        self._folder = folder
        self._allow_outside = allow_outside
        self._found: dict[str, MediaWindow | SmolVideoError] = {}

    def find(self, ref: MediaRef) -> MediaWindow:
        """Return the file of ``ref``. Raises SourceError, UsageError or RecordError."""
        if ref.path not in self._found:
            try:
                self._found[ref.path] = self._resolve(ref.path)
            except SmolVideoError as error:
                self._found[ref.path] = error
        found = self._found[ref.path]
        if isinstance(found, SmolVideoError):
            raise found
        return replace(found, start_seconds=ref.start_seconds, end_seconds=ref.end_seconds)

    def _resolve(self, path: str) -> MediaWindow:
        if is_url(path):
            raise UsageError(f"`{path[:80]}` is an address: download it first")
        listed = ListedPath(str(self._folder / path), self._folder, self._allow_outside)
        source, *more = resolve_source(listed)
        if more:
            raise UsageError(f"`{path}` is a folder of {1 + len(more)} videos")
        return MediaWindow(source, content_hash(source.path))


def split_items(
    items: Sequence[TuneItem], share: float, seed: int
) -> tuple[list[TuneItem], list[TuneItem]]:
    """Split into training and held-out items, by video: about ``share`` of the items, at least one
    video if there are two, are held out. The same items and seed give the same split."""
    groups = _groups(items)
    if share <= 0 or len(groups) < 2:
        return list(items), []
    ranked = sorted(groups, key=lambda group: _rank(seed, group))
    held: set[int] = set()
    for group in ranked[:-1]:
        if held and len(held) + len(groups[group]) > share * len(items):
            break
        held.update(groups[group])
    train = [item for place, item in enumerate(items) if place not in held]
    return train, [items[place] for place in sorted(held)]


def _rank(seed: int, group: str) -> bytes:
    return hashlib.sha256(f"{seed}/{group}".encode()).digest()


def _groups(items: Sequence[TuneItem]) -> dict[str, list[int]]:
    """Items that share a file, directly or over others: name of the group → places of its items.

    The name is the smallest hash among its files, so that the order of lines does not matter.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for place, item in enumerate(items):
        first, *others = map(root, _files(place, item))
        for other in others:
            low, high = sorted((root(first), root(other)))
            parent[high] = low
    groups: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault(root(next(iter(_files(place, item)))), []).append(place)
    return groups


def _files(place: int, item: TuneItem) -> Iterable[str]:
    return [media.sha256 for media in item.media] or [f"text {item.line.question} {place}"]
