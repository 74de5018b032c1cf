"""Parameters of ``yt_dlp.YoutubeDL``, each with its reason.

Cookies are for sites that require a login: from a Netscape file, or from a browser.
"""

import io
import re
from pathlib import Path
from typing import Any

from smolvideo.errors import SourceError, UsageError
from smolvideo.sanitize import display_path
from smolvideo.source.local import path_error
from smolvideo.text_input import decode_text, read_file_or_pipe

_BROWSER = re.compile(
    r"(?P<name>[^+:]+)(?:\+(?P<keyring>[^:]+))?(?::(?!:)(?P<profile>.+?))?(?:::(?P<container>.+))?"
)

_COOKIE_LINE = re.compile(r"(?:[^\t]*\t){4}(?:\d+(?:\.\d+)?)?\t[^\t]*\t[^\t]*")
"""Netscape's columns: domain, include subdomains, path, secure, expires, name, value."""


def cookie_text(path: Path) -> io.StringIO:
    """Return the cookies of a Netscape file as text for yt-dlp.

    yt-dlp gets text because it would write cookies back into a file, and only valid lines because
    it reports others on stderr.

    Raises:
        SourceError: the file cannot be read, or has no cookie.
    """
    try:
        lines = decode_text(read_file_or_pipe(path)).splitlines()
    except UnicodeDecodeError:
        lines = []
    except (OSError, ValueError) as error:
        raise path_error(str(path), path, error) from error
    # A line with the prefix "#HttpOnly_" is a cookie, any other "#" begins a comment.
    marked = (line.removeprefix("#HttpOnly_") for line in lines)
    fit = (line for line in marked if not line.startswith("#") and _COOKIE_LINE.fullmatch(line))
    cookies = [_with_dot(line) for line in fit]
    if not cookies:
        raise SourceError(
            f"no cookies in {display_path(path)}",
            hint="it must be the text in Netscape format that browser extensions export",
        )
    return io.StringIO("\n".join(["# Netscape HTTP Cookie File", *cookies, ""]))


def _with_dot(line: str) -> str:
    """Make the domain's leading dot and the subdomain column of a cookie agree.

    Browser extensions write one without the other; yt-dlp would refuse the whole file, and print
    the line.
    """
    domain, subdomains, rest = line.split("\t", 2)
    whole = domain.startswith(".") or subdomains.upper() == "TRUE"
    return f".{domain.lstrip('.')}\tTRUE\t{rest}" if whole else f"{domain}\tFALSE\t{rest}"


def browser_fields(specification: str) -> tuple[str, str | None, str | None, str | None]:
    """Split ``chrome+gnomekeyring:Profile 1`` or ``firefox::Work`` into (browser, profile, keyring,
    container).

    Raises:
        UsageError: a browser that yt-dlp does not support.
    """
    from yt_dlp.cookies import SUPPORTED_BROWSERS

    match = _BROWSER.fullmatch(specification.strip())
    name = match["name"].strip().lower() if match else ""
    if match is None or name not in SUPPORTED_BROWSERS:
        raise UsageError(
            f"no cookies from a browser called {display_path(specification)}",
            hint=f"it can be one of {', '.join(sorted(SUPPORTED_BROWSERS))}",
        )
    keyring = match["keyring"]
    return name, match["profile"], keyring and keyring.strip().upper(), match["container"]


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
