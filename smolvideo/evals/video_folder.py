"""The files of a folder of videos, found by the names that benchmarks use, or not at all."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from smolvideo.deep_folders import walk
from smolvideo.errors import SourceError
from smolvideo.sanitize import display_name, display_path
from smolvideo.source import VIDEO_SUFFIXES, resolve_source
from smolvideo.source.video_source import is_partial_or_hidden
from smolvideo.unicode_names import normal_form

_MAX_PATHS_SHOWN = 3


class MissingVideo(SourceError):
    """The video of an item is not to be had: counted, and no reason to stop."""


@dataclass(frozen=True)
class _Entry:
    """A file or folder: ``parts`` of its path inside the folder; ``whole`` and, in NFC, ``normal``
    are from the root of the file system, so that a name may begin above the folder.
    """

    path: Path
    parts: tuple[str, ...]
    whole: tuple[str, ...]
    normal: tuple[str, ...]

    def ends_with(self, parts: Sequence[str]) -> bool:
        """Whether the folders above it end with those of a name, whose last part it has."""
        return (
            len(parts) == 1 or self.normal[-len(parts) : -1] == tuple(map(normal_form, parts))[:-1]
        )

    def is_spelled(self, parts: Sequence[str]) -> bool:
        """Whether its path ends with a name character by character, but for the suffix."""
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

    Names out of a benchmark's file are looked up among what lies in the folder; they never become
    paths, so nothing outside can be reached. A name with folders (``day2/cam.mp4``) is found where
    the path ends with all of it, a bare one wherever it is unique; what could be several files is
    none of them. Accents match in NFC and NFD. Hidden and unfinished files do not count.
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
        """List a file that has come into the folder."""
        parts = path.relative_to(self.folder).parts
        whole = self._above + parts
        entry = _Entry(path, parts, whole, tuple(map(normal_form, whole)))
        self._by_name.setdefault(entry.normal[-1], []).append(entry)
        if path.suffix.lower() in VIDEO_SUFFIXES:
            stem = PurePosixPath(entry.normal[-1]).stem
            self._by_stem.setdefault(stem, []).append(entry)

    def find(self, names: Iterable[str], *, foreign: Sequence[str] = ()) -> Path | None:
        """The video that the first of ``names`` finds, each with its suffix or without.

        A bare name finds nothing in the ``foreign`` folders, which hold other videos under the
        same names. Raises MissingVideo where a name could be several files.
        """
        for name in names:
            for parts in _spellings(name):
                found = self._one(name, self._videos(parts, foreign))
                if found is not None:
                    return found
        return None

    def find_subtitles(self, names: Sequence[str], video: Path | None) -> Path | None:
        """The subtitle file of ``video``: beside it, else by its own path or a name that is unique.

        One that lies beside another video of its name belongs to that one. Raises MissingVideo
        where a name could be several files.
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
        """The path of a file inside the folder, with ``/``; of a link, that of its file.

        In NFC, so that copies of a folder on other systems give the same, unless another file's
        path is the same in NFC.
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
        """A file with the bare name of one of ``names``, wherever it lies: for a hint."""
        for name in names:
            for parts in _spellings(name):
                for entry in self._videos(parts[-1:], ()):
                    return entry.path
        return None

    def _videos(self, parts: tuple[str, ...], foreign: Sequence[str]) -> list[_Entry]:
        """What a name may be: with its own suffix first, then with any."""
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
        """The only file among ``entries``; links to one file are one."""
        if len(entries) < 2:
            return entries[0].path if entries else None
        seen = {os.path.realpath(path): path for path in _media(entries)}
        if len(seen) > 1:
            shown = [display_name(self.relative(path)) for path in sorted(seen.values())]
            told = ", ".join(f"`{path}`" for path in shown[:_MAX_PATHS_SHOWN])
            more = ", …" if len(shown) > _MAX_PATHS_SHOWN else ""
            raise MissingVideo(
                f"`{display_name(name)}` is ambiguous ({told}{more})",
                hint="name it by its path inside the folder, or name a smaller folder",
            )
        return next(iter(seen.values()), None)

    def _is_of_another(self, entry: _Entry, video: Path | None) -> bool:
        """Whether the subtitles lie beside a video of their name that is not ``video``."""
        videos = self._by_stem.get(PurePosixPath(entry.normal[-1]).stem, ())
        beside = [other.path for other in videos if other.parts[:-1] == entry.parts[:-1]]
        return bool(beside) and (
            video is None or os.path.realpath(video) not in map(os.path.realpath, beside)
        )


def _spellings(name: str) -> Iterator[tuple[str, ...]]:
    """The parts of a name as it is written, without blanks around it, and with the separators of
    Windows; none of a name that leads upwards.
    """
    written = dict.fromkeys((name, name.strip()))
    for spelled in dict.fromkeys((*written, *(one.replace("\\", "/") for one in written))):
        parts = PurePosixPath(spelled).parts
        if parts and ".." not in parts and parts != ("/",):
            yield parts


def _best(entries: Iterable[_Entry], parts: tuple[str, ...]) -> list[_Entry]:
    """Those whose path ends as the name says; of these the one whose whole path inside the folder
    it is, then those with accents stored as in the name.
    """
    fitting = [entry for entry in entries if entry.ends_with(parts)]
    fitting = [entry for entry in fitting if len(entry.parts) == len(parts)] or fitting
    return [entry for entry in fitting if entry.is_spelled(parts)] or fitting


def _media(entries: Iterable[_Entry]) -> Iterator[Path]:
    """Files as they are; folders that are one video or its frames as that."""
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
