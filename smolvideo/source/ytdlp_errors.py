"""Translation of yt-dlp's errors to one line and a hint, by patterns in the message.

yt-dlp raises few exception types with many messages: its extractors pass on those of thousands of
sites. The URL and the video's id are removed before matching, since they could contain any word.
"""

import re
from typing import NamedTuple

from smolvideo.credentials import WebAddress
from smolvideo.errors import SourceError
from smolvideo.sanitize import display_name
from smolvideo.source.urls import display_url

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
