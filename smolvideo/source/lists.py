"""Lists of sources: a file with a path or URL per line, and the videos of an online playlist.

A list may come from somebody else, so it may only name files below its own folder, with links and
``..`` resolved, unless ``--allow-outside`` is set. A list from standard input has no folder and is
trusted, since a command of the user wrote it. Lists inside lists are not read.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from smolvideo.errors import SmolVideoError, SourceError
from smolvideo.file_names import existing_path
from smolvideo.media_types import VIDEO_SUFFIXES
from smolvideo.progress import OnProgress, Progress
from smolvideo.sanitize import display_path
from smolvideo.source.download import DownloadOptions
from smolvideo.source.download_cache import cache_dir, download_folder, find_cached
from smolvideo.source.http_only import web_client
from smolvideo.source.local import expand_home, path_error, path_of_file_url
from smolvideo.source.urls import (
    MAX_ENTRIES,
    check_address,
    checked_entry,
    display_url,
    entry_name,
    scheme_of,
)
from smolvideo.source.video_source import VideoSource
from smolvideo.source.ytdlp import to_source_error, ytdlp_options
from smolvideo.text_input import decode_text, read_file_or_pipe

_MAX_LIST_BYTES = 16 * 2**20
"""Maximum bytes of a list; a larger file is a video given by mistake."""


@dataclass(frozen=True)
class ListedPath:
    """A path or ``file://`` URL from a list in ``folder``."""

    given: str
    folder: Path
    allow_outside: bool = False

    def __str__(self) -> str:
        return self.given

    def __fspath__(self) -> str:
        return self.given

    @property
    def path(self) -> Path:
        """The path as written. Raises SourceError for a path on another machine.

        It must not be passed to the file system before this check: on Windows, opening
        ``//machine/share`` sends the user's login hash to that machine.
        """
        is_url = scheme_of(self.given) == "file"
        path = path_of_file_url(self.given) if is_url else Path(self.given)
        if not self.allow_outside and is_on_another_drive(str(path), str(self.folder)):
            raise self._outside()
        return path if is_url else expand_home(self.given)

    def check(self, path: Path) -> None:
        """Raise SourceError if ``path``, with all links resolved, is not one the list may name."""
        if not self.allow_outside and not _is_below(path, self.folder):
            raise self._outside()

    def _outside(self) -> SourceError:
        folder = display_path(os.path.abspath(self.folder))
        return SourceError(
            f"{display_path(self.given)} lies outside {folder}, "
            "the folder of the list that names it",
            hint="`--allow-outside` lets a list name files anywhere",
        )

    def notices(self, path: Path) -> tuple[str, ...]:
        """Return the notice for the record of a file that only ``--allow-outside`` admitted."""
        if not self.allow_outside or _is_below(path, self.folder):
            return ()
        return (
            f"{display_path(path.name)} lies outside the folder of its list (`--allow-outside`)",
        )


Named = str | ListedPath
"""A source as typed, or as named by a list."""


def read_source_list(path: Path, *, allow_outside: bool = False) -> list[Named]:
    """Read one source per line, skipping blank lines and comments (``#`` or ``;``).

    ``-`` is standard input. A relative path is resolved against the current folder if it exists
    there and the list may name it, else against the folder of the list.

    Raises:
        SourceError: the list cannot be read, is no text, or is empty.
    """
    from_stdin = str(path) == "-"
    shown = "standard input" if from_stdin else display_path(path)
    try:
        content = sys.stdin.buffer.read() if from_stdin else _read_bytes(path)
        text = decode_text(content)
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{shown} is not a list of sources", hint="a list is UTF-8 text, one path or URL a line"
        ) from error
    except IsADirectoryError as error:
        raise SourceError(f"{shown} is a folder, not a list of sources") from error
    except (OSError, ValueError) as error:
        raise path_error(str(path), path, error) from error
    lines = (line.strip() for line in text.split("\n"))
    sources = [line for line in lines if line and not line.startswith(("#", ";"))]
    if not sources:
        raise SourceError(f"{shown} names no source", hint="one path or URL a line")
    if from_stdin or not path.is_file() or path.parts[1:2] in (("dev",), ("proc",)):
        # A pipe, or a file descriptor opened by the shell, has no folder either.
        return [*sources]
    return [_named(source, path.parent, allow_outside) for source in sources]


def resolve_listed(
    listed: ListedPath, resolve: Callable[[str, Path], list[VideoSource]]
) -> list[VideoSource]:
    """Resolve a path of a list with ``resolve``, checking every resulting file.

    Raises SourceError from ``resolve``, or for a path that leads out of the list's folder.
    """
    path = existing_path(listed.path)
    listed.check(path)  # first, so that not even the existence of an outside file is revealed
    sources = resolve(listed.given, path)
    for source in sources:
        listed.check(source.path)
        for file in source.path.iterdir() if source.path.is_dir() else ():
            listed.check(file)
    return [
        replace(source, notices=(*source.notices, *listed.notices(source.path)))
        for source in sources
    ]


