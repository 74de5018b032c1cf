"""Lookup of video files in a folder by the names that benchmarks use."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from smolvideo.errors import SourceError
from smolvideo.file_names import normal_form
from smolvideo.files import walk
from smolvideo.sanitize import display_name, display_path
from smolvideo.source import VIDEO_SUFFIXES, resolve_source
from smolvideo.source.video_source import is_partial_or_hidden

_MAX_PATHS_SHOWN = 3


class MissingVideo(SourceError):
    """The video of an item is not available: recorded as an error, and no reason to stop."""


@dataclass(frozen=True)
class _Entry:
    """A file or folder: ``parts`` of its path inside the folder; ``whole`` and, in NFC, ``normal``
    start at the root of the file system, so that a name may include folders above.
    """

    path: Path
    parts: tuple[str, ...]
    whole: tuple[str, ...]
    normal: tuple[str, ...]

    def ends_with(self, parts: Sequence[str]) -> bool:
        """Whether the folders above it end with the folders of a name."""
        return (
            len(parts) == 1 or self.normal[-len(parts) : -1] == tuple(map(normal_form, parts))[:-1]
        )

    def is_spelled(self, parts: Sequence[str]) -> bool:
        """Whether its path ends with a name character by character, except the suffix."""
        own = self.whole[-len(parts) :]
        return own[:-1] == tuple(parts)[:-1] and own[-1].startswith(PurePosixPath(parts[-1]).stem)

    def lies_in(self, folder: str) -> bool:
        """Whether ``folder`` (``perception/videos``), or its first part, is above it."""
        wanted = PurePosixPath(folder).parts
        above = self.normal[:-1]
        runs = (above[at : at + len(wanted)] for at in range(len(above)))
        return wanted[0] in self.parts[:-1] or wanted in runs


class VideoFolder:
    """A folder and its subfolders, listed once.

    Names from a benchmark's file are matched with the listed files; they never become paths, so
    nothing outside the folder can be reached. A name with folders (``day2/cam.mp4``) matches if
    the path ends with all of it, a bare name anywhere if it is unique; an ambiguous name matches
    nothing. Accents match in NFC and NFD. Hidden and partial files are ignored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise SourceError(f"no such folder: {display_path(folder)}")
        self._above = Path(os.path.abspath(folder)).parts
        self._by_name: dict[str, list[_Entry]] = {}
        self._by_stem: dict[str, list[_Entry]] = {}
        for parent, subfolders, files in walk(folder):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            for name in (*sorted(files), *subfolders):
                if not is_partial_or_hidden(name):
                    self.add(parent / name)

    def add(self, path: Path) -> None:
        """Add a new file of the folder to the list."""
        parts = path.relative_to(self.folder).parts
        whole = self._above + parts
        entry = _Entry(path, parts, whole, tuple(map(normal_form, whole)))
        self._by_name.setdefault(entry.normal[-1], []).append(entry)
        if path.suffix.lower() in VIDEO_SUFFIXES:
            stem = PurePosixPath(entry.normal[-1]).stem
            self._by_stem.setdefault(stem, []).append(entry)

    def find(self, names: Iterable[str], *, foreign: Sequence[str] = ()) -> Path | None:
        """Return the video with the first of ``names`` that matches, with or without suffix.

        A bare name matches nothing in the ``foreign`` folders, which hold other videos with the
        same names. Raises MissingVideo if a name is ambiguous.
        """
        for name in names:
            for parts in _spellings(name):
                found = self._one(name, self._videos(parts, foreign))
                if found is not None:
                    return found
        return None

    def find_subtitles(self, names: Sequence[str], video: Path | None) -> Path | None:
        """Return the subtitle file of ``video``: next to it, else by its path or a unique name.

        A file next to another video of its name belongs to that video. Raises MissingVideo if a
        name is ambiguous.
        """
        beside = None if video is None else video.parent
        for is_beside in (True, False):
            for name in names:
                for parts in _spellings(name):
                    entries = [
                        entry
                        for entry in self._by_name.get(normal_form(parts[-1]), ())
                        if entry.path.is_file() and (not is_beside or entry.path.parent == beside)
                    ]
                    if not is_beside:
                        own = [one for one in entries if not self._is_of_another(one, video)]
                        entries = _best(own, parts)
                    if found := self._one(name, entries):
                        return found
        return None

    def relative(self, path: Path) -> str:
        """Return the path of a file inside the folder, with ``/``; links are resolved.

        In NFC, so that copies of a folder on other systems give the same path, unless another
        file's path is the same in NFC.
        """
        real, top = Path(os.path.realpath(path)), Path(os.path.realpath(self.folder))
        inside = (
            real.relative_to(top) if real.is_relative_to(top) else path.relative_to(self.folder)
        )
        normal = normal_form(inside.as_posix())
        twins = [
            entry
            for entry in self._by_name.get(normal_form(inside.name), ())
            if normal_form("/".join(entry.parts)) == normal
        ]
        return inside.as_posix() if len(twins) > 1 else normal

    def alike(self, names: Iterable[str]) -> Path | None:
        """Return any file with the bare name of one of ``names``, for a hint."""
        for name in names:
            for parts in _spellings(name):
                for entry in self._videos(parts[-1:], ()):
                    return entry.path
        return None

    def _videos(self, parts: tuple[str, ...], foreign: Sequence[str]) -> list[_Entry]:
        """Candidates for a name: with its own suffix first, then with any."""
        name = PurePosixPath(normal_form(parts[-1]))
        has_suffix = name.suffix.lower() in VIDEO_SUFFIXES
        same = self._by_name.get(name.name, ())
        stem = self._by_stem.get(name.stem if has_suffix else name.name, ())
        for entries in (same, stem) if has_suffix else ((*same, *stem),):
            if len(parts) == 1:
                entries = [one for one in entries if not any(map(one.lies_in, foreign))]
            if found := _best(entries, parts):
                return found
        return []

    def _one(self, name: str, entries: Sequence[_Entry]) -> Path | None:
        """The only file among ``entries``; links to the same file count once."""
        if len(entries) < 2:
            return entries[0].path if entries else None
        seen = {os.path.realpath(path): path for path in _media(entries)}
        if len(seen) > 1:
            shown = [display_name(self.relative(path)) for path in sorted(seen.values())]
            listed_paths = ", ".join(f"`{path}`" for path in shown[:_MAX_PATHS_SHOWN])
            more = ", …" if len(shown) > _MAX_PATHS_SHOWN else ""
            raise MissingVideo(
                f"`{display_name(name)}` is ambiguous ({listed_paths}{more})",
                hint="name it by its path inside the folder, or name a smaller folder",
            )
        return next(iter(seen.values()), None)

    def _is_of_another(self, entry: _Entry, video: Path | None) -> bool:
        """Whether the subtitles are next to a video of their name that is not ``video``."""
        videos = self._by_stem.get(PurePosixPath(entry.normal[-1]).stem, ())
        beside = [other.path for other in videos if other.parts[:-1] == entry.parts[:-1]]
        return bool(beside) and (
            video is None or os.path.realpath(video) not in map(os.path.realpath, beside)
        )


