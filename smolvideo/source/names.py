"""Addresses made fit to be shown, and the name that was probably meant."""

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from urllib.parse import urlsplit, urlunsplit

from smolvideo.safe_text import show_path


def show_url(url: str) -> str:
    """An address in backticks, for messages, without the user name and password it may carry."""
    return show_path(without_login(url))


def without_login(url: str) -> str:
    """``https://name:secret@host/x`` → ``https://host/x``."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def similar_name(wanted: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant: equal but for case or Unicode form, else the most alike."""
    by_plain_form = {_plain_form(name): name for name in sorted(names, reverse=True)}
    matches = get_close_matches(_plain_form(wanted), by_plain_form, n=1, cutoff=0.7)
    return by_plain_form[matches[0]] if matches else None


def _plain_form(name: str) -> str:
    # macOS stores decomposed letters, keyboards type composed ones: they look the same.
    return unicodedata.normalize("NFKC", name).casefold()
