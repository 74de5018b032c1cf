"""Source resolution: paths, URLs and lists, as typed, → local files.

    __init__.py          dispatch by the kind of source
    local.py             files, folders of videos or of frames, glob patterns
    lists.py             lists of sources in a text file, and URL of a playlist → URLs of its videos
    download.py          http(s) URL → file in the cache, through yt-dlp; its progress and limits
    ytdlp.py             yt-dlp's options, and its errors as one line and a hint
    http_only.py         yt-dlp's network guard, decompression with a size limit
    download_cache.py    the cache of downloads
    urls.py              URLs redacted for display; SSRF protection: public and local URLs
    video_source.py      the resulting value, and file kinds by first bytes

Nothing is decoded here. No source passes through a shell, and a name that begins with ``-`` is
taken as a name.
"""

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from smolvideo.credentials import without_credentials
from smolvideo.errors import SourceError, UsageError
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
from smolvideo.source.lists import (
    Entry,
    ListedPath,
    Named,
    playlist_entries,
    read_source_list,
    resolve_listed,
)
from smolvideo.source.local import expand_home, path_of_file_url, resolve_path
from smolvideo.source.urls import display_url, is_web_address, public_name, scheme_of
from smolvideo.source.video_source import VideoSource, describe_non_media, kind_of_file

Sources = VideoSource | str | Path | Sequence[VideoSource | str | Path]
"""One source or several, resolved or as typed by a user."""

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "CacheStats",
    "CachedDownload",
    "DownloadOptions",
    "Entry",
    "ListedPath",
    "Named",
    "Sources",
    "VideoSource",
    "cache_dir",
    "cached_downloads",
    "clear_downloads",
    "describe_non_media",
    "display_url",
    "download_contents",
    "find_cached",
    "is_url",
    "is_web_address",
    "kind_of_file",
    "path_of_file_url",
    "playlist_entries",
    "public_name",
    "read_source_list",
    "resolve_address",
    "resolve_all",
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
    """Resolve one path, ``file://`` or http(s) URL to local sources, in display order.

    A file or URL is one source; a folder of images is one of kind ``frames``; a folder with videos
    is one source per video, with those of its subfolders if ``recursive``. Never empty.

    Raises:
        SourceError: there is nothing, or nothing usable, or it cannot be downloaded.
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
    """Resolve several sources to one list. Raises the SourceError of the first that fails."""
    return [
        source
        for item in given
        for source in resolve_source(
            item, download=download, recursive=recursive, on_progress=on_progress
        )
    ]


def resolve_all(
    sources: Sources,
    *,
    download: DownloadOptions = DownloadOptions(),  # noqa: B008 - frozen
    on_progress: OnProgress = no_progress,
) -> tuple[VideoSource, ...]:
    """Resolve those of ``sources`` that are not resolved yet, in order.

    Raises SourceError, and UsageError for what is neither a path nor a URL.
    """
    listed: Any = sources
    if isinstance(listed, str | bytes) or not isinstance(listed, Iterable):
        listed = [sources]
    found: list[VideoSource] = []
    for item in listed:
        if isinstance(item, VideoSource):
            found.append(item)
        elif isinstance(item, str | os.PathLike):
            found += resolve_source(str(item), download=download, on_progress=on_progress)
        else:
            raise UsageError(f"a source is a path, a URL or a list of them, not {item!r:.60}")
    return tuple(found)


def is_url(given: str) -> bool:
    """Return whether ``resolve_source`` would download this (or find it in the download cache)."""
    return scheme_of(given) in ("http", "https")


def resolve_address(
    url: str,
    download: DownloadOptions = DownloadOptions(),  # noqa: B008 - frozen
    on_progress: OnProgress = no_progress,
    *,
    named_by: str | None = None,
) -> VideoSource:
    """Resolve an http(s) URL, which the list at the URL ``named_by`` may have named.

    ``given`` and ``url`` of the result are without credentials. Raises SourceError.
    """
    found = download_video(url, download, on_progress, named_by=named_by)
    public = without_credentials(url)
    (source,) = resolve_path(public, found.path)
    return VideoSource(public, found.path, source.kind, display_name(found.title), public)
