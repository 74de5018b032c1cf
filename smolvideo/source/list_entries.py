"""What a list from the web may name: addresses of the web, and nothing on this machine.

``file:`` and all other schemes, paths of any system, and names that only look like paths are
refused. A relative name is refused, too: the formats that have them (XSPF, HTML, HLS) are resolved
by yt-dlp against the address of the list, and RSS, whose entries come as they are, demands whole
addresses (https://www.rssboard.org/rss-specification#ltenclosuregtSubelementOfLtitemgt).
"""

from typing import Any

from smolvideo.errors import SourceError
from smolvideo.source.address_scope import is_web_address
from smolvideo.source.urls import display_url

MAX_ENTRIES = 100_000
_SMUGGLED = "#__youtubedl_smuggle="
"""What yt-dlp hands from a list to the extractor of an entry: no part of the address."""


def check_address(url: str) -> None:
    """See that ``url`` is a whole http(s) address. Raises SourceError."""
    if not is_web_address(url.partition(_SMUGGLED)[0].strip()):
        raise SourceError(f"not a valid address: {display_url(url)}")


def checked_entry(entry: dict[str, Any], list_url: str) -> str:
    """The address of an entry of the list at ``list_url``. Raises SourceError."""
    address = entry_name(entry)
    if not is_web_address(address.partition(_SMUGGLED)[0]):
        raise SourceError(
            f"the list {display_url(list_url)} names {display_url(address)}, "
            "which is no web address",
            hint="a list from the web may name http:// and https:// addresses only, and no files",
        )
    return address


def entry_name(entry: dict[str, Any]) -> str:
    """What an entry says that it is, whatever that may be; empty where it says nothing."""
    formats = entry.get("formats") or ()
    own = entry.get("url") or (formats[-1].get("url") if formats else None)
    # The entries of some formats have their files with them, and the list's own address.
    whole = entry.get("webpage_url")
    if entry.get("_type", "video") == "video" and own:
        whole = own
    return str(whole or own or "").strip()
