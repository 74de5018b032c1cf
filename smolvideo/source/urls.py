"""Addresses made fit to be shown, and the name that was probably meant."""

import os
import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

from smolvideo.credentials import redact, without_credentials
from smolvideo.sanitize import display_path

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


def display_url(url: str) -> str:
    """An address in backticks, for messages, without the credentials it may carry."""
    return display_path(without_credentials(url))


def public_name(given: str) -> str:
    """A source as it was typed, an address without the credentials it may carry.

    So is what was meant as one: ``http:/me:secret@host``, ``www.host/?token=secret``.
    """
    if scheme_of(given) not in (None, "file"):
        return without_credentials(given)
    meant = any(mark in given for mark in ":?@") and not os.path.lexists(given.replace("\0", ""))
    return redact(given) if meant else given


def scheme_of(given: str) -> str | None:
    """``https`` of ``HTTPS://…``; None for a path."""
    match = _SCHEME.match(given.strip())
    return match[1].lower() if match else None


def closest_match(wanted: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant: equal but for case or Unicode form, else the most alike."""
    by_plain_form = {_plain_form(name): name for name in sorted(names, reverse=True)}
    matches = get_close_matches(_plain_form(wanted), by_plain_form, n=1, cutoff=0.7)
    return by_plain_form[matches[0]] if matches else None


def _plain_form(name: str) -> str:
    # macOS stores decomposed letters, keyboards type composed ones: they look the same.
    return unicodedata.normalize("NFKC", name).casefold()