def _spellings(name: str) -> Iterator[tuple[str, ...]]:
    """Yield the parts of a name as written, without surrounding spaces, and with backslashes as
    separators; nothing for a name with ``..``.
    """
    written = dict.fromkeys((name, name.strip()))
    for spelled in dict.fromkeys((*written, *(one.replace("\\", "/") for one in written))):
        parts = PurePosixPath(spelled).parts
        if parts and ".." not in parts and parts != ("/",):
            yield parts


def _best(entries: Iterable[_Entry], parts: tuple[str, ...]) -> list[_Entry]:
    """Entries whose path ends with the name; preferably the one with exactly this path inside the
    folder, then the ones whose accents are encoded as in the name.
    """
    fitting = [entry for entry in entries if entry.ends_with(parts)]
    fitting = [entry for entry in fitting if len(entry.parts) == len(parts)] or fitting
    return [entry for entry in fitting if entry.is_spelled(parts)] or fitting


def _media(entries: Iterable[_Entry]) -> Iterator[Path]:
    """Yield files, and folders that are one video or its frames."""
    for entry in entries:
        if not entry.path.is_dir():
            yield entry.path
            continue
        try:
            sources = resolve_source(str(entry.path))
        except SourceError:
            continue
        if len(sources) == 1:
            yield sources[0].path
