"""URLs redacted for display, and suggestions for mistyped names."""

import os
import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

from smolvideo.credentials import redact, without_credentials
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
