"""How near an address is: what is named by strangers never leads into this machine or its network.

A list, a page or a redirect from the public web that names ``http://127.0.0.1/`` or the metadata
service of a cloud would have this machine ask on a stranger's behalf (server-side request forgery).
So what is named may be as far away as what named it, or farther, never nearer.
"""

import ipaddress
import socket
import urllib.request
from enum import IntEnum
from functools import lru_cache
from urllib.parse import urlsplit

from smolvideo.errors import SourceError
from smolvideo.source.urls import display_url

_WEB_SCHEMES = ("http", "https")
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 addresses behind NAT64 (RFC 6052)."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reach(IntEnum):
    """From far to near. What is named may be at most as near as what names it."""

    PUBLIC = 0
    PRIVATE = 1
    THIS_MACHINE = 2
    LINK_LOCAL = 3
    """The network cable itself, where clouds keep the credentials of a machine."""


_WHERE = {
    Reach.PRIVATE: "an address of a private network",
    Reach.THIS_MACHINE: "this machine itself",
    Reach.LINK_LOCAL: "a link-local address",
}


def reach_of(url: str) -> Reach:
    """Where an http(s) address leads: the nearest of all that its host stands for.

    Names are looked up as for a connection, so that ``127.1``, ``0x7f000001`` and a name that
    someone has pointed at a private address are seen for what they are. A name that is not known
    here, or that a proxy will look up, counts as public.
    """
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    return _reach_of_host(host) if host else Reach.PUBLIC


def check_named(url: str, by: str, reach: Reach) -> None:
    """See that ``by``, which lies at ``reach``, may name ``url``. Raises SourceError."""
    own = reach_of(url)
    if own > reach:
        raise SourceError(
            f"{display_url(by)} leads to {display_url(url)}, {_WHERE[own]}",
            hint="what the web names may not lead there; if you trust it, give that address itself",
        )


def is_web_address(text: str) -> bool:
    """Whether ``text``, as it stands, is an http(s) address with a host, and nothing else."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    odd = any(ord(char) < 0x20 or char == "\x7f" for char in text) or "\\" in parts.netloc
    return not odd and parts.scheme.lower() in _WEB_SCHEMES and bool(parts.hostname)


@lru_cache(maxsize=4096)
def _reach_of_host(host: str) -> Reach:
    return max(map(_reach_of_address, _addresses(host)), default=Reach.PUBLIC)


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
    except (OSError, UnicodeError):  # the connection will say why
        return []
    return [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]


def _asks_a_proxy(host: str) -> bool:
    return bool(urllib.request.getproxies()) and not urllib.request.proxy_bypass(host)


def _reach_of_address(address: _Address) -> Reach:
    inner = _inside(address)
    if inner is not None:
        return _reach_of_address(inner)
    if address.is_link_local:
        return Reach.LINK_LOCAL
    if address.is_loopback or address.is_unspecified:
        return Reach.THIS_MACHINE
    return Reach.PUBLIC if address.is_global and not address.is_multicast else Reach.PRIVATE


def _inside(address: _Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
