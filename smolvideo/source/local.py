"""Local sources: files, folders and glob patterns; a suggestion for mistyped paths.

Patterns: unlike in ``glob``, a part that exists literally is never a pattern (``films
[2024]/*.mp4``), and accents match in NFC and NFD.

Folders: notices report what is left out: files that are videos by their first bytes but not by
their suffix, and subfolders without read permission.
"""

import errno
import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from smolvideo.errors import SourceError
from smolvideo.file_names import existing_path, normal_form, same_name
from smolvideo.media_types import (
    IMAGE_SUFFIXES,
    TEXTUAL_IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    natural_order,
)
from smolvideo.sanitize import display_name, display_path
from smolvideo.source.urls import closest_match
from smolvideo.source.video_source import (
    VideoSource,
    describe_non_media,
    is_partial_or_hidden,
    kind_of_file,
    starts_like_video,
)


def is_pattern(text: str) -> bool:
    """Return whether ``text`` contains one of ``*``, ``?`` and ``[``."""
    return glob.has_magic(text)


def matching_paths(pattern: str) -> list[Path]:
    """Return the existing paths that match a pattern, unordered, without duplicates.

    ``**`` matches any number of folders, without following links. Hidden names match only if the
    pattern has the dot. Folders without read permission match nothing.
    """
    path = Path(pattern)
    found = [Path(path.anchor)]
    parts = [part for part in path.parts if part != path.anchor]
    for place, part in enumerate(parts):
        is_last = place == len(parts) - 1
        found = [one for folder in found for one in _step(folder, part)]
        if not is_last:
            found = [one for one in found if one.is_dir()]
        elif part == "**":
            found = [*found, *(one for folder in found for one in _files(folder))]
    return list(dict.fromkeys(found))


def _step(folder: Path, part: str) -> list[Path]:
    """Return the paths in a folder that match one part of a pattern."""
    if part == "**":
        return [folder, *_subfolders(folder)]
    if os.path.lexists(folder / part):
        return [folder / part]
    names = _names(folder)
    name = same_name(part, names)
    if name is not None:
        return [folder / name]
    if not is_pattern(part):
        return []
    pattern = normal_form(part)
    return [folder / name for name in names if _matches(normal_form(name), pattern)]


def _matches(name: str, pattern: str) -> bool:
    if name.startswith(".") and not pattern.startswith("."):
        return False
    return fnmatchcase(os.path.normcase(name), os.path.normcase(pattern))


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (OSError, ValueError):
        return []


def _subfolders(folder: Path) -> Iterator[Path]:
    waiting = [folder]
    while waiting:
        parent = waiting.pop()
        for name in _names(parent):
            path = parent / name
            if not name.startswith(".") and path.is_dir() and not path.is_symlink():
                waiting.append(path)
                yield path


def _files(folder: Path) -> list[Path]:
    names = (name for name in _names(folder) if not name.startswith("."))
    return [folder / name for name in names if (folder / name).is_file()]


_MEDIA_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES
_SOUND_SUFFIXES = frozenset({".aac", ".m4a", ".m4b", ".mka", ".mp3", ".oga", ".ogg", ".opus"})
"""Audio files, whose first bytes may be those of a video container."""
_SNIFFED_BYTES = 400
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
            return starts_like_video(file.read(_SNIFFED_BYTES))
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


_HEAD_BYTES = 4096
_NO_SUCH_PATH = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def resolve_path(given: str, path: Path, *, recursive: bool = False) -> list[VideoSource]:
    """Resolve a file to one source; a folder to its videos, or, if it only holds images, to one
    source of frames.

    Accents match in NFC and NFD, links are followed. In a folder, hidden and partial files are
    skipped, and subfolders are scanned only if ``recursive``. A file given by name is never
    skipped.

    Raises:
        SourceError: it is missing, empty, not readable, certainly no video or image, or a folder
            without media.
    """
    path = existing_path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return resolve_folder(given, path, recursive=recursive)
        if not stat.S_ISREG(mode):
            # Opening a pipe could block for ever, and a device has no end.
            raise SourceError(f"{display_path(given)} is not a file but {_special_kind(mode)}")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise path_error(given, path, error) from error
    if not head:
        raise SourceError(
            f"{display_path(given)} is empty (0 bytes)",
            hint="was its download or copy interrupted?",
        )
    what = None if path.suffix.lower() in TEXTUAL_IMAGE_SUFFIXES else describe_non_media(head)
    if what is not None:
        raise SourceError(
            f"{display_path(given)} is {what}, not a video",
            hint=_hint_for_text(path) if what == "a text" else None,
        )
    return [VideoSource(given, path, kind_of_file(path.name, head), display_name(path.name))]


def _hint_for_text(path: Path) -> str:
    """What a text may be instead of a video: a failed download, or a list of sources."""
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return "was its download a page or a message? Open it as a text to see"
    return "`--list FILE` of `summarise`, `index` and `find` reads a list of sources"


def path_of_file_url(url: str) -> Path:
    """Convert ``file:///home/me/a%20b.mp4`` to a path. SourceError for another machine's files."""
    parts = urlsplit(url.strip())
    if parts.netloc.lower() not in ("", "localhost"):
        raise SourceError(
            f"{display_path(url)} points to another machine",
            hint="a file of this machine has three slashes: `file:///home/me/video.mp4`",
        )
    return Path(url2pathname(parts.path))


def expand_home(given: str) -> Path:
    """Expand ``~`` as a shell would; shells do not expand it in quotes, and lists have no shell."""
    path = Path(given)
    if not given.startswith("~"):
        return path
    try:
        return path if path.exists() else path.expanduser()
    except (OSError, RuntimeError, ValueError):  # no such user; path_error reports it
        return path


def _special_kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe, which cannot be read twice"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"


def path_error(given: str, path: Path, error: OSError | ValueError) -> SourceError:
    """Return the error for a ``path`` that cannot be opened, with a suggestion if it is mistyped.

    System calls raise ``ValueError`` for a null byte in a path.
    """
    shown = display_path(given)
    if isinstance(error, ValueError) or error.errno in _NO_SUCH_PATH:
        return SourceError(f"no such file or folder: {shown}", hint=_probably_meant(given, path))
    if error.errno in (errno.EACCES, errno.EPERM):
        denied = shown if error.filename is None else display_path(os.fsdecode(error.filename))
        return SourceError(
            f"no permission to read {denied}",
            hint="its folder or the file itself is closed to this user",
        )
    if error.errno == errno.ELOOP:
        return SourceError(f"{shown} is a link that leads back to itself")
    return SourceError(f"cannot read {shown}: {error.strerror or error}")


def _probably_meant(given: str, path: Path) -> str | None:
    """Return a hint for a missing path: a name similar to the first part that does not exist."""
    if re.match(r"(?:www\.|[\w-]+(?:\.[\w-]+)+/)", given) and not path.parent.is_dir():
        return f"an address begins with `https://`: {display_path('https://' + given)}"
    if os.path.islink(path):
        return f"it is a link to {display_path(os.readlink(path))}, which does not exist"
    missing = path
    try:
        while not missing.parent.exists() and missing.parent != missing:
            missing = missing.parent
        name = closest_match(missing.name, os.listdir(missing.parent))
    except (OSError, ValueError):
        return None
    return f"did you mean {display_path(missing.parent / name)}?" if name else None
