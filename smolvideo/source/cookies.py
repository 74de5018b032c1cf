"""Cookies for sites that require a login: from a Netscape file, or from a browser."""

import io
import re
from pathlib import Path

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
