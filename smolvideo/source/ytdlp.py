"""Parameters of yt-dlp, each with its reason, and translation of yt-dlp's errors.

Cookies are for sites that require a login: from a Netscape file, or from a browser.

yt-dlp raises few exception types with many messages: its extractors pass on those of thousands of
sites. The URL and the video's id are removed before matching, since they could contain any word.
"""

import io
import re
from pathlib import Path
from typing import Any, NamedTuple

from smolvideo.credentials import WebAddress
from smolvideo.errors import SourceError, UsageError
from smolvideo.sanitize import display_name, display_path
from smolvideo.source.local import path_error
from smolvideo.source.urls import display_url
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


_LOGIN = (
    "if a browser on this machine may see it: `--cookies-from-browser firefox` (chrome, safari, …),"
    " or `--cookies FILE`"
)
_AGAIN = "run the same command again: what has arrived is kept, and it goes on from there"
_UPDATE = "sites change often; a newer yt-dlp may help: `pip install --upgrade yt-dlp`"
_ADDRESS = "check the address in a browser"


class _ErrorPattern(NamedTuple):
    pattern: str  # regular expression, matched anywhere, ignoring case
    message: str
    hint: str | None


# The first match wins: specific patterns precede general ones.
_REFUSALS = (
    _ErrorPattern(
        r"cookies database|load cookies|netscape format|unsupported (?:browser|keyring)|decrypt",
        "the cookies for {url} cannot be read: {reason}",
        "close the browser and try again, or export them: `--cookies FILE` (Netscape format)",
    ),
    _ErrorPattern(r"not a bot|captcha|anti-bot", "the site of {url} wants to see a person", _LOGIN),
    _ErrorPattern(
        r"not available (?:in|from) your (?:country|location|region)|geo.?restrict|in your country"
        r"|HTTP Error 451",
        "{url} is not available in this country",
        "a proxy elsewhere is used if HTTPS_PROXY names one",
    ),
    _ErrorPattern(r"\bDRM\b", "{url} is encrypted (DRM), no program may fetch it", None),
    _ErrorPattern(
        r"age.?restrict|confirm your age", "{url} is only shown to signed-in adults", _LOGIN
    ),
    _ErrorPattern(r"\bprivate\b", "{url} is private", _LOGIN),
    _ErrorPattern(
        r"members.only|sign in|log ?in\b|logged.in|registered users|authenticat|subscri"
        r"|HTTP Error 401",
        "{url} needs a login",
        _LOGIN,
    ),
    _ErrorPattern(r"HTTP Error 403", "the server refuses to hand out {url} (403)", _LOGIN),
    _ErrorPattern(r"HTTP Error 404", "there is nothing at {url} (404)", _ADDRESS),
    _ErrorPattern(r"HTTP Error 410", "{url} is no longer there (410)", _ADDRESS),
    _ErrorPattern(
        r"HTTP Error 429", "the server of {url} has had too many requests (429)", "wait a while"
    ),
    _ErrorPattern(
        r"HTTP Error 5\d\d", "the server of {url} has a fault of its own: {reason}", _AGAIN
    ),
    _ErrorPattern(
        r"redirect\w* to url|redirect loop|HTTP Error 3\d\d",
        "{url} leads to an address that cannot be followed",
        _ADDRESS,
    ),
    _ErrorPattern(
        r"unsupported url|no (?:video|media) (?:could be )?found|unable to extract",
        "no video found at {url}",
        f"give the address of the video itself; {_UPDATE}",
    ),
    _ErrorPattern(
        r"premieres? in|event will begin|not (?:yet )?started|upcoming|not currently live",
        "{url} has not begun yet",
        None,
    ),
    _ErrorPattern(
        r"requested format is not available|no video formats",
        "{url} offers no video that can be fetched (sound only, or a stream of an unknown kind)",
        _UPDATE,
    ),
    _ErrorPattern(
        r"timed? ?out",
        "{url}: the server went silent for {timeout:g} seconds",
        _AGAIN,
    ),
    _ErrorPattern(
        r"no space left|disk quota", "the disk is full: {url} does not fit", "make room; " + _AGAIN
    ),
    _ErrorPattern(
        r"certificate",
        "the certificate of {url} cannot be trusted: {reason}",
        "check the date and time",
    ),
    _ErrorPattern(
        r"name or service not known|getaddrinfo|name resolution|nodename nor servname"
        r"|no address assoc",
        "no such host, or no network: {url}",
        "check the address and the connection",
    ),
    _ErrorPattern(
        r"connection refused|unreachable|no route to host|actively refused",
        "nothing answers at {url}",
        "check the address and the connection",
    ),
    _ErrorPattern(
        r"more expected|expected \d+ bytes|too short|any data blocks|connection reset"
        r"|closed connection|remote end"
        r"|broken",
        "the transfer of {url} broke off",
        _AGAIN,
    ),
    _ErrorPattern(
        r"unavailable|removed|no longer|does not exist|deleted|terminated|not found",
        "{url} is no longer there: {reason}",
        _ADDRESS,
    ),
)


def to_source_error(url: str, error: BaseException | str, *, timeout_seconds: float) -> SourceError:
    """Translate what yt-dlp raised (or logged, if it raises nothing) about ``url``."""
    reason = _plain_reason(url, str(error))
    for sign, says, hint in _REFUSALS:
        if re.search(sign, reason, re.IGNORECASE):
            line = says.format(
                url=display_url(url), reason=_shortened(reason), timeout=timeout_seconds
            )
            return SourceError(line, hint=hint)
    return SourceError(f"cannot download {display_url(url)}: {_shortened(reason)}", hint=_UPDATE)


def _plain_reason(url: str, message: str) -> str:
    address = WebAddress(url)
    text = address.hide_in(message.replace(url, " ").replace(address.public, " "))
    text = display_name(text, max_length=10_000)
    text = re.sub(r"<_io\.\w+[^>]{0,200}>", "the file", text)
    text = re.sub(r"^(?:ERROR: )?(?:\[[\w:+.-]+\] )?", "", text)
    # "Downloading x: HTTP Error 404": remove the video's id, which has no blanks.
    text = re.sub(r"^\S+: (?=\S)", "", text)
    return re.sub(r";? ?please report this issue on.*", "", text, flags=re.IGNORECASE)


def _shortened(reason: str) -> str:
    """Return the first sentence, without the Python objects that yt-dlp appends."""
    reason = re.sub(r" ?\(caused by .*", "", reason)
    return display_name(re.split(r"(?<=\w{3})\. ", reason)[0], max_length=160).rstrip(".")
