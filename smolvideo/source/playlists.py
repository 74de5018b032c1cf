"""Playlist expansion: http(s) URL → URLs of its videos, by yt-dlp's flat extraction."""

from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from smolvideo.errors import SmolVideoError, SourceError
from smolvideo.media_types import VIDEO_SUFFIXES
from smolvideo.progress import OnProgress, Progress
from smolvideo.source.download import DownloadOptions
from smolvideo.source.download_cache import cache_dir, download_folder, find_cached
from smolvideo.source.http_only import web_client
from smolvideo.source.urls import MAX_ENTRIES, check_address, checked_entry, display_url, entry_name
from smolvideo.source.ytdlp import to_source_error, ytdlp_options

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
