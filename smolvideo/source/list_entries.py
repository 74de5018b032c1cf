"""Validation of playlist entries: only absolute http(s) URLs.

``file:`` and all other schemes, paths of any system, and names that resemble paths are refused.
Relative URLs are refused, too: in formats that have them (XSPF, HTML, HLS), yt-dlp has resolved
them against the URL of the list, and RSS, whose entries are passed on as they are, requires
absolute URLs (https://www.rssboard.org/rss-specification#ltenclosuregtSubelementOfLtitemgt).
"""

from typing import Any

from smolvideo.errors import SourceError
from smolvideo.source.address_scope import is_web_address
from smolvideo.source.urls import display_url

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
