"""URLs: shown without credentials, and kept out of this machine and its network (SSRF).

A list, page or redirect from the public web that names ``http://127.0.0.1/`` or a cloud's metadata
service would make this machine send requests for an attacker (server-side request forgery). So a
URL may only lead to the same scope as the URL that named it, or to a more public one.

An entry of a playlist is an absolute http(s) URL. ``file:`` and all other schemes, paths of any
system, and names that resemble paths are refused. Relative URLs are refused, too: in formats that
have them (XSPF, HTML, HLS), yt-dlp has resolved them against the URL of the list, and RSS, whose
entries are passed on as they are, requires absolute URLs
(https://www.rssboard.org/rss-specification#ltenclosuregtSubelementOfLtitemgt).
"""

import ipaddress
import os
import re
import socket
import unicodedata
import urllib.request
from collections.abc import Iterable
from difflib import get_close_matches
from enum import IntEnum
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from smolvideo.credentials import redact, without_credentials
from smolvideo.errors import SourceError
from smolvideo.sanitize import display_path

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


def display_url(url: str) -> str:
    """Return a URL in backticks, for messages, without credentials."""
    return display_path(without_credentials(url))


def public_name(given: str) -> str:
    """Return a source as typed, but a URL without its credentials.

    Malformed URLs are redacted, too: ``http:/me:secret@host``, ``www.host/?token=secret``.
    """
    if scheme_of(given) not in (None, "file"):
        return without_credentials(given)
    meant = any(mark in given for mark in ":?@") and not os.path.lexists(given.replace("\0", ""))
    return redact(given) if meant else given


def scheme_of(given: str) -> str | None:
    """Return the scheme in lower case: ``https`` for ``HTTPS://…``; None for a path."""
    match = _SCHEME.match(given.strip())
    return match[1].lower() if match else None


def closest_match(wanted: str, names: Iterable[str]) -> str | None:
    """Return the name equal but for case or Unicode form, else the most similar; None if none
    is."""
    by_plain_form = {_plain_form(name): name for name in sorted(names, reverse=True)}
    matches = get_close_matches(_plain_form(wanted), by_plain_form, n=1, cutoff=0.7)
    return by_plain_form[matches[0]] if matches else None


def _plain_form(name: str) -> str:
    # macOS stores decomposed letters, keyboards type composed ones; both look the same.
    return unicodedata.normalize("NFKC", name).casefold()


_WEB_SCHEMES = ("http", "https")
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 addresses embedded by NAT64 (RFC 6052)."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reach(IntEnum):
    """Network scope of a URL, from public to local; a URL may only name URLs of an equal or lower
    value."""

    PUBLIC = 0
    PRIVATE = 1
    THIS_MACHINE = 2
    LINK_LOCAL = 3
    """The local link, where clouds serve the credentials of a machine (metadata service)."""


_WHERE = {
    Reach.PRIVATE: "an address of a private network",
    Reach.THIS_MACHINE: "this machine itself",
    Reach.LINK_LOCAL: "a link-local address",
}


def reach_of(url: str) -> Reach:
    """Return the scope of an http(s) URL: the most local of all addresses of its host.

    Host names are resolved as for a connection, so that ``127.1``, ``0x7f000001`` and a DNS name
    that points to a private address are recognised. An unresolvable name, or one that a proxy will
    resolve, counts as public.
    """
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    return _reach_of_host(host) if host else Reach.PUBLIC


def check_named(url: str, by: str, reach: Reach) -> None:
    """Raise SourceError unless ``by``, which is in scope ``reach``, may name ``url``."""
    own = reach_of(url)
    if own > reach:
        raise SourceError(
            f"{display_url(by)} leads to {display_url(url)}, {_WHERE[own]}",
            hint="what the web names may not lead there; if you trust it, give that address itself",
        )


def is_web_address(text: str) -> bool:
    """Return whether ``text`` is exactly an http(s) URL with a host."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    odd = any(ord(char) < 0x20 or char == "\x7f" for char in text) or "\\" in parts.netloc
    return not odd and parts.scheme.lower() in _WEB_SCHEMES and bool(parts.hostname)


@lru_cache(maxsize=4096)
def _reach_of_host(host: str) -> Reach:
    return max(map(reach_of_address, _addresses(host)), default=Reach.PUBLIC)


def _addresses(host: str) -> list[_Address]:
    if f".{host}".rstrip(".").endswith(".localhost"):  # RFC 6761
        return [ipaddress.IPv4Address("127.0.0.1")]
    bare = host.partition("%")[0]  # fe80::1%eth0
    try:
        return [ipaddress.ip_address(bare)]
    except ValueError:
        pass
    numeric = socket.AI_NUMERICHOST if _asks_a_proxy(host) else 0
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=numeric)
    except (OSError, UnicodeError):  # connecting will report the error
        return []
    return [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]


def _asks_a_proxy(host: str) -> bool:
    return bool(urllib.request.getproxies()) and not urllib.request.proxy_bypass(host)


def reach_of_address(address: _Address) -> Reach:
    """Return the scope of an IP address, of the IPv4 address inside of it where it embeds one."""
    inner = _inside(address)
    if inner is not None:
        return reach_of_address(inner)
    if address.is_link_local:
        return Reach.LINK_LOCAL
    if address.is_loopback or address.is_unspecified:
        return Reach.THIS_MACHINE
    return Reach.PUBLIC if address.is_global and not address.is_multicast else Reach.PRIVATE


def _inside(address: _Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address embedded in an IPv6 address, None if there is none."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


MAX_ENTRIES = 100_000
_SMUGGLED = "#__youtubedl_smuggle="
"""Marks data that yt-dlp passes from a playlist to an entry's extractor; not part of the URL."""


def check_address(url: str) -> None:
    """Raise SourceError unless ``url`` is an absolute http(s) URL."""
    if not is_web_address(url.partition(_SMUGGLED)[0].strip()):
        raise SourceError(f"not a valid address: {display_url(url)}")


def checked_entry(entry: dict[str, Any], list_url: str) -> str:
    """Return the URL of an entry of the list at ``list_url``. Raises SourceError if invalid."""
    address = entry_name(entry)
    if not is_web_address(address.partition(_SMUGGLED)[0]):
        raise SourceError(
            f"the list {display_url(list_url)} names {display_url(address)}, "
            "which is no web address",
            hint="a list from the web may name http:// and https:// addresses only, and no files",
        )
    return address


def entry_name(entry: dict[str, Any]) -> str:
    """Return the URL that an entry names, unvalidated; empty if there is none."""
    formats = entry.get("formats") or ()
    own = entry.get("url") or (formats[-1].get("url") if formats else None)
    # Entries with embedded formats have the list's URL as ``webpage_url``.
    whole = entry.get("webpage_url")
    if entry.get("_type", "video") == "video" and own:
        whole = own
    return str(whole or own or "").strip()
