"""Folder sources: the videos of a folder, or the folder as one sequence of frames.

Notices report what is left out: files that are videos by their first bytes but not by their
suffix, and subfolders without read permission.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from smolvideo.errors import SourceError
from smolvideo.media_types import IMAGE_SUFFIXES, VIDEO_SUFFIXES, natural_order
from smolvideo.sanitize import display_name, display_path
from smolvideo.source.video_source import (
    VideoSource,
    is_partial_or_hidden,
    starts_like_video,
)

_MEDIA_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES
_SOUND_SUFFIXES = frozenset({".aac", ".m4a", ".m4b", ".mka", ".mp3", ".oga", ".ogg", ".opus"})
"""Audio files, whose first bytes may be those of a video container."""
_HEAD_BYTES = 400
_MAX_HEADS = 20
"""Maximum number of files per suffix, over all folders, whose first bytes are read."""
_MAX_NAMED = 3


@dataclass
class _Contents:
    """Files found below a folder."""

    media: list[Path] = field(default_factory=list)
    unread: list[tuple[Path, OSError]] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    _heads: Counter[str] = field(default_factory=Counter)

    def add(self, path: Path) -> None:
        """Classify a file by its suffix, or, for an unknown suffix, by its first bytes."""
        suffix = path.suffix.lower()
        if suffix in _MEDIA_SUFFIXES:
            self.media.append(path)
            return
        known = suffix in self.passed_over
        if suffix in _SOUND_SUFFIXES or (self._heads[suffix] >= _MAX_HEADS and not known):
            return
        self._heads[suffix] += 1
        if self._heads[suffix] > _MAX_HEADS or _looks_like_video(path):
            self.passed_over[suffix] += 1

    def notices(self) -> Iterator[str]:
        """Yield messages for the user about files and folders that are left out."""
        if self.passed_over:
            count = sum(self.passed_over.values())
            top = sorted(self.passed_over.items(), key=lambda one: (-one[1], one[0]))[:_MAX_NAMED]
            kinds = ", ".join(f"{many} {suffix or 'without suffix'}" for suffix, many in top)
            more = ", …" if len(self.passed_over) > _MAX_NAMED else ""
            files = "file was" if count == 1 else "files were"
            yield (
                f"{count} {files} passed over that may be videos ({display_name(kinds)}{more}); "
                "a file that is named is used"
            )
        if self.unread:
            folder, error = self.unread[0]
            also = len(self.unread) - 1
            more = f" and {also} other folder{'s' if also > 1 else ''}" if also else ""
            yield f"{display_path(folder)}{more} cannot be read and is left out: {error.strerror}"


def resolve_folder(given: str, folder: Path, *, recursive: bool) -> list[VideoSource]:
    """Return the videos of a folder, or the folder as one source of frames if it only holds images.

    The notices are attached to the first source. Raises OSError for a folder that cannot be read,
    SourceError for one without media.
    """
    found = _contents(folder, recursive=recursive)
    notices = tuple(found.notices())
    files = sorted(found.media, key=lambda path: natural_order(str(path)))
    videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    if videos:
        # Images next to videos are covers and thumbnails.
        sources = [VideoSource(given, path, "video", display_name(path.name)) for path in videos]
    elif any(path.parent == folder for path in files):
        sources = [VideoSource(given, folder, "frames", display_name(folder.resolve().name))]
    else:
        raise SourceError(
            f"no videos or pictures in the folder {display_path(given)}",
            hint=_where_instead(folder) or next(iter(notices), None),
        )
    return [replace(sources[0], notices=notices), *sources[1:]]


def _contents(folder: Path, *, recursive: bool) -> _Contents:
    """Scan a folder, in no order. Raises OSError if the folder itself cannot be read."""
    found = _Contents()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            with os.scandir(current) as entries:
                for entry in entries:
                    if is_partial_or_hidden(entry.name):
                        continue
                    # A link to a folder may form a cycle: only links to files are followed.
                    if recursive and entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif _is_file(entry):
                        found.add(Path(entry.path))
        except OSError as error:
            if current == folder:
                raise
            found.unread.append((current, error))
    return found


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:  # a cycle of links, or a folder without permission
        return False


def _looks_like_video(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return starts_like_video(file.read(_HEAD_BYTES))
    except OSError:
        return False


def _where_instead(folder: Path) -> str | None:
    """Return a hint that names a subfolder with media, or mentions hidden and partial files."""
    names = sorted(os.listdir(folder), key=natural_order)
    for name in names:
        path = folder / name
        try:
            holds_media = (
                path.is_dir()
                and not name.startswith(".")
                and bool(_contents(path, recursive=False).media)
            )
        except OSError:
            continue
        if holds_media:
            return f"its subfolder {display_path(path)} has some"
    if any(is_partial_or_hidden(name) and Path(name).suffix for name in names):
        return "it has hidden or unfinished files only; name a file to use it all the same"
    return None
