"""Parameters of ``yt_dlp.YoutubeDL``, each with its reason."""

from pathlib import Path
from typing import Any

from smolvideo.source.cookies import browser_fields, cookie_text

_FORMAT = "bv*[protocol~='^(https?|m3u8|m3u8_native|http_dash_segments)$']"
"""The best format with video, with or without audio, over a protocol that yt-dlp implements
itself."""


def ytdlp_options(
    *,
    folder: Path,
    yt_dlp_cache: Path,
    cookies: Path | None,
    cookies_from_browser: str | None,
    max_height: int | None,
    timeout_seconds: float,
    retries: int,
    logger: Any,
    progress_hook: Any,
) -> dict[str, Any]:
    """Return the parameters of ``yt_dlp.YoutubeDL`` for one video, stored as ``video.…``.

    Raises:
        SourceError: the cookies file cannot be read, or has no cookies.
        UsageError: unknown browser.
    """
    return {
        # The name contains the format: two formats never share a partial file.
        "outtmpl": {"default": "video.%(format_id).40s.%(ext)s"},
        "restrictfilenames": True,
        "format": _FORMAT,
        "format_sort": _format_order(max_height),
        "noplaylist": True,
        # Two entries are enough to detect a list.
        "playlist_items": "1-2",
        "extract_flat": "in_playlist",
        "socket_timeout": timeout_seconds,
        "retries": retries,
        "fragment_retries": retries,
        "extractor_retries": retries,
        "retry_sleep_functions": {kind: _seconds_before_retry for kind in ("http", "fragment")},
        # A skipped fragment would be an unreported gap in the video.
        "skip_unavailable_fragments": False,
        "continuedl": True,
        "overwrites": False,
        "updatetime": False,
        # No ffmpeg: its downloads bypass our limits and progress hook.
        "ffmpeg_location": str(folder / "no-ffmpeg"),
        "external_downloader": "native",
        "hls_prefer_native": True,
        "fixup": "never",
        "cachedir": str(yt_dlp_cache),
        "cookiefile": None if cookies is None else cookie_text(cookies),
        "cookiesfrombrowser": cookies_from_browser and browser_fields(cookies_from_browser),
        "enable_file_urls": False,
        "logger": logger,
        "progress_hooks": [progress_hook],
        "quiet": True,
        "noprogress": True,
        "consoletitle": False,
        "color": "never",
    }


def _format_order(max_height: int | None) -> list[str]:
    """Return yt-dlp's sort order: resolution nearest to the limit from below, about 30 frames a
    second, SDR, codecs that every reader decodes, then small files.

    The model takes images of a few hundred pixels, so a higher bit rate at equal size is useless.
    """
    resolution = "res" if max_height is None else f"res:{max_height}"
    return [resolution, "fps:30", "hdr:sdr", "vcodec:h264", "proto", "+size", "+br"]


def _seconds_before_retry(n: int) -> float:
    return min(0.5 * 2.0**n, 8.0)
