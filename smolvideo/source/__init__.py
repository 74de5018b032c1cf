"""What the user typed → local files.

    __init__.py      which kind of thing was typed
    local.py         files, folders of videos, folders of frames
    lists.py         lists of sources in a text file
    playlists.py     an address of many videos → their addresses
    download.py      an http(s) address → a file in the cache, through yt-dlp
    ytdlp_options.py, cookies.py, web.py, transfer.py
                     how yt-dlp is set up, what it may reach, and the watch over a transfer
    refusals.py      what yt-dlp reports, as one line and a hint
    cache.py         where downloads are kept, and which ones
    names.py         addresses made fit to be shown, and the name that was probably meant
    video_source.py  the value that comes out

Nothing is decoded here. What is typed never passes through a shell, and a name that begins with
``-`` is a name.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from smolvideo.errors import SourceError
from smolvideo.progress import OnProgress, no_progress
from smolvideo.safe_text import clean_name
from smolvideo.source.cache import (
    CacheContents,
    CachedDownload,
    cache_dir,
    cached,
    cached_downloads,
    clear_downloads,
    download_contents,
)
from smolvideo.source.download import DownloadOptions, download_video
from smolvideo.source.lists import read_source_list
from smolvideo.source.local import path_of_file_url, resolve_path
from smolvideo.source.names import show_url
from smolvideo.source.playlists import playlist_addresses
from smolvideo.source.video_source import IMAGE_SUFFIXES, VIDEO_SUFFIXES, VideoSource

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "CacheContents",
    "CachedDownload",
    "DownloadOptions",
    "VideoSource",
    "cache_dir",
    "cached",
    "cached_downloads",
    "clear_downloads",
    "download_contents",
    "is_url",
    "playlist_addresses",
    "read_source_list",
    "resolve_source",
    "resolve_sources",
    "show_url",
]

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


def resolve_source(
    given: str,
    *,
    download: DownloadOptions = DownloadOptions(),  # noqa: B008 - frozen
    recursive: bool = False,
    on_progress: OnProgress = no_progress,
) -> list[VideoSource]:
    """The local things behind one path, ``file://`` or http(s) URL, in the order to look at them.

    A file or URL is one source; a folder of pictures is one of kind ``frames``; a folder with
    videos is its videos, those of its subfolders too if ``recursive``. The list is never empty.

    Raises:
        SourceError: nothing is there, nothing usable is there, or it cannot be downloaded.
    """
    if not given.strip():
        raise SourceError("the name of the source is empty")
    scheme = _scheme(given)
    if scheme in ("http", "https"):
        return [_resolve_url(given.strip(), download, on_progress)]
    if scheme == "file":
        return resolve_path(given, path_of_file_url(given.strip()), recursive=recursive)
    path = _expand_home(given)
    if scheme is not None and not path.parent.is_dir():
        raise SourceError(
            f"`{scheme}://` addresses are not supported: {show_url(given)}",
            hint="use an `http://` or `https://` address, or download the file first",
        )
    return resolve_path(given, path, recursive=recursive)


def resolve_sources(
    given: Sequence[str],
    *,
    download: DownloadOptions = DownloadOptions(),  # noqa: B008 - frozen
    recursive: bool = False,
    on_progress: OnProgress = no_progress,
) -> list[VideoSource]:
    """``resolve_source`` for each, one list; the first that fails ends it with its
    ``SourceError``.
    """
    return [
        source
        for item in given
        for source in resolve_source(
            item, download=download, recursive=recursive, on_progress=on_progress
        )
    ]


def is_url(given: str) -> bool:
    """Whether ``resolve_source`` would look for this on the network (or in the download cache)."""
    return _scheme(given) in ("http", "https")


def _scheme(given: str) -> str | None:
    match = _SCHEME.match(given.strip())
    return match[1].lower() if match else None


def _expand_home(given: str) -> Path:
    # The shell expands `~` unless the name was quoted, or came from a list.
    path = Path(given)
    if not given.startswith("~"):
        return path
    try:
        return path if path.exists() else path.expanduser()
    except (OSError, RuntimeError, ValueError):  # no such user; path_error says the rest
        return path


def _resolve_url(url: str, options: DownloadOptions, on_progress: OnProgress) -> VideoSource:
    found = download_video(url, options, on_progress)
    (source,) = resolve_path(url, found.path)
    return VideoSource(url, found.path, source.kind, clean_name(found.title), url)
