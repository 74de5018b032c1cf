"""An http(s) address → the addresses of the videos behind it, through yt-dlp's flat extraction."""

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from smolvideo.errors import SmolVideoError, SourceError
from smolvideo.progress import OnProgress, Progress
from smolvideo.source.cache import cache_dir, cached, download_folder
from smolvideo.source.download import DownloadOptions
from smolvideo.source.names import show_url
from smolvideo.source.refusals import refusal
from smolvideo.source.video_source import VIDEO_SUFFIXES
from smolvideo.source.web import WebDoor
from smolvideo.source.ytdlp_options import ytdlp_options


def playlist_addresses(url: str, options: DownloadOptions, on_progress: OnProgress) -> list[str]:
    """The videos of a playlist, channel or feed, in its order; of anything else, ``url`` alone.

    An address that is in the cache, or that names a video file, is not asked about.

    Raises:
        SourceError: the site refuses or nothing is there; offline, an address not in the cache is
            returned as it is, and its download says so.
    """
    known = cached(url, max_height=options.max_height, cache=options.cache_dir)
    if known is not None or options.offline or _names_a_file(url):
        return [url]
    on_progress(Progress("download", label=show_url(url).strip("`")))
    try:
        info = _flat(url, options)
    except SmolVideoError:
        raise
    except Exception as error:  # extractors of thousands of sites: anything may come
        raise refusal(url, error, timeout_seconds=options.timeout_seconds) from error
    if info.get("_type", "video") not in ("playlist", "multi_video"):
        return [url]
    found = [address for entry in info.get("entries") or () if (address := _address(entry))]
    if not found:
        raise SourceError(f"the list {show_url(url)} is empty")
    return found


def _names_a_file(url: str) -> bool:
    try:
        return PurePosixPath(urlsplit(url).path).suffix.lower() in VIDEO_SUFFIXES
    except ValueError:
        return True


def _flat(url: str, options: DownloadOptions) -> dict[str, Any]:
    """What yt-dlp says of the address without following its entries."""
    import yt_dlp

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
    ydl = yt_dlp.YoutubeDL(settings | {"playlist_items": None})
    door = WebDoor(ydl.urlopen)
    try:
        ydl.urlopen = door
        return dict(ydl.extract_info(url, download=False) or {})
    finally:
        door.close()
        ydl.close()


def _address(entry: dict[str, Any] | None) -> str | None:
    address = (entry or {}).get("webpage_url") or (entry or {}).get("url")
    return str(address) if address else None


class _Silent:
    """yt-dlp speaks to this; what matters comes as an error."""

    def debug(self, message: str) -> None:
        """Says nothing."""

    info = warning = error = debug
