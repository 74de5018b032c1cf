"""What the user typed → local files.

    __init__.py      which kind of thing was typed
    local.py         files
    folders.py       folders of videos, folders of frames
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

from collections.abc import Sequence
from functools import partial

from smolvideo.credentials import without_credentials
from smolvideo.errors import SourceError
from smolvideo.media_types import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from smolvideo.progress import OnProgress, no_progress
from smolvideo.sanitize import display_name
from smolvideo.source.download import DownloadOptions, download_video
from smolvideo.source.download_cache import (
    CachedDownload,
    CacheStats,
    cache_dir,
    cached_downloads,
    clear_downloads,
    download_contents,
    find_cached,
)
from smolvideo.source.lists import ListedPath, Named, read_source_list, resolve_listed
from smolvideo.source.local import expand_home, path_of_file_url, resolve_path
from smolvideo.source.playlists import Entry, playlist_entries
from smolvideo.source.urls import display_url, public_name, scheme_of
from smolvideo.source.video_source import VideoSource

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "CacheStats",
    "CachedDownload",
    "DownloadOptions",
    "Entry",
    "ListedPath",
    "Named",
    "VideoSource",
    "cache_dir",
    "cached_downloads",
    "clear_downloads",
    "display_url",
    "download_contents",
    "find_cached",
    "is_url",
    "playlist_entries",
    "public_name",
    "read_source_list",
    "resolve_address",
    "resolve_source",
    "resolve_sources",
]


def resolve_source(
    given: Named,
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
    if isinstance(given, ListedPath):
        return resolve_listed(given, partial(resolve_path, recursive=recursive))
    if not given.strip():
        raise SourceError("the name of the source is empty")
    scheme = scheme_of(given)
    if scheme in ("http", "https"):
        return [resolve_address(given.strip(), download, on_progress)]
    if scheme == "file":
        return resolve_path(given, path_of_file_url(given), recursive=recursive)
    path = expand_home(given)
    if scheme is not None and not path.parent.is_dir():
        raise SourceError(
            f"`{scheme}://` addresses are not supported: {display_url(given)}",
            hint="use an `http://` or `https://` address, or download the file first",
        )
    return resolve_path(given, path, recursive=recursive)


def resolve_sources(
    given: Sequence[Named],
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
    return scheme_of(given) in ("http", "https")


def resolve_address(
    url: str,
    download: DownloadOptions = DownloadOptions(),  # noqa: B008 - frozen
    on_progress: OnProgress = no_progress,
    *,
    named_by: str | None = None,
) -> VideoSource:
    """The video of an http(s) address, which the list at the address ``named_by`` may have named.

    Its ``given`` and ``url`` are without credentials. Raises SourceError.
    """
    found = download_video(url, download, on_progress, named_by=named_by)
    public = without_credentials(url)
    (source,) = resolve_path(public, found.path)
    return VideoSource(public, found.path, source.kind, display_name(found.title), public)
