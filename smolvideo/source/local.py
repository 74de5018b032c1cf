"""Local sources: files and folders, and errors with a suggestion for mistyped paths."""

import errno
import os
import re
import stat
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from smolvideo.errors import SourceError
from smolvideo.media_types import TEXTUAL_IMAGE_SUFFIXES
from smolvideo.sanitize import display_name, display_path
from smolvideo.source.folders import resolve_folder
from smolvideo.source.urls import closest_match
from smolvideo.source.video_source import VideoSource, describe_non_media, kind_of_file
from smolvideo.unicode_names import existing_path

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
            hint="`smolvideo summarise -a FILE` reads a list of sources"
            if what == "a text"
            else None,
        )
    return [VideoSource(given, path, kind_of_file(path.name, head), display_name(path.name))]


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