def _read_bytes(path: Path) -> bytes:
    content = read_file_or_pipe(path, _MAX_LIST_BYTES + 1)
    if len(content) > _MAX_LIST_BYTES:
        raise SourceError(
            f"{display_path(path)} is too large for a list of sources",
            hint="a video is named without `-a`",
        )
    return content


def _named(source: str, folder: Path, allow_outside: bool) -> Named:
    if scheme_of(source) not in (None, "file"):
        return source
    if not allow_outside and is_on_another_drive(source, str(folder)):
        return ListedPath(source, folder)
    try:
        in_list_folder, as_written = existing_path(folder / source), existing_path(Path(source))
        exists_here = as_written.exists() and (allow_outside or _is_below(as_written, folder))
        name = str(in_list_folder) if not exists_here and in_list_folder.exists() else source
    except (OSError, ValueError):  # no valid path: resolving it reports the error
        name = source
    return ListedPath(name, folder, allow_outside)


def is_on_another_drive(name: str, folder: str, paths: ModuleType = os.path) -> bool:
    """Return whether ``name`` is on another drive or machine than ``folder`` (Windows).

    ``paths`` is the module of path functions, ``ntpath`` in tests.
    """
    drive = paths.splitdrive(name)[0]
    own = paths.splitdrive(paths.abspath(folder))[0]
    return bool(drive) and paths.normcase(drive) != paths.normcase(own)


def _is_below(path: Path, folder: Path) -> bool:
    """Return whether ``path`` is inside ``folder``, with links and ``..`` resolved in both."""
    try:
        inside, outer = os.path.realpath(path), os.path.realpath(folder)
        return os.path.commonpath([inside, outer]) == outer
    except (OSError, ValueError):  # a null byte, or another drive of Windows
        return False


_LISTS = ("playlist", "multi_video", "compat_list")
_MAX_HOPS = 5
"""Maximum number of extractor redirects until a list or a video is found."""


@dataclass(frozen=True)
class Entry:
    """One entry of a web playlist: its URL, and why it is refused, if it is."""

    address: str
    error: SourceError | None = None


def playlist_entries(url: str, options: DownloadOptions, on_progress: OnProgress) -> list[Entry]:
    """Return the videos of a playlist, channel or feed, in order; for anything else, ``url`` alone.

    A URL that is in the cache, or ends in a video suffix, is not requested. An entry that is no
    http(s) URL carries an error; its network scope is checked when it is requested
    (``download_video``).

    Raises: SourceError: no valid URL, the site refuses, or the list is empty. Offline, a URL that
    is not in the cache is returned as it is, and its download raises the error.
    """
    check_address(url)
    known = find_cached(url, max_height=options.max_height, cache=options.cache_dir)
    if known is not None or options.offline or _names_a_file(url):
        return [Entry(url)]
    on_progress(Progress("download", label=display_url(url).strip("`")))
    try:
        info, found = _flat(url, options)
    except SmolVideoError:
        raise
    except Exception as error:  # thousands of extractors, without a common error class
        raise to_source_error(url, error, timeout_seconds=options.timeout_seconds) from error
    if info.get("_type", "video") not in _LISTS:
        return [Entry(url)]
    if not found:
        raise SourceError(f"the list {display_url(url)} is empty")
    return found


def _checked(entry: dict[str, Any], list_url: str) -> Entry:
    try:
        return Entry(checked_entry(entry, list_url))
    except SourceError as error:
        return Entry(entry_name(entry), error)


def _names_a_file(url: str) -> bool:
    try:
        return PurePosixPath(urlsplit(url).path).suffix.lower() in VIDEO_SUFFIXES
    except ValueError:
        return True


def _flat(url: str, options: DownloadOptions) -> tuple[dict[str, Any], list[Entry]]:
    """Return yt-dlp's information about a URL and its entries, without extracting the entries."""
    settings = ytdlp_options(
        folder=download_folder(url, options.cache_dir),
        yt_dlp_cache=(options.cache_dir or cache_dir()) / "yt-dlp",
        cookies=options.cookies,
        cookies_from_browser=options.cookies_from_browser,
        max_height=options.max_height,
        timeout_seconds=options.timeout_seconds,
        retries=options.retries,
        logger=_Silent(),
        progress_hook=lambda _: None,
    )
    with web_client(settings, url) as ydl:
        address, info = url, {}
        for _ in range(_MAX_HOPS):
            # process=False: otherwise one entry that yt-dlp cannot process would fail the list.
            info = dict(ydl.extract_info(address, download=False, process=False) or {})
            if info.get("_type") not in ("url", "url_transparent"):
                break
            address = checked_entry(info, url)
        if info.get("_type", "video") not in _LISTS:
            return info, []
        entries = (entry for entry in info.get("entries") or () if entry and entry_name(entry))
        checked = [_checked(entry, url) for entry in islice(entries, MAX_ENTRIES)]
        if next(entries, None) is not None:
            more = (
                f"the list {display_url(url)} names more than {MAX_ENTRIES:,} videos: the rest is"
            )
            checked.append(Entry(f"{url}#more", SourceError(f"{more} left out")))
        return info, checked


class _Silent:
    """Logger that discards yt-dlp's messages; errors are raised."""

    def debug(self, message: str) -> None:
        """Discard the message."""

    info = warning = error = debug
